"""Student's t."""

from __future__ import annotations


def quantile(share: float, degrees: float) -> float:
    """What a t of so many degrees of freedom, at least one, is below with that chance."""
    from scipy.special import stdtrit  # scipy.stats.t is the same, a hundred times slower

    return float(stdtrit(max(1.0, degrees), share))


def reach(confidence: float, degrees: float) -> float:
    """How many standard errors a two-sided interval reaches to each side."""
    return quantile((1 + confidence) / 2, degrees)
