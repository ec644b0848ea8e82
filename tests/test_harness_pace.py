"""Budgets: how many blocks fit, and that every epoch gets one."""

from __future__ import annotations

import pytest

from batchbench.harness import SweepPlan, full_grid
from batchbench.harness.pace import EPOCH_S, Clock, Epochs

GRID = full_grid(["sleep"], ["copy", "values"], ["psycopg"], [500, 900], [1])  # 5 loads a block


class Time:
    """A clock that is told what time it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 0.0
        monkeypatch.setattr("batchbench.harness.pace.time.perf_counter", lambda: self.now_s)


def blocks_by_epoch(
    time: Time, *, load_s: float, budget_s: float | None, epochs: int, repeats: int = 1_000
) -> list[int]:
    """How a sweep spends its budget where each load takes the same time."""
    plan = SweepPlan(configurations=GRID, repeats=repeats, epochs=epochs)
    clock = Clock(0.0, budget_s)
    epoch = Epochs(plan, clock)
    warmups = len(plan.warmup_trials())

    def run(count: int) -> None:
        for _ in range(count):
            time.now_s += load_s
            clock.count(load_s)

    run(warmups)
    counts = [0]
    for block in range(1, repeats + 1):
        run(plan.block_size)
        counts[-1] += 1
        if block == repeats or not clock.fits(plan.block_size):
            break
        if epoch.is_over(block, plan.block_size, warmups) and clock.fits(plan.block_size + warmups):
            epoch.begun += 1
            time.now_s += EPOCH_S
            run(warmups)
            counts.append(0)
    return counts


def test_without_a_budget_epochs_share_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    assert blocks_by_epoch(time, load_s=1, budget_s=None, epochs=3, repeats=6) == [2, 2, 2]
    time.now_s = 0
    assert blocks_by_epoch(time, load_s=1, budget_s=None, epochs=3, repeats=2) == [1, 1]


@pytest.mark.parametrize("load_s", [0.1, 1.0, 2.65, 3.2, 3.7, 4.4])
def test_every_epoch_gets_a_block_where_the_budget_has_room(
    monkeypatch: pytest.MonkeyPatch, load_s: float
) -> None:
    time = Time(monkeypatch)
    counts = blocks_by_epoch(time, load_s=load_s, budget_s=100, epochs=3)
    assert len(counts) == 3
    assert min(counts) >= 1
    assert time.now_s <= 100


def test_a_budget_for_one_block_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    assert blocks_by_epoch(time, load_s=12, budget_s=100, epochs=3) == [1]
