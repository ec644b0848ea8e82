"""The evidence of the tuner: what random search had time for, and what is said of the outcomes."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchbench.harness import Space
from batchbench.recommend import ranking
from batchbench.stats import ratio_of_logs
from benchmarks.kept import configurations_of
from benchmarks.tuning import (
    Options,
    Outcome,
    fresh_ratio,
    random_choice,
    report,
)
from tests.test_recommend import copying, run_of

SPEEDS = {copying(size): [1_000.0 * size] * 2 for size in (10, 20, 30, 40)}


def test_random_search_tries_as_many_as_its_time_allows() -> None:
    grid = run_of(SPEEDS)  # started at one moment: what is besides the loads counts as nothing
    seconds = grid.records[0].seconds or 0.0
    counts = {random_choice(grid, 2.5 * seconds * share, 1)[1] for share in (0.0, 1.0, 100.0)}
    assert counts >= {1, 4}
    best, tried = random_choice(grid, 1e9, 1)
    assert (best.chunk_rows, tried) == (40, 4)


def test_what_is_the_same_has_no_ratio() -> None:
    run = run_of({copying(10): [1e5] * 8, copying(20): [5e4] * 8})
    fast, slow = ranking(run)
    assert fresh_ratio(run, fast, fast) is None
    found = fresh_ratio(run, slow, fast)
    assert found is not None
    assert found.estimate == pytest.approx(0.5)
    (configuration,) = configurations_of([slow, slow])
    assert str(configuration) == "sleep/copy/psycopg/20/1"


def test_the_summary_counts_what_must_be_shown() -> None:
    def outcome(seed: int, log: float | None, random_log: float, search_s: float) -> Outcome:
        made = None if log is None else ratio_of_logs([log] * 8)
        lucky = ratio_of_logs([random_log] * 8)
        return Outcome(seed, 9, 100.0, search_s, 5, "a", "b", "c", made, lucky)

    outcomes = [outcome(1, None, -0.2, 20), outcome(2, -0.1, 0.0, 20), outcome(3, -0.01, -0.3, 30)]
    text = "\n".join(report(outcomes, Options("sleep", None, Space(), 0.2, 8, Path())))
    assert "2 of 3 searches end within 5 %" in text
    assert "2 of 3 took at most 25%" in text
    assert "better in 2 of 3, worse in 1" in text
    assert text.count("\n| ") == 4
