"""The harness: plan -> interleaved trials of the engine's own load -> records."""

from batchbench.harness.confirming import (
    CONFIRMATION_S,
    SUSTAINED_SHARE,
    confirmation_plan,
    is_whole,
    sustained_plan,
    unfinished,
)
from batchbench.harness.plan import (
    DEFAULT_ROWS,
    PAYLOAD_ROWS,
    Configuration,
    SweepPlan,
    Trial,
    plan_from_document,
)
from batchbench.harness.planning import (
    DEFAULT_BUDGET_S,
    FEWEST_CHUNKS,
    MOST_BLOCKS,
    arriving_rows,
    configured,
    default_plan,
    full_grid,
    plan_s,
    sized,
    ticket_count,
)
from batchbench.harness.process import Footprint
from batchbench.harness.progress import (
    Looked,
    Preparing,
    SweepEvent,
    SweepListener,
    SweepNotice,
    SweepStarted,
    TrialEnded,
)
from batchbench.harness.search import Search
from batchbench.harness.spread import PAIR_SD, pair_sd
from batchbench.harness.subject import Subject, profile_subject, table_subjects
from batchbench.harness.surroundings import usable_cores
from batchbench.harness.sweep import run_sweep
from batchbench.harness.tuning import (
    SEARCH_SHARE,
    TUNE_BUDGET_S,
    Space,
    first_block_s,
    tune_plan,
)

__all__ = [
    "CONFIRMATION_S",
    "DEFAULT_BUDGET_S",
    "DEFAULT_ROWS",
    "FEWEST_CHUNKS",
    "MOST_BLOCKS",
    "PAIR_SD",
    "PAYLOAD_ROWS",
    "SEARCH_SHARE",
    "SUSTAINED_SHARE",
    "TUNE_BUDGET_S",
    "Configuration",
    "Footprint",
    "Looked",
    "Preparing",
    "Search",
    "Space",
    "Subject",
    "SweepEvent",
    "SweepListener",
    "SweepNotice",
    "SweepPlan",
    "SweepStarted",
    "Trial",
    "TrialEnded",
    "arriving_rows",
    "configured",
    "confirmation_plan",
    "default_plan",
    "first_block_s",
    "full_grid",
    "is_whole",
    "pair_sd",
    "plan_from_document",
    "plan_s",
    "profile_subject",
    "run_sweep",
    "sized",
    "sustained_plan",
    "table_subjects",
    "ticket_count",
    "tune_plan",
    "unfinished",
    "usable_cores",
]
