"""Histograms that were stored, and many of them merged."""

from __future__ import annotations

import json
from functools import reduce

import numpy as np
import pytest

from batchbench.stats import Histogram, histogram_of


def test_many_trials_merge_to_what_all_values_give() -> None:
    rng = np.random.default_rng(1)
    trials = [rng.lognormal(-4, 1, 30) for _ in range(40)]
    parts = []
    for values in trials:
        parts.append(Histogram())
        parts[-1].add(values)
    merged = reduce(Histogram.merge, parts)
    everything = np.sort(np.concatenate(trials))
    assert merged.count == len(everything)
    for share in (0.5, 0.9, 0.99):
        exact = everything[int(np.ceil(share * len(everything))) - 1]
        assert merged.quantile(share) == pytest.approx(exact, rel=0.01)
    assert merged.slow == ("p99", merged.quantile(0.99))
    assert [part.slow[0] for part in parts] == ["max"] * 40


def test_a_stored_one_is_small_and_comes_back() -> None:
    histogram = Histogram()
    histogram.add(np.random.default_rng(2).lognormal(-4, 0.5, 100_000))
    text = json.dumps(histogram.document())
    assert len(text) < 6_000
    assert histogram_of(json.loads(text)) == histogram


def test_nothing_and_next_to_nothing() -> None:
    histogram = Histogram()
    histogram.add([])
    assert (histogram.count, histogram.quantile(0.5), histogram.slow) == (0, 0.0, ("max", 0.0))
    histogram.add([0.0, 1e-9])
    assert histogram.count == 2
    assert histogram.quantile(0.5) <= 1.01e-6


@pytest.mark.parametrize(
    "document",
    [
        {"counts": {"-1": 3}, "max_s": 1.0},
        {"counts": {"4": 0}, "max_s": 1.0},
        {"counts": {"4": 1}, "max_s": float("nan")},
        {"counts": {"4": 1}, "max_s": -1.0},
        {"counts": {"4": 1}},
        {"counts": [1], "max_s": 1.0},
    ],
)
def test_what_is_no_histogram_is_refused(document: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a histogram"):
        histogram_of(document)
