"""Runs -> the table that people read."""

from __future__ import annotations

import datetime as dt
import platform
from collections.abc import Sequence
from importlib.metadata import version

from batchbench.accounting import TableCounts
from tests.faults.runner import Run
from tests.fixtures.servers import server_header

_HEADER = (
    "fault",
    "runs",
    "rows in",
    "committed",
    "duplicates",
    "rejected",
    "skipped",
    "unwritten",
    "unknown",
    "lost",
    "doubled",
    "slowest run",
)


def broken(run: Run) -> bool:
    """Whether a run broke a promise."""
    verdict = run.tally.verdict
    return bool(verdict.lost or verdict.doubled or verdict.problems)


def _row(name: str, runs: Sequence[Run]) -> list[str]:
    results = [run.tally.result for run in runs if run.tally.result is not None]
    total = sum((result.total for result in results), TableCounts())
    return [
        name,
        str(len(runs)),
        *(
            f"{count:,}"
            for count in (
                total.read,
                total.committed,
                total.duplicates,
                total.rejected,
                total.skipped_by_server,
                total.unwritten,
                total.unknown,
                sum(run.tally.verdict.lost for run in runs),
                sum(run.tally.verdict.doubled for run in runs),
            )
        ),
        f"{max(run.tally.seconds for run in runs):.1f} s",
    ]


def table(runs: Sequence[Run]) -> str:
    """The runs by fault, as a Markdown table that also reads well as text."""
    by_case: dict[str, list[Run]] = {}
    for run in runs:
        by_case.setdefault(run.case.name, []).append(run)
    rows = [_row(name, of_case) for name, of_case in by_case.items()]
    rows.append(_row("all", runs))
    widths = [max(len(row[i]) for row in [list(_HEADER), *rows]) for i in range(len(_HEADER))]
    lines = [_line(_HEADER, widths), _rule(widths)]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = cells
    padded = [
        name.ljust(widths[0]),
        *(n.rjust(w) for n, w in zip(numbers, widths[1:], strict=True)),
    ]
    return f"| {' | '.join(padded)} |"


def _rule(widths: Sequence[int]) -> str:
    return (
        "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    )


def evidence(words: str, seeds: Sequence[int]) -> str:
    """The table as a dated page."""
    now = dt.datetime.now(dt.UTC)
    return "\n".join(
        [
            f"# Fault tests, {now:%Y-%m-%d %H:%M} UTC",
            "",
            f"`make test-faults SEEDS={','.join(map(str, seeds))}`; Python"
            f" {platform.python_version()}, asyncpg {version('asyncpg')}, psycopg"
            f" {version('psycopg')}; {server_header()}. Each run's table was read back with a"
            " connection of the test's own.",
            "",
            words,
            "",
        ]
    )


def totals(runs: Sequence[Run], seconds: float) -> str:
    """What the table does not say."""
    lost = [run for run in runs if run.tally.lost_commit and not run.setup.keyed]
    killed = [run for run in lost if run.tally.killed]
    by_status = [run for run in killed if run.setup.exactly_once == "status"]
    at_kill = [f"{run.tally.rows_at_kill:,}" for run in runs if run.tally.rows_at_kill is not None]
    return "\n".join(
        [
            f"{sum(run.tally.loads for run in runs)} loads in {len(runs)} runs, {seconds:.0f} s;"
            f" {sum(map(broken, runs))} runs broke a promise",
            f"lost COMMIT on a table without a unique key: {len(lost)}; of these with a kill -9 of"
            f" the server between COMMIT and its answer: {len(killed)}, by status {len(by_status)}",
            f"transaction ids that the server handed out again:"
            f" {sum(run.tally.ids_reused for run in runs)}",
            f"rows in the table when a client was killed: {', '.join(at_kill) or '-'}",
            *sorted({remark for run in runs for remark in run.tally.remarks}),
        ]
    )
