"""Versioned records of what was measured: append, load, migrate.

A run is a folder of two files:

- `run.json`, one `RunInfo`: what was run, where, on which server;
- `trials.ndjson`, one `TrialRecord` a line, in the order in which trials ended.

Runs that measured its recommendation afresh are in folders below it, `confirmation-1` and so on,
and its finalists' sustained loads in `sustained-1`.

Measurements are raw and never edited: percentiles and everything else that is computed of them is
derived on reading. Neither file holds a connection string, a host or a row's values. 1 MB is
1,000,000 bytes.
"""

from batchbench.results.arrivals import KeepingUp, keeping_up
from batchbench.results.constraints import (
    Constraints,
    constraints_of,
    p99_s,
    peak_rss_mb,
    tail_s,
    wal_mb_per_s,
)
from batchbench.results.frame import load, load_many
from batchbench.results.reading import (
    MIGRATIONS,
    Migration,
    confirmation_folder,
    load_run,
    sustained_folder,
)
from batchbench.results.records import (
    GOAL_PEAK_RSS_MB,
    GOAL_ROWS_PER_S,
    P99_CHUNKS,
    SCHEMA_VERSION,
    Environment,
    Key,
    Look,
    Regime,
    Run,
    RunInfo,
    ServerInfo,
    Sitting,
    TrialRecord,
    committed,
    meets_goal,
)
from batchbench.results.writing import RunWriter, open_run, safe_command

__all__ = [
    "GOAL_PEAK_RSS_MB",
    "GOAL_ROWS_PER_S",
    "MIGRATIONS",
    "P99_CHUNKS",
    "SCHEMA_VERSION",
    "Constraints",
    "Environment",
    "KeepingUp",
    "Key",
    "Look",
    "Migration",
    "Regime",
    "Run",
    "RunInfo",
    "RunWriter",
    "ServerInfo",
    "Sitting",
    "TrialRecord",
    "committed",
    "confirmation_folder",
    "constraints_of",
    "keeping_up",
    "load",
    "load_many",
    "load_run",
    "meets_goal",
    "open_run",
    "p99_s",
    "peak_rss_mb",
    "safe_command",
    "sustained_folder",
    "tail_s",
    "wal_mb_per_s",
]
