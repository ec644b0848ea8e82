"""Statistics of measured trials: pure functions of numbers, honest about doubt."""

from batchbench.stats.additive import additive_levels
from batchbench.stats.drift import Drift, drift_of
from batchbench.stats.family import against_all, holm, lower_bound, p_value
from batchbench.stats.histogram import Histogram, histogram_of
from batchbench.stats.race import hopeless, looks
from batchbench.stats.ratio import FEWEST_PAIRS, Ratio, paired_ratio, ratio_of_logs
from batchbench.stats.scaling import Coefficient, Scaling, fit_scaling
from batchbench.stats.tail import quantile_interval
from batchbench.stats.verdict import (
    DELTA,
    Finding,
    Verdict,
    detectable,
    judge,
    pairs_needed,
    smallest_difference,
)

__all__ = [
    "DELTA",
    "FEWEST_PAIRS",
    "Coefficient",
    "Drift",
    "Finding",
    "Histogram",
    "Ratio",
    "Scaling",
    "Verdict",
    "additive_levels",
    "against_all",
    "detectable",
    "drift_of",
    "fit_scaling",
    "histogram_of",
    "holm",
    "hopeless",
    "judge",
    "looks",
    "lower_bound",
    "p_value",
    "paired_ratio",
    "pairs_needed",
    "quantile_interval",
    "ratio_of_logs",
    "smallest_difference",
]
