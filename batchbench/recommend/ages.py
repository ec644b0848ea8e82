"""The flush age of a Writer that keeps a latency target. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from batchbench.results import P99_CHUNKS, KeepingUp


@dataclass(frozen=True, slots=True)
class FlushAge:
    """What to set for one table. chosen: None where no age is surely under the target; reason: one
    sentence, with the doubt.
    """

    table: str
    rtt_ms: float
    target_p99_ms: float
    chosen: KeepingUp | None
    reason: str


def flush_ages(rows: Sequence[KeepingUp], target_p99_ms: float) -> tuple[FlushAge, ...]:
    """For each table and round trip the longest age, which makes the fewest and largest flushes,
    that keeps up and whose p99 is under the target at the upper end of its 95 % interval too.

    rows: of `keeping_up`, of a run with flush ages.
    """
    ordered = sorted(rows, key=_place)
    return tuple(
        _flush_age(list(group), target_p99_ms) for _, group in groupby(ordered, key=_place)
    )


def _place(row: KeepingUp) -> tuple[str, float]:
    return row.table, row.rtt_ms


def _flush_age(rows: list[KeepingUp], target_ms: float) -> FlushAge:
    told = [row for row in rows if row.sustained and row.p99_high_s is not None]
    sure = [row for row in told if _high_ms(row) < target_ms]
    # Of several ways with the same age the quickest.
    chosen = max(sure, key=lambda row: (row.max_wait_ms or 0.0, -_high_ms(row)), default=None)
    if chosen is None:
        reason = _none(rows, told, target_ms)
    else:
        way = f" by {_way(chosen)}" if len({_way(row) for row in rows}) > 1 else ""
        reason = _why(chosen, way, told, target_ms)
    return FlushAge(rows[0].table, rows[0].rtt_ms, target_ms, chosen, reason)


def _way(row: KeepingUp) -> str:
    return f"{row.strategy} {row.driver} {row.chunk_rows or 0:,} x {row.parallelism}"


def _why(chosen: KeepingUp, way: str, told: list[KeepingUp], target_ms: float) -> str:
    age_ms = chosen.max_wait_ms or 0.0
    perhaps = max(
        (row for row in told if _p99_ms(row) < target_ms and (row.max_wait_ms or 0.0) > age_ms),
        key=lambda row: row.max_wait_ms or 0.0,
        default=None,
    )
    said = (
        f"the longest age measured that is surely under {target_ms:g} ms: {_figures(chosen)}{way}"
    )
    if perhaps is None:
        return said
    return f"{said}; perhaps under it: {_figures(perhaps)}, which more --repeats would decide"


def _none(rows: list[KeepingUp], told: list[KeepingUp], target_ms: float) -> str:
    if not any(row.sustained for row in rows):
        rate = rows[0].offered_rows_per_s
        return f"none, since no age is known to keep up with {rate:,.0f} rows/s"
    if not told:
        most = max(row.tickets for row in rows)
        return (
            f"none, since {most:,} tickets are too few to tell a p99 and its doubt: take more"
            f" --rows or --repeats ({P99_CHUNKS} tickets are the least)"
        )
    lowest = min(told, key=_p99_ms)
    word = "none is surely" if _p99_ms(lowest) < target_ms else "none is"
    return f"{word} under {target_ms:g} ms; the lowest: {_figures(lowest)}"


def _figures(row: KeepingUp) -> str:
    low_ms = (row.p99_low_s or 0.0) * 1e3
    return (
        f"{row.max_wait_ms:g} ms, p99 {_p99_ms(row):.1f} ms"
        f" (95 % interval {low_ms:.1f}-{_high_ms(row):.1f})"
    )


def _p99_ms(row: KeepingUp) -> float:
    return (row.p99_s or 0.0) * 1e3


def _high_ms(row: KeepingUp) -> float:
    return (row.p99_high_s or 0.0) * 1e3
