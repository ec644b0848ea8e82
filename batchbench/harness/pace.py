"""How fast a sweep goes, and when its next epoch begins."""

from __future__ import annotations

import time
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime

from batchbench.harness.plan import SweepPlan
from batchbench.results import Run, RunWriter

EPOCH_S = 3.0
"""For the server's restart and a new client process."""

_RESERVE = 1.1  # a block must fit into a budget with a tenth to spare


@dataclass(slots=True)
class Clock:
    """How long loads take here, and what still fits. Seconds are wall time."""

    started_s: float
    budget_s: float | None
    loads: int = 0
    loads_s: float = 0.0

    def count(self, seconds: float) -> None:
        """A load ended; its preparation and verification are in `seconds`."""
        self.loads += 1
        self.loads_s += seconds

    def need_s(self, load_count: int) -> float:
        """What so many loads will take; 0 before the first has ended."""
        return load_count * self.loads_s / self.loads if self.loads else 0.0

    def left_s(self) -> float:
        """What is left of the budget."""
        if self.budget_s is None:
            return float("inf")
        return self.budget_s - (time.perf_counter() - self.started_s)

    def fits(self, load_count: int, besides_s: float = 0.0) -> bool:
        """Whether so many loads end within the budget, with some time besides."""
        return self.need_s(load_count) * _RESERVE + besides_s <= self.left_s()

    def blocks(self, most: int, block_size: int, before: int) -> int:
        """How many of `most` blocks will follow `before` loads, as far as can be told."""
        if self.budget_s is None:
            return most
        spare_s = self.left_s() - self.need_s(before)
        return max(0, min(most, int(spare_s / (self.need_s(block_size) * _RESERVE))))


def spent_s(run: Run | RunWriter) -> float:
    """Wall time of earlier starts of a run, each to the beginning of its last trial."""
    begun = [datetime.fromisoformat(one.at) for one in (run.info.sitting, *run.info.resumed)]
    spent = dict.fromkeys(begun, 0.0)
    for record in run.records:
        at = datetime.fromisoformat(record.started_at)
        start = begun[max(0, bisect_right(begun, at) - 1)]
        spent[start] = max(spent[start], (at - start).total_seconds())
    return sum(spent.values())


@dataclass(slots=True)
class Epochs:
    """When the next epoch of a start begins. begun: so far."""

    plan: SweepPlan
    clock: Clock
    begun: int = 1

    def is_over(self, block: int, size: int, warmups: int) -> bool:
        """Whether the blocks of this epoch were run; block: the last one. size, warmups: loads of
        a block, and ahead of an epoch.

        Also where another block would leave too little of the budget for one in each later epoch.
        """
        later = self.plan.epochs - self.begun
        if later <= 0:
            return False
        share = block / self.plan.repeats
        if self.clock.budget_s is not None:
            share = max(share, 1 - self.clock.left_s() / self.clock.budget_s)
        loads = size + later * (size + warmups)
        fits = self.clock.fits(loads, later * EPOCH_S)
        return share >= self.begun / self.plan.epochs or not fits
