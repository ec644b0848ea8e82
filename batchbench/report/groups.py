"""The trials of a run, grouped into what was compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean, median, stdev

from batchbench.recommend import RankingRow, Way
from batchbench.report.figures import number, plural, with_spread
from batchbench.results import Run, TrialRecord

Block = tuple[int, int]
"""Epoch and number of a block: trials of one block ran next to each other."""

_SHORTEST_INTERVAL = 6
"""Of fewer trials, smallest to largest holds the median in less than 95% of the cases."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A median; low, high: what holds it with 95%, or smallest and largest of few trials."""

    middle: float
    low: float
    high: float
    exact: bool
    count: int

    @property
    def words(self) -> str:
        """What low and high are."""
        if self.count == 1:
            return "one trial, no spread"
        kind = "95% interval of the median" if self.exact else "smallest to largest"
        return f"{number(self.low)} to {number(self.high)}, {kind} of {self.count} trials"


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Source of the interval: order statistics, by the binomial distribution of ranks."""
    known = sorted(value for value in values if value is not None)
    if not known:
        return None
    count = len(known)
    drop = 0
    while _left_out(count, drop + 1) <= 0.05:
        drop += 1
    exact = count >= _SHORTEST_INTERVAL
    return Spread(median(known), known[drop], known[count - 1 - drop], exact, count)


@cache
def _left_out(count: int, drop: int) -> float:
    """How often the median lies outside of what is left after dropping so many at each end."""
    if 2 * drop >= count:
        return 1.0
    return 2 * sum(math.comb(count, rank) for rank in range(drop + 1)) / float(2**count)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The trials of one configuration of one table, as `RankingRow` counts them."""

    table: str
    way: Way
    chunk_rows: int | None
    chunk_sizes: tuple[int, ...]
    records: tuple[TrialRecord, ...]

    @property
    def good(self) -> tuple[TrialRecord, ...]:
        """The trials that ended well."""
        return tuple(record for record in self.records if record.usable)

    @property
    def usable(self) -> bool:
        """Whether every trial ended well: else it is not compared."""
        return bool(self.records) and len(self.good) == len(self.records)

    @property
    def name(self) -> str:
        """As people say it."""
        rows = "chunk size unknown" if self.chunk_rows is None else f"chunks of {self.chunk_rows:,}"
        return f"{self.way}, {rows}"

    @property
    def plug(self) -> tuple[str, str]:
        """Strategy and driver."""
        return self.way.plug

    @property
    def speed(self) -> Spread | None:
        """Rows a second."""
        return self.spread(lambda record: record.rows_per_s)

    @property
    def speed_text(self) -> str:
        """Median ± standard deviation, in rows a second."""
        speeds = [record.rows_per_s for record in self.good if record.rows_per_s]
        if not speeds:
            return "failed"
        return with_spread(median(speeds), stdev(speeds) if len(speeds) > 1 else None)

    def spread(self, of: Callable[[TrialRecord], float | None]) -> Spread | None:
        """Of any figure of a record, over the good trials."""
        return spread_of(of(record) for record in self.good)

    def logs(self) -> dict[Block, float]:
        """Mean log speed in every block."""
        return mean_logs(self.good)

    @property
    def tail(self) -> tuple[str, float] | None:
        """ "p99" and its median in seconds; the slowest chunk where there are too few for that."""
        p99 = self.spread(lambda record: record.p99_s)
        if p99 is not None:
            return "p99", p99.middle
        slowest = max((r.max_s for r in self.good if r.max_s is not None), default=None)
        return None if slowest is None else ("slowest chunk", slowest)


def block_of(record: TrialRecord) -> Block:
    """Where a trial ran."""
    return record.epoch, record.block


def mean_logs(records: Iterable[TrialRecord]) -> dict[Block, float]:
    """Mean log speed of these records, in every block that has any."""
    found: dict[Block, list[float]] = {}
    for record in records:
        if record.rows_per_s:
            found.setdefault(block_of(record), []).append(math.log(record.rows_per_s))
    return {block: fmean(values) for block, values in found.items()}


def group_trials(run: Run) -> tuple[Group, ...]:
    """In the order of their first trials."""
    found: dict[tuple[str, Way, int | None], list[TrialRecord]] = {}
    for record in run.trials:
        way = Way.of(record)
        found.setdefault((record.table, way, record.chunk_rows), []).append(record)
    return tuple(
        Group(table, way, rows, tuple(sorted({r.chunk_size for r in records})), tuple(records))
        for (table, way, rows), records in found.items()
    )


def group_of(groups: Iterable[Group], row: RankingRow) -> Group:
    """The trials behind a row of the ranking."""
    return next(
        group
        for group in groups
        if (group.table, group.way, group.chunk_rows) == (row.table, row.way, row.chunk_rows)
    )


def failures(groups: Sequence[Group]) -> str:
    """One sentence on configurations that failed, "" where none did."""
    bad = [group for group in groups if not group.usable]
    if not bad:
        return ""
    first = bad[0]
    reason = next((r.reason for r in first.records if r.reason), "its rows were not found")
    return f"{plural(len(bad), 'configuration')} failed, first {first.name}: {reason}"
