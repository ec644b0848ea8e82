"""What people and machines get to see: the terminal, bench.json, bench.md."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.long import LongResult
from benchmarks.results import CaseResult, WayResult
from benchmarks.wanted import Wanted

_VERSION = 1
_COLUMNS = (
    "way",
    "rows",
    "transaction",
    "rows/s",
    "CPU, us a row",
    "of the limit",
    "ours is x as fast",
)
_NOTE = (
    "Ratios are in rows per second against the limit (the server's own COPY FROM a binary file) at"
    " as many writers: the median of ratios paired by round, and the smallest and largest. Every"
    " load starts from the same table, after a CHECKPOINT, and includes connecting; the rows that"
    " landed are checked by count and checksum. Slow ways get fewer rows. All ways run under the"
    " server's own settings, with synchronous_commit and fsync on; batchbench with durability=full"
    " and, unless its line says ledger, exactly_once=off: no peer finds out what became of a COMMIT"
    " whose answer was lost. In one transaction a bad row stops batchbench as it stops the peers;"
    " by chunks it is left out and recorded. The last column is batchbench's first line of the"
    " case with the peer's transaction boundary (one, or one a chunk) against that peer. CPU is the"
    " client's and all of the server's processes'; where their sum fills the cores, no client is"
    " faster."
)


@dataclass(frozen=True, slots=True)
class Report:
    """A run of the benchmark."""

    command: str
    environment: Mapping[str, Any]
    repeats: int
    seconds: float
    cases: Sequence[CaseResult]
    ten_thousand_s: float | None
    long: LongResult | None
    wanted: Sequence[Wanted]

    def write(self, folder: Path) -> None:
        """bench.json and bench.md."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._record(), indent=1, ensure_ascii=False)
        (folder / "bench.json").write_text(text + "\n", encoding="utf-8")
        (folder / "bench.md").write_text("\n".join(self._markdown()) + "\n", encoding="utf-8")

    def show(self, console: Console) -> None:
        """The tables, for people."""
        table = Table(title=f"Loads, {self.repeats} interleaved rounds", caption=_NOTE)
        for position, name in enumerate(_COLUMNS):
            table.add_column(name, justify="left" if position in (0, 2) else "right")
        for case in self.cases:
            table.add_section()
            table.add_row(f"[bold]{case.title}[/bold]", *[""] * (len(_COLUMNS) - 1))
            for cells in _rows(case):
                table.add_row("  " + cells[0], *cells[1:])
        console.print(table)
        judged = [line for line in self.wanted if line.met is not None]
        left = len(self.wanted) - len(judged)
        caption = f"{left} more need another case, or `make bench-full`." if left else None
        goal = Table(title="What must be reached", caption=caption)
        for name in ("what", "reached", "wanted", ""):
            goal.add_column(name)
        for line in judged:
            goal.add_row(*_goal_cells(line), style="green" if line.met else "red")
        console.print(goal)

    def _record(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "command": self.command,
            "seconds": round(self.seconds, 1),
            "repeats": self.repeats,
            "environment": dict(self.environment),
            "cases": [_case_record(case) for case in self.cases],
            "ten_thousand_s": self.ten_thousand_s,
            "long": None if self.long is None else asdict(self.long),
            "wanted": [{**asdict(line), "met": line.met} for line in self.wanted],
        }

    def _markdown(self) -> Iterator[str]:
        there = self.environment
        yield "# Loading, compared"
        yield ""
        yield (
            f"`{self.command}`, {there['date']}, {there['cpu_count']} x {there['cpu']},"
            f" PostgreSQL {there['server']}, Python {there['python']}, revision"
            f" {there['revision']}; {self.repeats} rounds, {self.seconds:.0f} s."
        )
        yield ""
        yield _NOTE
        for case in self.cases:
            yield from ("", f"## {case.title}", "", f"{case.row_count:,} rows of")
            yield f"{case.column_count} columns."
            yield from ("", *_markdown_table(_COLUMNS, _rows(case)))
            for name, reason in {**case.skipped, **case.failures}.items():
                yield f"- {name}: {reason}"
        yield from ("", "## What must be reached", "")
        yield from _markdown_table(
            ("what", "reached", "wanted", ""), [_goal_cells(line) for line in self.wanted]
        )
        yield from ("", "## Versions", "")
        known = {**there["packages"], **there["programs"]}
        yield ", ".join(f"{name} {version}" for name, version in known.items())


def _rows(case: CaseResult) -> Iterator[tuple[str, ...]]:
    for way in case.ways:
        rows = f"{way.row_count:,}"
        if not way.usable:
            yield way.name, rows, way.transaction, "FAILED", "", "", ""
            continue
        limit = case.limit(way.writers)
        against_limit = "1.00" if way.kind == "limit" else str(way.over(limit)) if limit else ""
        ours = case.ours_beside(way) if way.kind == "peer" else None
        against_ours = str(ours.over(way)) if ours else ""
        speed = f"{way.rows_per_s:,.0f}"
        yield way.name, rows, way.transaction, speed, _cpu(way), against_limit, against_ours


def _cpu(way: WayResult) -> str:
    """Client + server."""
    return "" if way.cpu_us is None else " + ".join(f"{us:.2f}" for us in way.cpu_us)


def _goal_cells(line: Wanted) -> tuple[str, str, str, str]:
    verdict = {True: "yes", False: "NO", None: "not measured"}[line.met]
    wanted = f"{'at most' if line.at_most else 'at least'} {line.wanted:g}"
    shown = f"{line.shown}  {line.detail}" if line.detail else line.shown
    return line.what, shown, wanted, verdict


def _markdown_table(names: Sequence[str], rows: Any) -> Iterator[str]:
    yield "| " + " | ".join(names) + " |"
    yield "|" + "---|" * len(names)
    for cells in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _case_record(case: CaseResult) -> dict[str, Any]:
    return {
        "name": case.name,
        "title": case.title,
        "row_count": case.row_count,
        "column_count": case.column_count,
        "skipped": dict(case.skipped),
        "ways": [_way_record(case, way) for way in case.ways],
    }


def _way_record(case: CaseResult, way: WayResult) -> dict[str, Any]:
    limit = case.limit(way.writers)
    ours = case.ours_beside(way) if way.kind == "peer" else None
    record = asdict(way)
    record["rows_per_s"] = round(way.rows_per_s) if way.usable else None
    record["of_limit"] = asdict(way.over(limit)) if way.usable and limit else None
    record["ours_over_it"] = asdict(ours.over(way)) if way.usable and ours else None
    record["ours"] = ours.name if ours else None
    return record
