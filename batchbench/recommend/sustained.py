"""One sustained load of each finalist, beside what short bursts said of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from batchbench.recommend.confirming import Finalist
from batchbench.recommend.ranking import Way
from batchbench.results import Run, TrialRecord

_SURELY = 1.96 * math.sqrt(2)
"""Standard deviations of one load by which two may differ by chance."""


@dataclass(frozen=True, slots=True)
class Sustained:
    """A finalist under one long load, VACUUM and CHECKPOINT in the clock.

    rows_per_s: over all of it; None where it failed, for `reason`. by_second: rows written in each
    second, the last one not whole. bursts: speeds of the fresh short trials.
    """

    finalist: Finalist
    rows_per_s: float | None
    by_second: tuple[int, ...]
    bursts: tuple[float, ...]
    reason: str | None
    run_id: str

    @property
    def lowest(self) -> int | None:
        """Rows of the slowest whole second; None where there were under two of them."""
        whole = self.by_second[:-1]
        return min(whole) if len(whole) > 1 else None

    @property
    def says(self) -> str:
        """Speed, and its lowest interval."""
        if self.rows_per_s is None:
            return f"the sustained load failed: {self.reason}"
        lowest = "" if self.lowest is None else f", {self.lowest:,} in its slowest second"
        return f"sustained, with VACUUM and CHECKPOINT: {self.rows_per_s:,.0f} rows/s{lowest}"


def sustained_loads(run: Run) -> tuple[Sustained, ...]:
    """Those of the last time, in the order in which they ran."""
    if not run.sustained:
        return ()
    last = run.sustained[-1]
    bursts: dict[Finalist, list[float]] = {}
    for fresh in run.confirmations:
        for record in fresh.trials:
            if record.usable and record.rows_per_s:
                bursts.setdefault(_finalist(record), []).append(record.rows_per_s)
    return tuple(
        Sustained(
            finalist=(finalist := _finalist(record)),
            rows_per_s=record.rows_per_s if record.usable else None,
            by_second=record.rows_by_second,
            bursts=tuple(bursts.get(finalist, ())),
            reason=None if record.usable else record.reason or "its rows were not found",
            run_id=last.info.run_id,
        )
        for record in last.trials
    )


def _finalist(record: TrialRecord) -> Finalist:
    way = Way.of(record)
    return Finalist(record.table, way, record.chunk_rows or record.chunk_size)


def order_text(loads: Sequence[Sustained], choice: Finalist) -> str:
    """Whether sustained loads put a table's finalists into another order than bursts do; "" where
    fewer than two have both.
    """
    both = [
        one for one in loads if one.finalist.table == choice.table and one.rows_per_s and one.bursts
    ]
    if len(both) < 2:
        return ""
    sustained = sorted(both, key=lambda one: -(one.rows_per_s or 0.0))
    if sustained == sorted(both, key=lambda one: -median(one.bursts)):
        return f"{choice.table}: sustained loads order the finalists as bursts do"
    first = sustained[0]
    place = next((n for n, one in enumerate(sustained, 1) if one.finalist == choice), None)
    own = "" if place is None else f", the choice comes {_nth(place)} of {len(both)}"
    if place is not None and place > 1:
        own += (
            f" at {(sustained[place - 1].rows_per_s or 0.0) / (first.rows_per_s or 1.0):.2f} of it"
        )
    return (
        f"{choice.table}: the sustained order differs from the burst order: {first.finalist.way},"
        f" chunks of {first.finalist.chunk_rows:,}, is fastest{own}; one load each"
        f"{_chance(both)}"
    )


def _nth(place: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(place, f"{place}th")


def _chance(loads: Sequence[Sustained]) -> str:
    """How far two single loads lie apart by chance, as the bursts show it."""
    spreads = [stdev(map(math.log, one.bursts)) for one in loads if len(one.bursts) > 1]
    if not spreads:
        return ""
    return f", and by chance two may differ by {math.expm1(_SURELY * fmean(spreads)):.0%}"
