"""Several comparisons at once: the more are made, the more luck is among them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from batchbench.stats import student
from batchbench.stats.ratio import Ratio, paired_ratio

K = TypeVar("K", bound=Hashable)


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """p-values that hold for all comparisons together. Source: Holm (1979)."""
    ordered = sorted(p_values, key=lambda name: p_values[name])
    adjusted, largest = {}, 0.0
    for rank, name in enumerate(ordered):
        largest = max(largest, min(1.0, (len(ordered) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def against_all(
    one: ArrayLike,
    others: Mapping[K, ArrayLike],
    *,
    epochs: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> dict[K, Ratio]:
    """`one` against each of the others, with intervals that hold for all of them together.

    Source: Bonferroni's inequality, which needs no independence: all share the trials of `one`.
    """
    each = 1 - (1 - confidence) / max(1, len(others))
    return {
        name: paired_ratio(one, other, epochs=epochs, confidence=each)
        for name, other in others.items()
    }


def p_value(ratio: Ratio) -> float | None:
    """Two-sided, that there is no difference; None under six pairs."""
    if ratio.error is None:
        return None
    if ratio.error == 0:
        return 1.0 if ratio.log == 0 else 0.0
    from scipy.special import stdtr

    return float(2 * stdtr(max(1.0, ratio.degrees), -abs(ratio.log) / ratio.error))


def lower_bound(ratio: Ratio, confidence: float = 0.95) -> float | None:
    """One-sided: the ratio is over this, with that confidence; None under six pairs."""
    if ratio.error is None:
        return None
    reach = student.quantile(confidence, ratio.degrees) * ratio.error
    return float(np.exp(ratio.log - reach))
