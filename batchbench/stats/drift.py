"""Whether the machine stayed the same while a run measured: its yardstick says so.

A few yardstick trials have medians that differ by chance; only what is beyond that, and beyond
what restarts of a server on a machine at rest do, counts (tests/test_stats_simulated.py).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRIFT = 0.15
"""Less never counts: medians moved 5-14 % between restarts of a server on a machine at rest."""

SPREAD = 0.35
"""One trial varied by 0.12-0.18 there."""

_LIVES_SD = 0.05  # of the logarithms of such medians
_TRIAL_SD = 0.15  # of one trial's
_BELIEF = 4  # what that weighs against the run's own trials, in trials

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Drift:
    """drift: largest against smallest median of the epochs (of the run's halves where there is one
    epoch), less 1. spread: robust standard deviation of the logarithms. reasons: why the run is
    contaminated, empty where it is clean.
    """

    drift: float
    spread: float
    reasons: tuple[str, ...]

    @property
    def contaminated(self) -> bool:
        """Whether the run is not to be trusted."""
        return bool(self.reasons)


def drift_of(seconds: ArrayLike, epochs: Sequence[Hashable] | None = None) -> Drift:
    """Of the yardstick's times, in the order in which they were measured.

    Raises ValueError where there are fewer than two.
    """
    logs = np.log(np.asarray(seconds, float))
    if len(logs) < 2:
        raise ValueError("one yardstick trial shows no drift")
    groups = _groups(logs, epochs)
    medians = [float(np.median(group)) for group in groups]
    moved = max(medians) - min(medians)
    drift = float(np.expm1(moved))
    spread = float(1.4826 * np.median(np.abs(logs - np.median(logs))))
    reasons = []
    if moved > _by_chance(groups, medians):
        reasons.append(
            f"the yardstick's medians moved by {drift:.0%}: the machine was not the same all the"
            " time; repeat the run when nothing else uses it"
        )
    if spread > SPREAD:
        reasons.append(
            f"single yardstick trials varied by {spread:.0%}: the machine was busy with something"
            " else; repeat the run when it is not"
        )
    return Drift(drift, spread, tuple(reasons))


def _groups(logs: Floats, epochs: Sequence[Hashable] | None) -> list[Floats]:
    """The epochs; of one, its halves."""
    names = list(dict.fromkeys(() if epochs is None else epochs))
    if epochs is None or len(names) < 2:
        return [logs[: len(logs) // 2], logs[len(logs) // 2 :]]
    return [logs[[epoch == name for epoch in epochs]] for name in names]


def _by_chance(groups: Sequence[Floats], medians: Sequence[float]) -> float:
    """How far the medians may lie apart on a machine at rest, in 95 of 100 runs, at least `DRIFT`.

    Source: Tukey's studentized range; pi / 2 is the variance of a median against a mean's.
    """
    off = np.concatenate([abs(g - m) for g, m in zip(groups, medians, strict=True)])
    free = len(off) - len(groups)
    # mean deviations: one trial that hung must not hide a drift
    own = np.pi / 2 * float(np.mean(off)) ** 2 * len(off) / free if free else 0.0
    trial = (_BELIEF * _TRIAL_SD**2 + free * own) / (_BELIEF + free)
    sampling = float(np.mean([trial * np.pi / 2 / len(group) for group in groups]))
    at_rest = _width(len(groups)) * float(np.sqrt(_LIVES_SD**2 + sampling))
    return max(float(np.log1p(DRIFT)), at_rest)


@lru_cache(maxsize=64)
def _width(count: int) -> float:
    """Within which so many normal values lie, in 95 of 100 cases, in standard deviations."""
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(0.95, count, np.inf))
