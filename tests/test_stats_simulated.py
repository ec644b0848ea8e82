"""Claims, intervals and power under noise as it was measured (design.md, "Noise, measured")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from batchbench.stats import Finding, Ratio, judge, looks, p_value, ratio_of_logs
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
    run = runs(epochs, pairs, tail)
    smallest = float(np.median([judge(run()).smallest or 9 for _ in range(200)]))
    run = runs(epochs, pairs, tail, smallest, seed=2)
    found = np.mean([judge(run()).finding is Finding.DIFFERENT for _ in range(RUNS)])
    assert found >= (LEAST_FOUND if tail == "normal" or pairs > 8 else 0.8)


def test_looking_early_makes_no_more_false_claims() -> None:
    rng, ends = np.random.default_rng(3), [8, 16, 24, 32]
    levels = looks([end / ends[-1] for end in ends])
    false = 0
    for _ in range(RUNS):
        logs = rng.normal(0, SD, ends[-1])
        ps = [p_value(ratio_of_logs(logs[:end])) or 0 for end in ends]
        false += any(p <= level for p, level in zip(ps, levels, strict=True))
    assert false / RUNS <= MOST_FALSE
