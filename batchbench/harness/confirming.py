"""Fresh runs of what a run recommends, beside all that could be better. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from batchbench.harness.pace import spent_s
from batchbench.harness.plan import Configuration, SweepPlan, plan_from_document
from batchbench.results import Run

CONFIRMATION_S = 180.0
"""Of a confirmation, unless its time is named."""

_PAIRS = 60
_EPOCHS = 6  # so many show by themselves how far lives of a server lie apart
_WHOLE = 0.75  # of its time: what was not broken off only lacks room for another block


def confirmation_plan(
    run: Run, configurations: Sequence[Configuration], budget_s: float
) -> SweepPlan:
    """The next confirmation of `run`, under its conditions. Raises ConfigError where its plan
    cannot be read.
    """
    plan = plan_from_document(dict(run.info.plan))
    return replace(
        plan,
        configurations=tuple(configurations),
        repeats=_PAIRS,
        epochs=_EPOCHS,
        seed=plan.seed + 1 + len(run.confirmations),
        budget_s=budget_s,
        search=None,
    )


def unfinished(run: Run, configurations: Sequence[Configuration]) -> SweepPlan | None:
    """The plan of the last confirmation of `run`, where it is of these configurations and was
    broken off with time left.
    """
    if not run.confirmations:
        return None
    last = run.confirmations[-1]
    plan = plan_from_document(dict(last.info.plan))
    blocks = {record.block for record in last.trials}
    if set(plan.configurations) != set(configurations) or len(blocks) >= plan.repeats:
        return None
    return plan if spent_s(last) < _WHOLE * (plan.budget_s or float("inf")) else None
