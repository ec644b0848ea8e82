"""What the trials of an open loop say: who keeps up with which rate, and what rows wait for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from batchbench.results.records import P99_CHUNKS, Run, TrialRecord
from batchbench.stats import Histogram, quantile_interval

_FEWEST_CHUNKS = 8
"""Of a trial; fewer do not show whether waits grow."""

MOST_GROWTH = 0.05
"""Seconds by which waits may grow a second before a load counts as falling behind: a load that is
5 % too slow for its rows falls behind by that."""

_PIECE_S = 0.25
"""Of time, the least of what the doubt of a p99 takes for one piece."""

LATE_S = 0.005
"""A batch that is taken so soon after its last row came is in time: clocks and threads need it."""


@dataclass(frozen=True, slots=True)
class KeepingUp:
    """How one configuration fared with rows that arrive at a rate.

    offered_rows_per_s: the rate. rows_per_s: that it wrote, median of its trials; None where all
    failed. p50_s, p95_s, p99_s, max_s: from the scheduled arrival of a chunk's first row to its
    commit, over the chunks of all trials; p99_s is None under 500 chunks.
    max_wait_ms: where the rows went through a Writer, the age at which it flushed; then waits are
    of its `tickets`, each of `payload_rows` from its scheduled arrival. p99_low_s, p99_high_s: the
    95 % interval of p99_s, None where the run is too short for one. flush_rows: rows of a flush,
    median of the trials.
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
    max_wait_ms: float | None = None
    payload_rows: int | None = None
    tickets: int = 0
    p99_low_s: float | None = None
    p99_high_s: float | None = None
    flush_rows: float | None = None

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
    """Every configuration of an open loop, by table; who keeps up comes first, then by median wait.
    Flush ages come in their order, for each round trip. () of a closed loop.
    """
    found: dict[tuple[object, ...], list[TrialRecord]] = {}
    for record in run.trials:
        if record.arrival_rows_per_s is not None:
            key = (record.table, record.strategy, record.driver, record.parallelism)
            chunk = record.chunk_rows or record.chunk_size
            found.setdefault((*key, chunk, record.rtt_ms, record.max_wait_ms), []).append(record)
    tables = list(dict.fromkeys(record.table for record in run.trials))
    rows = [_summary(records) for records in found.values()]
    return tuple(sorted(rows, key=lambda row: (tables.index(row.table), *_order(row))))


def _order(row: KeepingUp) -> tuple[float, float, bool, float, float]:
    written = row.rows_per_s or 0.0
    wait_s = row.p50_s if row.sustained and row.p50_s else 0.0
    age_ms = row.max_wait_ms or 0.0
    return row.rtt_ms if age_ms else 0.0, age_ms, not row.sustained, wait_s, -written


def _summary(records: Sequence[TrialRecord]) -> KeepingUp:
    first = records[0]
    good = [record for record in records if record.usable]
    bad = [record for record in records if not record.usable]
    waits = sorted(s for record in good for s in record.arrival_seconds)
    behind = [s for record in good for s in record.behind_seconds]
    speeds = [record.rows_per_s for record in good if record.rows_per_s]
    growths = [share for record in good if (share := growth(record)) is not None]
    p99_s = _quantile(waits, 0.99) if len(waits) >= P99_CHUNKS else None
    tail = _tail(good, p99_s) if first.max_wait_ms is not None and p99_s is not None else None
    flushes = [record.rows / record.chunks for record in good if record.chunks]
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
        p99_s=p99_s,
        max_s=waits[-1] if waits else None,
        late_share=sum(s > LATE_S for s in behind) / len(behind) if behind else None,
        skipped_rows=sum(skipped_rows(record) for record in records),
        most_backlog_rows=max((most_backlog_rows(record) for record in good), default=0),
        growth=median(growths) if growths else None,
        failed=len(bad),
        reason=(bad[0].reason or "its rows were not found in the table") if bad else None,
        max_wait_ms=first.max_wait_ms,
        payload_rows=first.payload_rows,
        tickets=0 if first.max_wait_ms is None else len(waits),
        p99_low_s=None if tail is None else tail[0],
        p99_high_s=None if tail is None else tail[1],
        flush_rows=median(flushes) if flushes and first.max_wait_ms is not None else None,
    )


def _tail(records: Sequence[TrialRecord], p99_s: float) -> tuple[float, float] | None:
    """The 95 % interval of the p99 of all tickets, with what rounding to 1 % leaves out."""
    pieces = [piece for record in records for piece in _pieces(record)]
    found = quantile_interval(pieces, 0.99)
    return None if found is None else (min(p99_s, found[0]), max(p99_s, found[1]))


def _pieces(record: TrialRecord) -> Iterator[Histogram]:
    """Its tickets by time of arrival, in pieces that are long beside the flush age."""
    age_s, rate = (record.max_wait_ms or 0.0) / 1e3, record.arrival_rows_per_s or 1.0
    count = max(1, int(record.rows / rate / max(_PIECE_S, 2 * age_s)))
    for waits in np.array_split(np.array(record.arrival_seconds), count):
        piece = Histogram()
        piece.add(waits)
        yield piece


def skipped_rows(record: TrialRecord) -> int:
    """Rows of an open loop that were to arrive and were not found in the table."""
    return max(0, record.rows - (record.rows_verified or 0))


def growth(record: TrialRecord) -> float | None:
    """By how many seconds waits grew a second: between the second and the last quarter of the
    chunks, so that how a load begins does not count. None of under 8 chunks, and where waits seem
    to grow, but by less than the time in which one chunk arrives, or than the age of a flush: so
    few chunks cannot tell.
    """
    waits, rate = record.arrival_seconds, record.arrival_rows_per_s
    if len(waits) < _FEWEST_CHUNKS or not rate:
        return None
    quarter = len(waits) // 4
    later, earlier = median(waits[-quarter:]), median(waits[quarter : 2 * quarter])
    apart = len(waits) - 2 * quarter  # chunks between the middles of the two
    chunk_s = record.rows / len(waits) / rate
    grown = (later - earlier) / (apart * chunk_s)
    unsure_s = max(chunk_s, (record.max_wait_ms or 0.0) / 1e3)
    return None if grown > MOST_GROWTH and later - earlier < unsure_s else grown


def most_backlog_rows(record: TrialRecord) -> int:
    """Rows that had arrived and were not committed, at most; as chunks were committed. A payload
    for a Writer arrives whole.
    """
    rate, payload = record.arrival_rows_per_s, record.payload_rows
    chunk = payload or record.chunk_rows
    if not rate or not chunk:
        return 0
    commits = sorted(_commits(record.arrival_seconds, record.rows, chunk, rate))
    written = most = 0
    for at_s, rows in commits:  # the backlog is largest just before each
        arrived = int(at_s * rate)
        if payload:
            arrived = (arrived // payload + 1) * payload
        most = max(most, min(record.rows, arrived) - written)
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
