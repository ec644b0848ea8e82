"""Fresh runs of what a run recommends, beside all that could be better: many short trials in
blocks, and one sustained load of each. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from batchbench.harness.pace import EPOCH_S, spent_s
from batchbench.harness.plan import Configuration, SweepPlan, plan_from_document
from batchbench.harness.planning import MOST_ROWS
from batchbench.results import Run

CONFIRMATION_S = 180.0
"""Of a confirmation, unless its time is named."""

_PAIRS = 60
_EPOCHS = 6  # so many show by themselves how far lives of a server lie apart
SUSTAINED_SHARE = 0.3
"""Of a confirmation's time, that sustained loads may take."""

_SUSTAINED_S = (5, 4, 3, 2)  # of the fastest load; of one second nothing could be told by interval
_SETTLING_S = 1.0  # VACUUM and CHECKPOINT after each
_HANDLED_ROWS_PER_S = 250_000.0  # made and encoded before, counted and compared after

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


def sustained_plan(
    run: Run, rows_per_s: Mapping[Configuration, float], budget_s: float
) -> tuple[SweepPlan, float]:
    """One long load of each configuration, with VACUUM and CHECKPOINT in the clock, and about how
    long all of it takes: the longest loads that fit the budget, else the shortest worth having.

    rows_per_s: what each is expected to do.
    """
    plan = plan_from_document(dict(run.info.plan))
    made = [
        replace(
            plan,
            configurations=tuple(rows_per_s),
            rows=max(plan.rows, min(MOST_ROWS, int(seconds * max(rows_per_s.values())))),
            repeats=1,
            warmups=0,
            epochs=1,
            regime="sustained",
            budget_s=None,
            search=None,
        )
        for seconds in _SUSTAINED_S
    ]
    needs = [(one, _sustained_s(one, rows_per_s)) for one in made]
    return next((one for one in needs if one[1] <= budget_s), needs[-1])


def _sustained_s(plan: SweepPlan, rows_per_s: Mapping[Configuration, float]) -> float:
    speeds = [*rows_per_s.values(), *[max(rows_per_s.values())] * len(plan.tables)]
    loads_s = sum(plan.rows / speed + _SETTLING_S for speed in speeds)
    handled = plan.rows * (plan.block_size + len(plan.tables))
    return EPOCH_S + loads_s + handled / _HANDLED_ROWS_PER_S


def is_whole(run: Run) -> bool:
    """Whether all that a run of one block planned is recorded."""
    plan = plan_from_document(dict(run.info.plan))
    return len(run.trials) >= plan.repeats * len(plan.configurations)


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
