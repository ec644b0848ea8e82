"""Two runs that did not run side by side."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from batchbench.stats import student
from batchbench.stats.ratio import FEWEST_PAIRS, Ratio, ratio_of_logs


def unpaired_ratio(
    one: ArrayLike,
    other: ArrayLike,
    *,
    epochs: Sequence[Hashable] | None = None,
    other_epochs: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
) -> Ratio:
    """How many times as fast the trials of `one` run are as those of an`other` run.

    one, other: positive speeds, better divided by the speed of each run's own yardstick, since
    nothing pairs them. Each run has the error that `ratio_of_logs` gives its own mean.
    Source: Welch (1947), Satterthwaite's degrees of freedom.
    """
    sides = [
        ratio_of_logs(np.log(np.asarray(values, float)), epochs=of, confidence=confidence)
        for values, of in ((one, epochs), (other, other_epochs))
    ]
    centre = sides[0].log - sides[1].log
    pairs = min(side.pairs for side in sides)
    groups = min(side.epochs for side in sides)
    errors = [side.error for side in sides if side.error is not None]
    estimate = float(np.exp(centre))
    if len(errors) < 2 or pairs < FEWEST_PAIRS:
        return Ratio(estimate, None, None, pairs, groups, confidence, None, None, 0.0)
    variances = [error**2 for error in errors]
    total = sum(variances)
    squares = sum(v**2 / side.degrees for v, side in zip(variances, sides, strict=True))
    degrees = total**2 / squares if squares > 0 else float(pairs - 1)
    error = float(np.sqrt(total))
    reach = student.reach(confidence, degrees) * error
    sd = float(np.hypot(sides[0].sd or 0.0, sides[1].sd or 0.0))
    low, high = float(np.exp(centre - reach)), float(np.exp(centre + reach))
    return Ratio(estimate, low, high, pairs, groups, confidence, error, sd, degrees)
