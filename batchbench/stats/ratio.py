"""Two configurations side by side: how much faster is one, and how sure is that.

Trials come in pairs that ran next to each other in one block, so that what the machine did to one
it did to the other. The logarithm of their ratio is what is averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from batchbench.stats import student

FEWEST_PAIRS = 6
"""No interval under so many: of five pairs, even all on one side, 95 % cannot be said."""

EPOCH_SD = 0.035
"""How far the life of one server moves paired log ratios: 2-5 % were measured between restarts."""

_ENOUGH_EPOCHS = 6
"""So many show by themselves how far they lie apart; fewer are helped by `EPOCH_SD`."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as fast. estimate: of the ratio; low, high: its interval, None under
    `FEWEST_PAIRS` pairs. error: standard error of the logarithm; sd: spread of one pair's.
    """

    estimate: float
    low: float | None
    high: float | None
    pairs: int
    epochs: int
    confidence: float
    error: float | None
    sd: float | None
    degrees: float

    @property
    def log(self) -> float:
        """The estimate's logarithm."""
        return float(np.log(self.estimate))

    def inverse(self) -> Ratio:
        """The other one against this one."""
        low = None if self.high is None else 1 / self.high
        high = None if self.low is None else 1 / self.low
        return Ratio(
            *(1 / self.estimate, low, high, self.pairs, self.epochs, self.confidence),
            *(self.error, self.sd, self.degrees),
        )


def paired_ratio(
    one: ArrayLike,
    other: ArrayLike,
    *,
    epochs: Sequence[Any] | None = None,
    confidence: float = 0.95,
) -> Ratio:
    """`one` against `other`, which hold positive values of pairs in the same order.

    epochs: in which life of the server each pair ran; None: all in one.
    Raises ValueError where there is no pair, or the two differ in length.
    """
    logs = np.log(np.asarray(one, float)) - np.log(np.asarray(other, float))
    return ratio_of_logs(logs, epochs=epochs, confidence=confidence)


def ratio_of_logs(
    logs: ArrayLike, *, epochs: Sequence[Any] | None = None, confidence: float = 0.95
) -> Ratio:
    """The same, of logarithms of ratios.

    One epoch: Hodges-Lehmann estimate with the interval of Wilcoxon's signed ranks, of the pairs.
    Several: the mean of the epochs' Hodges-Lehmann estimates. Their spread counts what pairs of one
    server's life have in common; fewer than `_ENOUGH_EPOCHS` show it badly, so it is moderated by
    `EPOCH_SD`: such intervals are right where epochs differ as they did in what was measured, too
    wide where they do not differ, and too narrow where they differ by twice as much (84-93 %
    instead of 95). From `_ENOUGH_EPOCHS` on they are right whatever the epochs do.
    Source: Hodges, Lehmann (1963); Hollander, Wolfe, Chicken: Nonparametric Statistical Methods,
    3.2-3.3; moderated t as in Smyth (2004). Coverage: tests/test_stats_simulated.py.
    """
    values = np.asarray(logs, float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError("there must be at least one pair, of positive finite values")
    count = len(values)
    groups = [values] if epochs is None else _grouped(values, epochs)
    centres = np.array([hodges_lehmann(group) for group in groups])
    sd = float(np.std(values, ddof=1)) if count > 1 else None
    if count < FEWEST_PAIRS:
        estimate = hodges_lehmann(values)
        return Ratio(
            *(float(np.exp(estimate)), None, None, count, len(groups), confidence, None, sd, 0.0)
        )
    if len(groups) == 1:
        low, high = signed_rank_interval(values, confidence)
        error = (high - low) / (2 * student.reach(confidence, count - 1))
        return _ratio(float(centres[0]), low, high, count, 1, confidence, error, sd, count - 1)
    centre = float(np.mean(centres))
    error, degrees = _error(groups, centres)
    reach = student.reach(confidence, degrees) * error
    return _ratio(
        *(centre, centre - reach, centre + reach, count, len(groups), confidence, error, sd),
        degrees,
    )


def hodges_lehmann(values: Floats) -> float:
    """The median of the means of all pairs of values, each with itself too."""
    return float(np.median(_walsh(values)))


def signed_rank_interval(values: Floats, confidence: float) -> tuple[float, float]:
    """The interval that belongs to Wilcoxon's signed ranks, exact up to 50 values.

    Where so few values cannot reach the confidence by their ranks, Student's t must say how far
    beyond the outermost it is.
    """
    averages = np.sort(_walsh(values))
    count = len(values)
    rank = _rank(count, 1 - confidence)
    low, high = float(averages[rank - 1]), float(averages[-rank])
    if 2.0 ** (1 - count) <= 1 - confidence:
        return low, high
    reach = student.reach(confidence, count - 1) * float(np.std(values, ddof=1)) / np.sqrt(count)
    centre = float(np.mean(values))
    return min(low, centre - reach), max(high, centre + reach)


def _walsh(values: Floats) -> Floats:
    rows, columns = _both(len(values))
    means: Floats = (values[rows] + values[columns]) / 2
    return means


@lru_cache(maxsize=8)
def _both(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    return np.triu_indices(count)


@lru_cache(maxsize=256)
def _rank(count: int, alpha: float) -> int:
    """Which of the means, from 1, the interval ends with: P(T <= rank - 1) <= alpha / 2."""
    if count > 50:
        from scipy.special import ndtri

        mean, variance = count * (count + 1) / 4, count * (count + 1) * (2 * count + 1) / 24
        return max(1, int(np.floor(mean - ndtri(1 - alpha / 2) * np.sqrt(variance))))
    ways = np.zeros(count * (count + 1) // 2 + 1)
    ways[0] = 1
    for rank in range(1, count + 1):
        ways[rank:] += ways[:-rank].copy()
    below = np.cumsum(ways) / 2.0**count
    return max(1, int(np.searchsorted(below, alpha / 2, side="right")))


def _grouped(values: Floats, epochs: Sequence[Any]) -> list[Floats]:
    if len(epochs) != len(values):
        raise ValueError(f"{len(values)} pairs, but {len(epochs)} epochs of them")
    groups: dict[Any, list[float]] = {}
    for epoch, value in zip(epochs, values.tolist(), strict=True):
        groups.setdefault(epoch, []).append(value)
    return [np.array(group) for group in groups.values()]


def _error(groups: list[Floats], centres: Floats) -> tuple[float, float]:
    """Standard error of the mean of the epochs, and its degrees of freedom."""
    epochs, count = len(groups), sum(map(len, groups))
    inner = sum(float(np.sum((group - np.mean(group)) ** 2)) for group in groups)
    within = inner / max(1, count - epochs)
    # pi / 3: the variance of the Hodges-Lehmann estimate of normal values against their mean's
    sampling = float(np.mean([within * np.pi / 3 / len(group) for group in groups]))
    seen, expected = float(np.var(centres, ddof=1)), sampling + EPOCH_SD**2
    belief = _belief(epochs)
    degrees = belief + epochs - 1
    moderated = (belief * expected + (epochs - 1) * seen) / degrees
    return float(np.sqrt(moderated / epochs)), degrees


def _belief(epochs: int) -> int:
    """What `EPOCH_SD` weighs against the spread that a run's own epochs show, in epochs.

    8 of 2 epochs says that it may as well be 0.024 or 0.067. It fades, so that a run with another
    epoch never has a wider interval for it.
    """
    return max(0, 2 * (_ENOUGH_EPOCHS - epochs))


def planned_error(sd: float, pairs: int, epochs: int) -> tuple[float, float]:
    """What `ratio_of_logs` would find: standard error and degrees of freedom. sd: of one pair."""
    sampling = sd**2 * np.pi / 3 / pairs
    if epochs == 1:
        return float(np.sqrt(sampling)), pairs - 1
    return float(np.sqrt(sampling + EPOCH_SD**2 / epochs)), _belief(epochs) + epochs - 1


def _ratio(centre: float, low: float, high: float, *rest: Any) -> Ratio:
    return Ratio(float(np.exp(centre)), float(np.exp(low)), float(np.exp(high)), *rest)
