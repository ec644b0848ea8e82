"""What a person should know of how a table will be written."""

from __future__ import annotations

from batchbench.drivers import CAPABILITIES
from batchbench.engine.plan import ShapePlan, TablePlan


def order_notice(plan: TablePlan) -> str | None:
    """What to say where several writers have to take turns, else None."""
    key = plan.key
    if key is None or plan.options.writers == 1 or plan.ordered_by(partial=False):
        return None
    return (
        f"table {plan.table.name}: one chunk at a time, because only the server can tell the keys"
        f" of {key.name} apart"
    )


def split_notice(plan: TablePlan, shape: ShapePlan) -> str | None:
    """What to say where the configured chunk size is over the limit, else None."""
    if plan.adapts or shape.chunk_rows >= plan.configured_rows:
        return None
    use, driver = shape.chunk_plan.use, plan.options.driver_name
    limit = CAPABILITIES[driver].parameter_limit
    return (
        f"table {plan.table.name}: {plan.configured_rows:,} rows a chunk make"
        f" {use.of(plan.configured_rows):,} parameters, {driver} takes {limit:,} a statement:"
        f" split into chunks of {shape.chunk_rows:,} rows"
    )
