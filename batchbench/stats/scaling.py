"""Throughput over the number of writers, and what limits it.

Source: Gunther, Guerrilla Capacity Planning: the Universal Scalability Law,
X(n) = lambda n / (1 + sigma (n - 1) + kappa n (n - 1)).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FEWEST_LEVELS = 6
_BOOTSTRAPS = 200


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
        """Writers at which throughput is largest; None where it grows past what may be said."""
        sigma, kappa = self.contention.value, self.crosstalk.value
        if kappa <= 0:
            return None
        peak = float(np.sqrt(max(0.0, 1 - sigma) / kappa))
        return peak if peak <= 2 * self.largest else None


def fit_scaling(writers: Sequence[int], rows_per_s: Sequence[float], seed: int = 1) -> Scaling:
    """Fit to trials, by relative least squares; intervals by a bootstrap over trials of each level.

    Raises ValueError under six levels.
    """
    levels, speeds = np.asarray(writers, float), np.asarray(rows_per_s, float)
    distinct = np.unique(levels)
    if len(distinct) < FEWEST_LEVELS:
        raise ValueError(
            f"{len(distinct)} numbers of writers were measured; a fit needs {FEWEST_LEVELS}"
        )
    best = _fit(levels, speeds)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_BOOTSTRAPS):
        picks = np.concatenate(
            [rng.choice(at := np.flatnonzero(levels == level), len(at)) for level in distinct]
        )
        drawn.append(_fit(levels[picks], speeds[picks], best))
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    single, contention, crosstalk = (
        Coefficient(float(v), float(min(a, v)), float(max(b, v)))
        for v, a, b in zip(best, low, high, strict=True)
    )
    return Scaling(single, contention, crosstalk, int(distinct.max()))


Floats = NDArray[np.float64]


def _law(writers: Floats, single: float, contention: float, crosstalk: float) -> Floats:
    cost = 1 + contention * (writers - 1) + crosstalk * writers * (writers - 1)
    speeds: Floats = single * writers / cost
    return speeds


def _fit(writers: Floats, speeds: Floats, start: Floats | None = None) -> Floats:
    from scipy.optimize import least_squares

    scale = float(np.median(speeds / writers))
    first = (
        np.array([1.0, 0.1, 0.01]) if start is None else np.array([start[0] / scale, *start[1:]])
    )

    def error(values: Floats) -> Floats:
        return np.log(_law(writers, values[0] * scale, values[1], values[2])) - np.log(speeds)

    bounds = ([1e-6, 0, 0], [np.inf, 1, 1])
    found = least_squares(error, np.clip(first, bounds[0], [1e9, 1, 1]), bounds=bounds).x
    return np.array([found[0] * scale, found[1], found[2]])
