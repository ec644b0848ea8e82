"""What a run leaves open, each with the command that would decide it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchbench.recommend import ENOUGH, TARGET
from batchbench.report.current import current_way
from batchbench.report.figures import UNKNOWN, number, plural
from batchbench.report.first import Evidence
from batchbench.report.groups import Group, group_of
from batchbench.report.model import Undecided
from batchbench.report.pairs import difference
from batchbench.report.repeating import Setting, confirming_command, deciding_command, setting_of
from batchbench.results import P99_CHUNKS, RunInfo
from batchbench.stats import FEWEST_PAIRS

_LEAST_S = 60.0
_OVERHEAD = 2.0  # of warm-ups, epochs and sustained loads, over the pairs themselves

_WORTH = 1 - ENOUGH
"""A difference that is worth deciding: what a recommendation gives away for a smaller chunk."""


def undecided(evidence: Evidence) -> tuple[Undecided, ...]:
    """In the order in which they matter."""
    return (
        *_unmeasured(evidence),
        *_unconfirmed(evidence),
        *_ties(evidence),
        *_edges(evidence),
        *_tails(evidence),
    )


def _repeats(evidence: Evidence) -> int:
    found = evidence.noise
    return 4 * FEWEST_PAIRS if found is None else found.pairs_for(_WORTH)


def _unconfirmed(evidence: Evidence) -> Iterator[Undecided]:
    """Whether the choice holds in a fresh run; of a longer one, how long it takes."""
    run, advice = evidence.run, evidence.advice
    if not advice.provisional or not advice.chosen or run.info.is_imported:
        return
    undecided = [verdict for verdict in advice.verdicts if not verdict.confirmed]
    folder, budget_s = run.folder, None
    if any(verdict.bound is not None for verdict in undecided):
        needs = [verdict.more_s for verdict in undecided]
        if None in needs:  # the estimate itself is too low
            folder = run.confirmations[-1].folder
        else:
            budget_s = max(_LEAST_S, _OVERHEAD * max(need or 0.0 for need in needs))
    yield Undecided(
        f"Does the choice surely reach {TARGET:g} of the best?",
        f"Provisional: {advice.doubt}.",
        confirming_command(run, folder, budget_s),
    )


def _unmeasured(evidence: Evidence) -> Iterator[Undecided]:
    """The gain, where the current settings did not run."""
    settings = evidence.settings
    if settings is None:
        return
    for table in evidence.tables:
        chosen = evidence.chosen(table)
        if chosen is not None and evidence.current(table) is None:
            yield Undecided(
                f"{table}: what is gained over the current settings?",
                "The current settings were not among the trials.",
                deciding_command(
                    evidence.run.info,
                    [
                        setting_of(chosen),
                        Setting(table, current_way(settings), settings.chunk_size(table)),
                    ],
                    _repeats(evidence),
                ),
            )


def _ties(evidence: Evidence) -> Iterator[Undecided]:
    """What cannot be told apart from the recommendation."""
    for table in evidence.tables:
        chosen = evidence.chosen(table)
        if chosen is None:
            continue
        open_ones = [group for group in _near(evidence, table) if _cannot_tell(group, chosen)]
        if open_ones:
            first = open_ones[0]
            others = f" (and {len(open_ones) - 1} more)" if len(open_ones) > 1 else ""
            found = difference(first, chosen)
            text = found.text if found else UNKNOWN
            yield Undecided(
                f"{table}: is {chosen.name} really no slower than {first.name}{others}?",
                f"The latter against the former: {text}.",
                deciding_command(
                    evidence.run.info,
                    map(setting_of, [chosen, *open_ones[:3]]),
                    _repeats(evidence),
                ),
            )


def _near(evidence: Evidence, table: str) -> Iterator[Group]:
    """What could be as fast as the best: by estimate within twice of what would be given away."""
    for row in evidence.ranking:
        if row.table == table and row.ratio is not None and row.ratio >= 2 * ENOUGH - 1:
            yield group_of(evidence.groups, row)


def _cannot_tell(group: Group, chosen: Group) -> bool:
    if group == chosen:
        return False
    found = difference(group, chosen)
    return found is None or found.symbol == UNKNOWN


def _edges(evidence: Evidence) -> Iterator[Undecided]:
    """Whether it goes on past the last value that was tried."""
    info = evidence.run.info
    for table in evidence.tables:
        chosen = evidence.chosen(table)
        if chosen is None or chosen.chunk_rows is None:
            continue
        plug = [g for g in evidence.of_table(table) if g.plug == chosen.plug]
        rows = _numbers(g.chunk_rows for g in plug if g.way == chosen.way)
        if len(rows) > 1 and chosen.chunk_rows == rows[-1] and max(chosen.chunk_sizes) == rows[-1]:
            sizes = [factor * max(chosen.chunk_sizes) for factor in (1, 2, 4)]
            yield Undecided(
                f"{table}: are chunks of more than {chosen.chunk_rows:,} rows faster still?",
                "The largest chunk that was tried is the recommended one.",
                deciding_command(
                    info,
                    [Setting(table, chosen.way, size) for size in sizes],
                    _repeats(evidence),
                    _rows_for(info, sizes[-1] * chosen.way.parallelism),
                ),
            )


def _rows_for(info: RunInfo, rows_at_once: int) -> int | None:
    """More rows, where a load would else be over before all writers had a whole chunk."""
    rows = info.plan.get("rows")
    enough = not isinstance(rows, int) or rows >= 2 * rows_at_once
    return None if enough else 2 * rows_at_once


def _numbers(values: Iterable[int | None]) -> list[int]:
    return sorted({value for value in values if value is not None})


def _tails(evidence: Evidence) -> Iterator[Undecided]:
    """The p99, where there were too few chunks for one."""
    few = [
        chosen
        for table in evidence.tables
        if (chosen := evidence.chosen(table)) and chosen.chunk_rows and not _has_p99(chosen)
    ]
    if not few:
        return
    rows = P99_CHUNKS * max(group.chunk_rows or 1 for group in few)
    most = max(record.chunks for group in few for record in group.good)
    yield Undecided(
        "What is the p99 of a chunk?",
        f"Trials had {plural(most, 'chunk')} at most, a p99 needs {number(P99_CHUNKS)}.",
        deciding_command(evidence.run.info, map(setting_of, few), FEWEST_PAIRS, rows),
    )


def _has_p99(group: Group) -> bool:
    return group.tail is not None and group.tail[0] == "p99"
