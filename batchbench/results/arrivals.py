"""What the trials of an open loop say: who keeps up with which rate, and what rows wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from batchbench.results.records import P99_CHUNKS, Run, TrialRecord

_FEWEST_CHUNKS = 8
"""Of a trial; fewer do not show whether waits grow."""

MOST_GROWTH = 0.05
"""Seconds by which waits may grow a second before a load counts as falling behind: a load that is
5 % too slow for its rows falls behind by that."""

LATE_S = 0.005
"""A batch that is taken so soon after its last row came is in time: clocks and threads need it."""


@dataclass(frozen=True, slots=True)
class KeepingUp:
    """How one configuration fared with rows that arrive at a rate.

    offered_rows_per_s: the rate. rows_per_s: that it wrote, median of its trials; None where all
    failed. p50_s, p95_s, p99_s, max_s: from the scheduled arrival of a chunk's first row to its
    commit, over the chunks of all trials; p99_s is None under 500 chunks.
    late_share: of batches that the load could not take when they were there. skipped_rows: that
    were never written, over all trials. most_backlog_rows: that had arrived and were not
    committed, at most. growth: by how many seconds waits grew a second, median of the trials; None
    of too few chunks. failed: trials, with the first reason.
    """

    table: str
    strategy: str
    driver: str
    parallelism: int
    chunk_rows: int | None
    rtt_ms: float
    offered_rows_per_s: float
    trials: int
    rows_per_s: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None
    max_s: float | None
    late_share: float | None
    skipped_rows: int
    most_backlog_rows: int
    growth: float | None
    failed: int
    reason: str | None

    @property
    def sustained(self) -> bool | None:
        """Whether it kept up; None where its chunks were too few to tell."""
        if self.failed or self.skipped_rows:
            return False
        return None if self.growth is None else self.growth <= MOST_GROWTH

    @property
    def highest_rows_per_s(self) -> float | None:
        """The highest rate that it is known to sustain: what it was offered and kept up with, or
        what it wrote while more was offered. None where that is not known.
        """
        return self.offered_rows_per_s if self.sustained else self.rows_per_s


def keeping_up(run: Run) -> tuple[KeepingUp, ...]:
    """Every configuration of an open loop, by table; who keeps up comes first, then by median
    wait. () of a closed loop.
    """
    found: dict[tuple[object, ...], list[TrialRecord]] = {}
    for record in run.trials:
        if record.arrival_rows_per_s is not None:
            key = (record.table, record.strategy, record.driver, record.parallelism)
            chunk = record.chunk_rows or record.chunk_size
            found.setdefault((*key, chunk, record.rtt_ms), []).append(record)
    tables = list(dict.fromkeys(record.table for record in run.trials))
    rows = [_summary(records) for records in found.values()]
    return tuple(sorted(rows, key=lambda row: (tables.index(row.table), *_order(row))))


def _order(row: KeepingUp) -> tuple[bool, float, float]:
    written = row.rows_per_s or 0.0
    return not row.sustained, row.p50_s if row.sustained and row.p50_s else 0.0, -written


def _summary(records: Sequence[TrialRecord]) -> KeepingUp:
    first = records[0]
    good = [record for record in records if record.usable]
    bad = [record for record in records if not record.usable]
    waits = sorted(s for record in good for s in record.arrival_seconds)
    behind = [s for record in good for s in record.behind_seconds]
    speeds = [record.rows_per_s for record in good if record.rows_per_s]
    growths = [share for record in good if (share := growth(record)) is not None]
    return KeepingUp(
        table=first.table,
        strategy=first.strategy,
        driver=first.driver,
        parallelism=first.parallelism,
        chunk_rows=next((r.chunk_rows for r in records if r.chunk_rows), None),
        rtt_ms=first.rtt_ms,
        offered_rows_per_s=first.arrival_rows_per_s or 0.0,
        trials=len(records),
        rows_per_s=median(speeds) if speeds else None,
        p50_s=_quantile(waits, 0.50),
        p95_s=_quantile(waits, 0.95),
        p99_s=_quantile(waits, 0.99) if len(waits) >= P99_CHUNKS else None,
        max_s=waits[-1] if waits else None,
        late_share=sum(s > LATE_S for s in behind) / len(behind) if behind else None,
        skipped_rows=sum(skipped_rows(record) for record in records),
        most_backlog_rows=max((most_backlog_rows(record) for record in good), default=0),
        growth=median(growths) if growths else None,
        failed=len(bad),
        reason=(bad[0].reason or "its rows were not found in the table") if bad else None,
    )


def skipped_rows(record: TrialRecord) -> int:
    """Rows of an open loop that were to arrive and were not found in the table."""
    return max(0, record.rows - (record.rows_verified or 0))


def growth(record: TrialRecord) -> float | None:
    """By how many seconds waits grew a second: between the second and the last quarter of the
    chunks, so that how a load begins does not count. None of under 8 chunks, and where waits seem
    to grow, but by less than the time in which one chunk arrives: so few chunks cannot tell.
    """
    waits, rate = record.arrival_seconds, record.arrival_rows_per_s
    if len(waits) < _FEWEST_CHUNKS or not rate:
        return None
    quarter = len(waits) // 4
    later, earlier = median(waits[-quarter:]), median(waits[quarter : 2 * quarter])
    apart = len(waits) - 2 * quarter  # chunks between the middles of the two
    chunk_s = record.rows / len(waits) / rate
    grown = (later - earlier) / (apart * chunk_s)
    return None if grown > MOST_GROWTH and later - earlier < chunk_s else grown


def most_backlog_rows(record: TrialRecord) -> int:
    """Rows that had arrived and were not committed, at most; as chunks were committed."""
    rate, chunk = record.arrival_rows_per_s, record.chunk_rows
    if not rate or not chunk:
        return 0
    commits = sorted(_commits(record.arrival_seconds, record.rows, chunk, rate))
    written = most = 0
    for at_s, rows in commits:  # the backlog is largest just before each
        most = max(most, min(record.rows, int(at_s * rate)) - written)
        written += rows
    return most


def _commits(
    waits: Iterable[float], rows: int, chunk: int, rate: float
) -> Iterable[tuple[float, int]]:
    for number, wait_s in enumerate(waits):
        first = number * chunk
        yield first / rate + wait_s, min(chunk, rows - first)


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that this share is not above."""
    if not ordered:
        return None
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
