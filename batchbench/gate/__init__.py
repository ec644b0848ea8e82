"""The gate: holds runs against rules, for CI."""

from batchbench.gate.judging import (
    Result,
    Status,
    exit_code,
    judge_baseline,
    judge_pairs,
    judge_ratio,
    judge_run,
    worst_first,
)
from batchbench.gate.portability import (
    PORTABILITY_FILE,
    Portability,
    portability,
    portability_text,
    read_portability,
)
from batchbench.gate.rules import GOAL, METRICS, Rule, Rules, configured_rules, read_rules
from batchbench.gate.showing import document, headline, junit, markdown

__all__ = [
    "GOAL",
    "METRICS",
    "PORTABILITY_FILE",
    "Portability",
    "Result",
    "Rule",
    "Rules",
    "Status",
    "configured_rules",
    "document",
    "exit_code",
    "headline",
    "judge_baseline",
    "judge_pairs",
    "judge_ratio",
    "judge_run",
    "junit",
    "markdown",
    "portability",
    "portability_text",
    "read_portability",
    "read_rules",
    "worst_first",
]
