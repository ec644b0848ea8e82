"""Claims, intervals and power under noise as it was measured (design.md, "Noise, measured")."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from batchbench.stats import (
    Finding,
    Ratio,
    drift_of,
    fit_scaling,
    judge,
    looks,
    p_value,
    ratio_of_logs,
)
from batchbench.stats.ratio import EPOCH_SD

RUNS = 1_000
SD = 0.15  # of one pair's log ratio

# Of 1,000 runs 5 % are 50 +- 7; three standard deviations are left for luck.
MOST_FALSE, LEAST_COVERED, LEAST_FOUND = 0.071, 0.93, 0.87

shapes = pytest.mark.parametrize(
    ("epochs", "pairs"), [(1, 8), (1, 30), (3, 4), (3, 10), (6, 10), (10, 6)]
)
tails = pytest.mark.parametrize("tail", ["normal", "heavy"])


def runs(
    epochs: int, pairs: int, tail: str, difference: float = 0.0, seed: int = 1
) -> Callable[[], Ratio]:
    """Make runs of `epochs` lives of a server, of so many pairs each."""
    rng = np.random.default_rng(seed)
    of = np.repeat(np.arange(epochs), pairs)

    def run() -> Ratio:
        count = len(of)
        heavy = rng.standard_t(4, count) / np.sqrt(2)
        noise = SD * (heavy if tail == "heavy" else rng.normal(size=count))
        lives = rng.normal(0, EPOCH_SD, epochs)[of] if epochs > 1 else 0.0
        logs = np.log1p(difference) + noise + lives
        return ratio_of_logs(logs, epochs=of.tolist() if epochs > 1 else None)

    return run


@shapes
@tails
def test_intervals_hold_and_nothing_is_claimed_of_nothing(
    epochs: int, pairs: int, tail: str
) -> None:
    run = runs(epochs, pairs, tail)
    found = [run() for _ in range(RUNS)]
    false = np.mean([judge(ratio).finding is Finding.DIFFERENT for ratio in found])
    covered = np.mean([(r.low or 9) <= 1 <= (r.high or 0) for r in found])
    assert false <= MOST_FALSE
    assert covered >= LEAST_COVERED


@shapes
@tails
def test_what_is_said_to_be_found_is_found(epochs: int, pairs: int, tail: str) -> None:
    """A difference as small as one run told is found by the next one."""
    run = runs(epochs, pairs, tail)
    told = [judge(run()).smallest or 9 for _ in range(RUNS)]
    found = np.mean([judge(plus(run(), share)).finding is Finding.DIFFERENT for share in told])
    # eight pairs with such tails show too little of them
    assert found >= (LEAST_FOUND if tail == "normal" or pairs > 8 else 0.82)


def plus(ratio: Ratio, share: float) -> Ratio:
    """The same run, had the difference been larger by that share."""
    assert ratio.low is not None
    assert ratio.high is not None
    times = 1 + share
    return replace(
        ratio, estimate=ratio.estimate * times, low=ratio.low * times, high=ratio.high * times
    )


@pytest.mark.parametrize("lives_sd", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize(("epochs", "pairs"), [(6, 4), (6, 20), (12, 6)])
def test_from_six_epochs_on_it_does_not_matter_how_they_differ(
    epochs: int, pairs: int, lives_sd: float
) -> None:
    rng, of = np.random.default_rng(6), np.repeat(np.arange(epochs), pairs)
    covered = 0
    for _ in range(RUNS):
        logs = rng.normal(0, SD, len(of)) + rng.normal(0, lives_sd, epochs)[of]
        ratio = ratio_of_logs(logs, epochs=of.tolist())
        covered += (ratio.low or 9) <= 1 <= (ratio.high or 0)
    assert LEAST_COVERED - 0.005 <= covered / RUNS <= 0.97


def test_looking_early_makes_no_more_false_claims() -> None:
    rng, ends = np.random.default_rng(3), [8, 16, 24, 32]
    levels = looks([end / ends[-1] for end in ends])
    false = 0
    for _ in range(RUNS):
        logs = rng.normal(0, SD, ends[-1])
        ps = [p_value(ratio_of_logs(logs[:end])) or 0 for end in ends]
        false += any(p <= level for p, level in zip(ps, levels, strict=True))
    assert false / RUNS <= MOST_FALSE


@pytest.mark.parametrize(("epochs", "trials"), [(1, 6), (1, 30), (3, 1), (3, 3), (3, 10), (10, 6)])
def test_a_machine_at_rest_is_rarely_called_contaminated(epochs: int, trials: int) -> None:
    """And one that was slower by 80 % for a third of the time mostly is, from nine trials on."""
    rng, runs = np.random.default_rng(4), 300
    of = np.repeat(np.arange(epochs), trials)
    late = np.arange(len(of)) >= len(of) * 2 // 3
    false = found = 0
    for _ in range(runs):
        logs = rng.normal(0, SD, len(of)) + rng.normal(0, 0.03, epochs)[of]
        false += drift_of(np.exp(logs), of.tolist()).contaminated
        found += drift_of(np.exp(logs + late * np.log(1.8)), of.tolist()).contaminated
    assert false / runs <= MOST_FALSE
    assert len(of) < 9 or found / runs >= LEAST_FOUND


@pytest.mark.parametrize("trials", [1, 3])
def test_coefficients_of_scaling_hold_the_truth(trials: int) -> None:
    rng, runs = np.random.default_rng(5), 40
    writers = np.repeat([1, 2, 3, 4, 6, 8], trials)
    truth = 1_000 * writers / (1 + 0.1 * (writers - 1) + 0.02 * writers * (writers - 1))
    covered = 0
    for _ in range(runs):
        fit = fit_scaling(writers.tolist(), (truth * rng.lognormal(0, 0.1, len(writers))).tolist())
        covered += fit.contention.low <= 0.1 <= fit.contention.high
    assert covered / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)
