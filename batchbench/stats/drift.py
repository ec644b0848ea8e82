"""Whether the machine stayed the same while a run measured: its yardstick says so."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

DRIFT = 0.15
"""Medians moved 5-14 % between restarts of a server on a machine at rest."""

SPREAD = 0.35
"""One trial varied by 0.12-0.18 there."""


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
    names: list[Hashable] = list(epochs) if epochs is not None else []
    if len(set(names)) < 2:
        half = len(logs) // 2
        names = [*["first half"] * half, *["second half"] * (len(logs) - half)]
    medians = [
        float(np.median(logs[[other == name for other in names]])) for name in dict.fromkeys(names)
    ]
    drift = float(np.expm1(max(medians) - min(medians)))
    spread = float(1.4826 * np.median(np.abs(logs - np.median(logs))))
    reasons = []
    if drift > DRIFT:
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
