"""Throughput over the number of writers, and what limits it.

Source: Gunther, Guerrilla Capacity Planning: the Universal Scalability Law,
X(n) = lambda n / (1 + sigma (n - 1) + kappa n (n - 1)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from batchbench.stats import student

FEWEST_LEVELS = 6
_BOOTSTRAPS = 200
_STEPS = 50


@dataclass(frozen=True, slots=True)
class Coefficient:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Scaling:
    """single: rows/s of one writer. contention: the share of work that writers wait for one
    another. crosstalk: what each pair of writers costs. largest: the most writers measured.
    """

    single: Coefficient
    contention: Coefficient
    crosstalk: Coefficient
    largest: int

    def rows_per_s(self, writers: float) -> float:
        """Predicted throughput. Raises ValueError past twice the largest level measured."""
        if writers > 2 * self.largest:
            raise ValueError(
                f"{writers:g} writers: nothing can be said past {2 * self.largest}, twice the most"
                " that was measured"
            )
        values = (self.single.value, self.contention.value, self.crosstalk.value)
        return float(_law(np.array([writers], float), *values)[0])

    @property
    def peak(self) -> float | None:
        """Writers at which throughput is largest, 1 at least; None where it grows past what may be
        said.
        """
        sigma, kappa = self.contention.value, self.crosstalk.value
        if kappa <= 0:
            return None
        peak = max(1.0, float(np.sqrt(max(0.0, 1 - sigma) / kappa)))
        return peak if peak <= 2 * self.largest else None


def fit_scaling(writers: Sequence[int], rows_per_s: Sequence[float], seed: int = 1) -> Scaling:
    """Fit to trials, by relative least squares; intervals by a bootstrap of the residuals.

    Residuals know what a trial a level cannot show by itself, and where the law does not fit.
    Source: Efron, Tibshirani: An Introduction to the Bootstrap, 9.4; residuals are scaled by
    sqrt(n / (n - 3)), since three coefficients took a part of their spread, and the interval by
    Student's t against the normal. Coverage: tests/test_stats_simulated.py.
    Raises ValueError under six levels, and where the two differ in length or are not over 0.
    """
    levels, speeds = np.asarray(writers, float), np.asarray(rows_per_s, float)
    if levels.shape != speeds.shape or not (levels > 0).all() or not (speeds > 0).all():
        raise ValueError("each trial has a number of writers and a speed, both over 0")
    distinct = np.unique(levels)
    if len(distinct) < FEWEST_LEVELS:
        raise ValueError(
            f"{len(distinct)} numbers of writers were measured; a fit needs {FEWEST_LEVELS}"
        )
    best = _fit(levels, speeds)
    fitted = _law(levels, *best)
    residuals = np.log(speeds / fitted)
    residuals = (residuals - np.mean(residuals)) * np.sqrt(len(levels) / (len(levels) - 3))
    rng = np.random.default_rng(seed)
    drawn = [
        _fit(levels, fitted * np.exp(rng.choice(residuals, len(levels))))
        for _ in range(_BOOTSTRAPS)
    ]
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    wider = _student(len(levels) - 3)
    single, contention, crosstalk = (
        Coefficient(float(v), max(0.0, v - wider * max(0.0, v - a)), v + wider * max(0.0, b - v))
        for v, a, b in zip(best.tolist(), low.tolist(), high.tolist(), strict=True)
    )
    return Scaling(single, contention, crosstalk, int(distinct.max()))


Floats = NDArray[np.float64]


def _student(degrees: int) -> float:
    """How much wider an interval is whose spread is known from so few degrees of freedom."""
    return student.reach(0.95, degrees) / student.reach(0.95, float("inf"))


def _law(writers: Floats, single: float, contention: float, crosstalk: float) -> Floats:
    cost = 1 + contention * (writers - 1) + crosstalk * writers * (writers - 1)
    speeds: Floats = single * writers / cost
    return speeds


def _fit(writers: Floats, speeds: Floats) -> Floats:
    """Gauss-Newton on the logarithms: writers / X(n) is linear in 1, sigma and kappa over lambda,
    and none of them is below 0, so that each step is a non-negative least squares.
    """
    parts = np.column_stack([np.ones(len(writers)), writers - 1, writers * (writers - 1)])
    costs = _costs(parts, writers / speeds)
    if costs[1] > costs[0]:  # contention ends at 1, where writers only take turns
        turns = np.column_stack([writers, parts[:, 2]])
        costs = _costs(turns, writers / speeds)[[0, 0, 1]]
    first = max(float(costs[0]), 1e-300)
    return np.array([1 / first, costs[1] / first, costs[2] / first])


def _costs(parts: Floats, seen: Floats) -> Floats:
    from scipy.optimize import nnls

    fitted, costs = seen, np.zeros(parts.shape[1])
    for _ in range(_STEPS):
        scaled = parts / fitted[:, None]
        before, costs = costs, nnls(scaled, 1 + np.log(seen / fitted))[0]
        fitted = np.maximum(parts @ costs, seen / 1e3)
        if np.allclose(before, costs, rtol=1e-9, atol=0):
            break
    return costs
