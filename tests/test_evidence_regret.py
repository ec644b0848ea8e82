"""The evidence of recommendations: who is measured afresh, and what regret is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from batchbench.recommend import Finalist, Way
from batchbench.results import Run
from benchmarks.regret import (
    CASES,
    Case,
    Outcome,
    Regret,
    Times,
    finalists_of,
    main,
    plan_text,
    regret_of,
    summary,
    sweep_plan,
)
from tests.test_recommend import Speeds, copying, run_of


def chunk(rows: int) -> Finalist:
    return Finalist("sleep", Way("copy", "psycopg", 1), rows)


def in_epochs(speeds: Speeds, blocks_each: int) -> Run:
    """The run, with so many blocks in each epoch."""
    run = run_of(speeds)
    records = (replace(r, epoch=1 + (r.block - 1) // blocks_each) for r in run.records)
    return replace(run, records=tuple(records))


def test_all_within_reach_of_the_best_are_measured_afresh_and_two_at_least() -> None:
    near = {copying(10 * n): [1_000.0 - 10 * n] * 6 for n in range(1, 13)}
    many = finalists_of(run_of({**near, copying(1_000): [500.0] * 6}))
    assert set(many) == {chunk(10 * n) for n in range(1, 13)}, "more than a claim may have"
    alone = finalists_of(run_of({copying(n): [1e6 / n] * 6 for n in (10, 100, 1_000, 10_000)}))
    assert alone == (chunk(10), chunk(100), chunk(1_000))


def test_regret_is_what_the_choice_lacks_of_the_best() -> None:
    fresh = in_epochs({copying(10): [90.0] * 12, copying(20): [100.0] * 12}, 2)
    found = regret_of(fresh, chunk(10), [chunk(20)])
    assert found.to_first == pytest.approx(0.1)
    assert found.held_out == pytest.approx(0.1)
    assert found.bound is not None
    assert found.bound >= 0.1
    assert (found.pairs, found.first, found.fault) == (12, chunk(20), "")
    best = regret_of(fresh, chunk(20), [chunk(10)])
    assert (best.held_out, best.to_first, best.first) == (0.0, 0.0, chunk(20))


def test_luck_of_one_epoch_is_no_speed() -> None:
    """Each rival is ahead in one epoch only; whoever the others put first is not, in its own."""

    def lucky(epoch: int) -> Sequence[float]:
        return [100.0 * (1.3 if (block - 1) // 2 == epoch else 0.99) for block in range(1, 13)]

    speeds = {copying(10): [100.0] * 12, **{copying(20 + n): lucky(n) for n in range(6)}}
    found = regret_of(in_epochs(speeds, 2), chunk(10), [chunk(20 + n) for n in range(6)])
    assert found.to_first is not None
    assert found.held_out is not None
    assert found.to_first > 0.03
    assert found.held_out <= 0


def test_too_few_pairs_say_nothing() -> None:
    fresh = in_epochs({copying(10): [90.0] * 4, copying(20): [100.0] * 4}, 2)
    found = regret_of(fresh, chunk(10), [chunk(20)])
    assert (found.held_out, found.bound) == (None, None)
    assert "6 are the least" in found.fault
    outcome = Outcome(CASES[0], 8, 2, chunk(10), found, 1.0)
    assert not outcome.holds
    assert "in 0 of 1 cases" in next(summary([outcome]))


def test_the_summary_counts_what_must_be_shown() -> None:
    def outcome(held_out: float, to_first: float, bound: float) -> Outcome:
        found = Regret(held_out, to_first, bound, 30, chunk(10))
        return Outcome(CASES[0], 8, 3, chunk(10), found, 200.0)

    judged, besides = summary([outcome(0.0, 0.0, 0.0), outcome(0.05, 0.06, 0.1)])
    assert "in 2 of 2 cases; 14 of 15" in judged
    assert "in 1. The upper bound itself is at most 5% in 1." in besides
    assert not outcome(0.051, 0.06, 0.1).holds


def test_a_case_is_swept_as_the_command_plans_it(tmp_path: Path) -> None:
    assert len(CASES) == 15
    plan = sweep_plan(Case("workout", 5.0), 90.0)
    assert (plan.rtts_ms, plan.tables, plan.budget_s) == ((5.0,), ("workout",), 90.0)
    assert {c.chunk_size for c in plan.configurations} >= {5_000}, "what is set is in it"
    (tmp_path / "sleep-0ms-sweep").mkdir()
    (tmp_path / "sleep-0ms-sweep" / "ended.json").touch()
    *_, sleep, last = plan_text([Case("sleep", 0.0)], Times(90.0, 105.0), tmp_path)
    assert "half done" in sleep
    assert "about 2 minutes" in last


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--cases", "sleep-2ms"])
    assert "no case sleep-2ms; known: heart_rate-0ms" in capsys.readouterr().err
