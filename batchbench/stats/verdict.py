"""What may be said of a ratio: different, equivalent, or that it cannot be told.

Source of the equivalence test: Schuirmann (1987), two one-sided tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np

from batchbench.stats import student
from batchbench.stats.ratio import FEWEST_PAIRS, Ratio, planned_error

DELTA = 0.02
"""What counts as equivalent. With enough pairs any two runs differ by some per mille; A/A runs
showed up to 2.6 % at p = 0.004, so that significance alone is no claim."""

POWER = 0.9
"""Of a difference that is promised to be found (tests/test_stats_simulated.py)."""
ALPHA = 0.05
_ERRORS = 100


class Finding(StrEnum):
    """One of three."""

    DIFFERENT = "different"
    EQUIVALENT = "equivalent"
    UNDECIDED = "cannot tell"


@dataclass(frozen=True, slots=True)
class Verdict:
    """finding: what may be said of `ratio`. delta: what counted as equivalent.
    smallest: the smallest difference that such a run finds nine times in ten, as a share; None
        where there are too few pairs for any.
    """

    finding: Finding
    ratio: Ratio
    delta: float
    smallest: float | None

    @property
    def sign(self) -> str:
        """ "+" or "-", "~" for equivalent, "??" for cannot tell."""
        if self.finding is Finding.DIFFERENT:
            return "+" if self.ratio.estimate > 1 else "-"
        return "~" if self.finding is Finding.EQUIVALENT else "??"


def judge(ratio: Ratio, delta: float = DELTA) -> Verdict:
    """Different: the whole interval is beyond `delta`. Equivalent: the 90 %
    interval (two one-sided tests at 5 %) lies within `delta`.
    """
    smallest = smallest_difference(ratio, delta)
    if ratio.low is None or ratio.high is None or ratio.error is None:
        return Verdict(Finding.UNDECIDED, ratio, delta, smallest)
    band = np.log1p(delta)
    if ratio.low > 1 + delta or ratio.high < 1 / (1 + delta):
        return Verdict(Finding.DIFFERENT, ratio, delta, smallest)
    reach = student.quantile(1 - ALPHA, ratio.degrees) * ratio.error
    if abs(ratio.log) + reach < band:
        return Verdict(Finding.EQUIVALENT, ratio, delta, smallest)
    return Verdict(Finding.UNDECIDED, ratio, delta, smallest)


def smallest_difference(ratio: Ratio, delta: float = DELTA) -> float | None:
    """The smallest true difference that such a run would show, `POWER` of the times, as a share.

    That the run's own error is an estimate as well is counted in: of few pairs it may be half of
    what the next run has. None under six pairs.
    """
    if ratio.error is None:
        return None
    factor = _factor(ratio.degrees, ratio.confidence, estimated=True)
    return _shown(factor, ratio.error, delta)


def detectable(sd: float, pairs: int, epochs: int = 1, *, confidence: float = 0.95) -> float | None:
    """The smallest difference that a plan would show, `POWER` of the times, as a share.

    sd: of one pair's log ratio. None under `FEWEST_PAIRS` pairs.
    """
    if pairs < FEWEST_PAIRS:
        return None
    error, degrees = planned_error(sd, pairs, epochs)
    return _shown(_factor(degrees, confidence, estimated=False), error, DELTA)


def _shown(factor: float, error: float, delta: float) -> float:
    """Its interval must be beyond delta."""
    return float(np.expm1(np.log1p(delta) + factor * error))


@lru_cache(maxsize=4096)
def _factor(degrees: float, confidence: float, *, estimated: bool) -> float:
    """Of how many standard errors a difference must be to be found, `POWER` of the times.

    The run that finds it has an error of its own, off by sqrt(chi2 / degrees); where the error is
    `estimated`, so is the one that the difference is told in. Source: the noncentral t, as a mean
    over equally likely errors.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr
    from scipy.stats import chi2

    needed = student.reach(confidence, degrees)
    shares = (np.arange(_ERRORS) + 0.5) / _ERRORS
    off = np.sqrt(chi2.ppf(shares, max(1.0, degrees)) / max(1.0, degrees))
    told = off[:, None] if estimated else np.ones((1, 1))

    def lacks(factor: float) -> float:
        return float(np.mean(ndtr(factor * told - needed * off))) - POWER

    return float(brentq(lacks, 0.0, 100.0 * needed))


def pairs_needed(
    sd: float, difference: float, epochs: int = 1, *, most: int = 100_000
) -> int | None:
    """How many pairs show a difference of that share; None where `most` do not.

    More pairs of the same few epochs do not help against what the epochs have in common.
    """
    if not difference > 0:
        raise ValueError("the difference must be over 0")
    low, high = FEWEST_PAIRS, most
    if (detectable(sd, high, epochs) or np.inf) > difference:
        return None
    while low < high:
        middle = (low + high) // 2
        if (detectable(sd, middle, epochs) or np.inf) <= difference:
            high = middle
        else:
            low = middle + 1
    return low
