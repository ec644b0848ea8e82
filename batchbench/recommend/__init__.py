"""Records -> advice: the `BATCH_*` values to use, each with its reason. Pure.

A configuration is scored by its speed relative to the others of its table in the same block, so
that a machine that drifts does not matter; the score is the median over blocks. Choices go by
estimates, never by "not significantly worse": few data would make the smallest chunk win.
"""

from batchbench.recommend.ages import FlushAge, flush_ages
from batchbench.recommend.choice import (
    ENOUGH,
    GoalVerdict,
    Recommendation,
    env_text,
    recommend,
)
from batchbench.recommend.confirming import (
    REACH,
    TARGET,
    Claim,
    ClaimVerdict,
    Finalist,
    finalist_of,
    judge_claims,
)
from batchbench.recommend.explaining import Explanation, Option, explain, pareto_front
from batchbench.recommend.ranking import RankingRow, Way, ranking
from batchbench.recommend.scaling import Ladder, Limit, ladders, say_fit
from batchbench.recommend.sustained import Sustained

__all__ = [
    "ENOUGH",
    "REACH",
    "TARGET",
    "Claim",
    "ClaimVerdict",
    "Explanation",
    "Finalist",
    "FlushAge",
    "GoalVerdict",
    "Ladder",
    "Limit",
    "Option",
    "RankingRow",
    "Recommendation",
    "Sustained",
    "Way",
    "env_text",
    "explain",
    "finalist_of",
    "flush_ages",
    "judge_claims",
    "ladders",
    "pareto_front",
    "ranking",
    "recommend",
    "say_fit",
]
