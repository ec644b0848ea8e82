"""The engine: schedule, transactions, accounting. What is measured is what is shipped."""

from batchbench.accounting import ChunkSize, LoadResult, TableCounts
from batchbench.engine.load import load, plan_load
from batchbench.engine.plan import LoadOptions, LoadPlan, TablePlan
from batchbench.engine.run import LoadError

__all__ = [
    "ChunkSize",
    "LoadError",
    "LoadOptions",
    "LoadPlan",
    "LoadResult",
    "TableCounts",
    "TablePlan",
    "load",
    "plan_load",
]
