"""How fast a sweep goes, and when its next epoch begins."""

from __future__ import annotations

import time
from dataclasses import dataclass

from batchbench.harness.plan import SweepPlan

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

    def fits(self, load_count: int) -> bool:
        """Whether so many loads end within the budget."""
        return self.need_s(load_count) * _RESERVE <= self.left_s()

    def blocks(self, most: int, block_size: int, before: int) -> int:
        """How many of `most` blocks will follow `before` loads, as far as can be told."""
        if self.budget_s is None:
            return most
        spare_s = self.left_s() - self.need_s(before)
        return max(0, min(most, int(spare_s / (self.need_s(block_size) * _RESERVE))))


@dataclass(slots=True)
class Epochs:
    """When the next epoch of a start begins. begun: so far."""

    plan: SweepPlan
    clock: Clock
    begun: int = 1

    def is_over(self, block: int) -> bool:
        """Whether the blocks of this epoch were run; block: the last one."""
        if self.begun >= self.plan.epochs:
            return False
        share = block / self.plan.repeats
        if self.clock.budget_s is not None:
            share = max(share, 1 - self.clock.left_s() / self.clock.budget_s)
        return share >= self.begun / self.plan.epochs
