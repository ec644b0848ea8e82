"""Statistics against scipy, hand computation and properties that must hold."""

from __future__ import annotations

import subprocess
import sys
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from batchbench.stats import (
    Finding,
    Histogram,
    against_all,
    detectable,
    drift_of,
    fit_scaling,
    histogram_of,
    holm,
    hopeless,
    judge,
    looks,
    lower_bound,
    p_value,
    paired_ratio,
    pairs_needed,
    ratio_of_logs,
)

speeds = st.lists(st.floats(0.1, 1e6), min_size=6, max_size=40)


def test_the_interval_is_that_of_wilcoxons_test() -> None:
    """A shift is in the interval exactly where scipy's exact test does not refuse it."""
    logs = np.random.default_rng(1).normal(0.05, 0.1, 15)
    ratio = ratio_of_logs(logs)
    assert ratio.low is not None
    assert ratio.high is not None
    for edge, inside in ((ratio.low, 1e-9), (ratio.high, -1e-9)):
        for step, refused in ((inside, False), (-inside, True)):
            shift = np.log(edge) + step
            p = scipy_stats.wilcoxon(logs - shift, method="exact").pvalue
            assert bool(p <= 0.05) is refused


def test_the_estimate_by_hand() -> None:
    # of 1, 2, 4: the means are 1, 1.5, 2.5, 2, 3, 4, their median 2.25
    assert ratio_of_logs([1.0, 2.0, 4.0]).log == pytest.approx(2.25)


def test_no_interval_under_six_pairs() -> None:
    assert ratio_of_logs([0.1] * 5).low is None
    assert ratio_of_logs([0.1, 0.2, 0.1, 0.2, 0.1, 0.3]).low is not None
    assert judge(ratio_of_logs([0.5] * 5)).finding is Finding.UNDECIDED


def test_few_pairs_promise_no_more_than_they_can() -> None:
    """The ranks of six pairs end at 97 %: beyond, the interval must leave the pairs behind."""
    logs = np.array([0.01, 0.05, 0.02, 0.08, 0.04, 0.06])
    sure, surer = (ratio_of_logs(logs, confidence=share) for share in (0.95, 0.995))
    assert np.log([sure.low or 0, sure.high or 0]) == pytest.approx([0.01, 0.08])
    assert surer.low is not None
    assert surer.high is not None
    wide = scipy_stats.t.interval(0.995, 5, np.mean(logs), scipy_stats.sem(logs))
    assert np.log([surer.low, surer.high]) == pytest.approx(wide)


def test_another_epoch_never_widens_the_interval() -> None:
    found = [detectable(0.15, 120, epochs) or 9 for epochs in range(2, 16)]
    assert found == sorted(found, reverse=True)


@given(speeds, st.floats(0.01, 100))
def test_scale_and_side_do_not_matter(values: list[float], scale: float) -> None:
    one = np.array(values)
    other = np.roll(one, 1)
    ratio, scaled = paired_ratio(one, other), paired_ratio(one * scale, other)
    assert scaled.estimate == pytest.approx(ratio.estimate * scale)
    back = paired_ratio(other, one)
    assert back.estimate == pytest.approx(ratio.inverse().estimate)
    assert back.low == pytest.approx(ratio.inverse().low)


@pytest.mark.parametrize("epochs", [None, [1, 1, 2, 2, 3, 3, 4, 4]])
def test_equal_pairs_are_equivalent(epochs: list[int] | None) -> None:
    ratio = paired_ratio([5.0] * 8, [5.0] * 8, epochs=epochs)
    assert ratio.estimate == 1
    assert judge(ratio, delta=0.05).finding is Finding.EQUIVALENT


def test_what_epochs_have_in_common_widens_the_interval() -> None:
    rng = np.random.default_rng(2)
    epochs = np.repeat(np.arange(5), 30)
    logs = rng.normal(0, 0.05, 150) + np.repeat(rng.normal(0, 0.08, 5), 30)
    apart, together = ratio_of_logs(logs, epochs=epochs.tolist()), ratio_of_logs(logs)
    assert apart.error is not None
    assert together.error is not None
    assert apart.error > 3 * together.error


@pytest.mark.parametrize(
    ("mean", "finding", "sign"),
    [
        (0.2, Finding.DIFFERENT, "+"),
        (-0.2, Finding.DIFFERENT, "-"),
        (0.0, Finding.EQUIVALENT, "~"),
        (0.015, Finding.UNDECIDED, "??"),
    ],
)
def test_three_verdicts(mean: float, finding: Finding, sign: str) -> None:
    logs = mean + 0.045 * scipy_stats.norm.ppf(np.linspace(0.01, 0.99, 60))
    verdict = judge(ratio_of_logs(logs))
    assert (verdict.finding, verdict.sign) == (finding, sign)
    assert verdict.smallest is not None
    assert 0.02 < verdict.smallest < 0.05


def test_pairs_needed_is_the_inverse_of_detectable() -> None:
    pairs = pairs_needed(0.15, 0.10)
    assert pairs is not None
    assert 20 < pairs < 60  # design.md: 10 % about 25-50
    found, less = detectable(0.15, pairs), detectable(0.15, pairs - 1)
    assert found is not None
    assert less is not None
    assert found <= 0.10 < less
    assert detectable(0.15, 5) is None
    assert pairs_needed(0.15, 0.03, epochs=3) is None, "more pairs do not make up for epochs"


def test_holm_by_hand() -> None:
    adjusted = holm({"a": 0.01, "b": 0.04, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})


def test_many_comparisons_are_wider_than_one() -> None:
    rng = np.random.default_rng(3)
    best, other = rng.lognormal(0, 0.1, 20), rng.lognormal(0, 0.1, 20)
    alone = paired_ratio(best, other)
    among = against_all(best, dict.fromkeys(range(10), other))[0]
    assert among.low is not None
    assert alone.low is not None
    assert among.low < alone.low


def test_one_sided_bound_and_p_value_agree() -> None:
    ratio = ratio_of_logs(np.random.default_rng(4).normal(0.1, 0.1, 25))
    p = p_value(ratio)
    assert p is not None
    assert lower_bound(ratio, 1 - p / 2) == pytest.approx(1.0)
    assert lower_bound(ratio_of_logs([0.1] * 3)) is None


@pytest.mark.parametrize(
    ("kind", "bounds"),
    [
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
        ("obrien-fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
    ],
)
def test_levels_of_looks_are_those_that_were_published(
    kind: Literal["pocock", "obrien-fleming"], bounds: list[float]
) -> None:
    """Reboussin, DeMets, Kim, Lan (2000): five looks at equal distances, both sides 5 %."""
    levels = looks([0.2, 0.4, 0.6, 0.8, 1.0], 0.05, kind)
    assert scipy_stats.norm.isf(np.array(levels) / 2) == pytest.approx(bounds, abs=3e-4)


def test_looks_are_planned() -> None:
    assert looks([1.0]) == pytest.approx([0.05])
    with pytest.raises(ValueError, match="one after the other"):
        looks([0.5, 0.5, 1.0])
    with pytest.raises(ValueError, match="at most 1"):
        looks([0.5, 1.5])


def test_hopeless_is_surely_slower() -> None:
    assert hopeless(ratio_of_logs([-0.5, -0.4, -0.6, -0.5, -0.45, -0.55]), 0.01)
    assert not hopeless(ratio_of_logs([-0.5, 0.4, -0.6, 0.5, -0.45, 0.55]), 0.01)
    assert not hopeless(ratio_of_logs([-0.5] * 3), 0.01)


def test_scaling_is_found_again() -> None:
    writers = np.repeat([1, 2, 3, 4, 6, 8], 5)
    truth = 1_000 * writers / (1 + 0.1 * (writers - 1) + 0.02 * writers * (writers - 1))
    seen = truth * np.random.default_rng(5).lognormal(0, 0.03, len(writers))
    fit = fit_scaling(writers.tolist(), seen.tolist())
    for coefficient, true in ((fit.single, 1_000), (fit.contention, 0.1), (fit.crosstalk, 0.02)):
        assert coefficient.low <= true <= coefficient.high
    assert fit.peak == pytest.approx(np.sqrt(0.9 / 0.02), rel=0.2)
    assert fit.rows_per_s(8) == pytest.approx(truth[-1], rel=0.1)
    with pytest.raises(ValueError, match="past 16"):
        fit.rows_per_s(17)
    with pytest.raises(ValueError, match="a fit needs 6"):
        fit_scaling([1, 2, 4], [1.0, 2.0, 4.0])


latencies = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=300)


@given(latencies, st.floats(0, 1))
def test_quantiles_are_right_to_one_percent(values: list[float], share: float) -> None:
    histogram = Histogram()
    histogram.add(values)
    rank = max(0, int(np.ceil(share * len(values))) - 1)
    assert histogram.quantile(share) == pytest.approx(sorted(values)[rank], rel=0.0101)
    assert histogram.max_s == max(values)


@given(latencies, latencies)
def test_merging_is_adding(one: list[float], other: list[float]) -> None:
    first, second, both = Histogram(), Histogram(), Histogram()
    first.add(one)
    second.add(other)
    both.add(one + other)
    assert first.merge(second) == both
    assert histogram_of(both.document()) == both


def test_p99_needs_500_values() -> None:
    few, many = Histogram(), Histogram()
    few.add(np.linspace(0.001, 0.1, 499))
    many.add(np.linspace(0.001, 0.1, 500))
    assert few.slow == ("max", 0.1)
    assert many.slow[0] == "p99"
    with pytest.raises(ValueError, match="not below 0"):
        few.add([-1.0])
    with pytest.raises(ValueError, match="not a histogram"):
        histogram_of({"counts": 3})


def test_drift_is_seen() -> None:
    rng = np.random.default_rng(6)
    calm = rng.lognormal(0, 0.1, 60)
    assert not drift_of(calm).contaminated
    assert "moved by" in drift_of(calm * np.linspace(1, 1.6, 60)).reasons[0]
    assert "varied by" in drift_of(rng.lognormal(0, 0.6, 200)).reasons[0]
    epochs = np.repeat([1, 2, 3], 20)
    assert drift_of(calm * np.where(epochs == 2, 1.5, 1), epochs.tolist()).drift > 0.3


def test_a_load_imports_none_of_it() -> None:
    code = "import sys, batchbench.cli.load; print([m for m in sys.modules if m == 'scipy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
