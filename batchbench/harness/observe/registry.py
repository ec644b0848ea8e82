"""Every metric of a trial: its name, unit, meaning, source, and which direction is better.

The only place where these stand: records store values by these names, a report takes units and
words from here. Imports nothing of batchbench, so that any floor could own it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal

Better = Literal["higher", "lower", "neither"]

Scope = Literal["load", "client", "server", "database", "table", "observer"]
"""Whose figure it is. "load": this load's alone. "client": of the client process. "server" and
"database": others' activity is in it. "table": of the table that was loaded. "observer": of the
looking itself."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of a trial.

    unit: of the stored value, "" for a plain count, "share" for a number between 0 and 1.
    meaning: one clause, for people. source: the view, file or clock that it is read from.
    better: "neither" where the figure explains and does not judge.
    """

    name: str
    unit: str
    meaning: str
    source: str
    scope: Scope
    better: Better = "neither"

    def improves(self, before: float, after: float) -> bool | None:
        """Whether `after` is better than `before`; None where neither direction is, or equal."""
        if self.better == "neither" or before == after:
            return None
        return (after > before) == (self.better == "higher")


_CLOCK = "the engine's clock"
_WAL = "pg_stat_wal"
_IO = "pg_stat_io (PostgreSQL 16 and newer), client backends"
_CHECKPOINTS = "pg_stat_checkpointer, before PostgreSQL 17 pg_stat_bgwriter"
_BGWRITER = "pg_stat_bgwriter"
_DATABASE = "pg_stat_database"
_SIZES = "pg_relation_size and its kin, all partitions"
_ACTIVITY = "pg_stat_activity, sampled"
_TUPLES = "the extension pgstattuple"

_LOAD = (
    Metric("seconds", "s", "from the first read to the last commit", _CLOCK, "load", "lower"),
    Metric("rows_per_s", "rows/s", "committed rows over `seconds`", _CLOCK, "load", "higher"),
    Metric("mb_per_s", "MB/s", "encoded rows over `seconds`", _CLOCK, "load", "higher"),
    Metric("p50_s", "s", "median latency of a chunk", _CLOCK, "load", "lower"),
    Metric("p95_s", "s", "95th percentile of the chunks' latency", _CLOCK, "load", "lower"),
    Metric("p99_s", "s", "99th percentile, from 500 chunks on", _CLOCK, "load", "lower"),
    Metric("max_s", "s", "latency of the slowest chunk", _CLOCK, "load", "lower"),
    Metric("chunks", "", "chunks that were written", "the engine", "load"),
    Metric("retries", "", "chunks that were tried again", "the engine", "load", "lower"),
)
_CLIENT = (
    Metric("cpu_s", "s", "CPU of the client process", "getrusage", "client", "lower"),
    Metric("cpu_user_s", "s", "the part of it in user space", "getrusage", "client", "lower"),
    Metric("cpu_system_s", "s", "the part of it in the kernel", "getrusage", "client", "lower"),
    Metric("peak_rss_mb", "MB", "peak resident memory", "VmHWM of /proc", "client", "lower"),
    Metric("rss_before_mb", "MB", "resident memory before the load", "/proc", "client"),
    Metric("client_bytes_per_s", "bytes/s", "encoded rows over the load", _CLOCK, "client"),
)
_SERVER = (
    Metric("wal_bytes", "bytes", "WAL that was generated", _WAL, "server", "lower"),
    Metric("wal_records", "", "WAL records", _WAL, "server", "lower"),
    Metric("wal_fpi", "", "full-page images in the WAL", _WAL, "server", "lower"),
    Metric("wal_buffers_full", "", "writes since WAL buffers were full", _WAL, "server", "lower"),
    Metric(
        "wal_writes", "", "writes of WAL to its files", f"{_WAL}, since 18 pg_stat_io", "server"
    ),
    Metric("wal_fsyncs", "", "syncs of WAL files", f"{_WAL}, since 18 pg_stat_io", "server"),
    Metric(
        "wal_lsn_bytes", "bytes", "distance of WAL positions", "pg_current_wal_insert_lsn", "server"
    ),
    Metric("io_client_read_bytes", "bytes", "read into shared buffers", _IO, "server"),
    Metric("io_client_written_bytes", "bytes", "dirty buffers written out", _IO, "server", "lower"),
    Metric("io_client_extended_bytes", "bytes", "relations grew by", _IO, "server"),
    Metric(
        "io_client_bulkwrite_bytes", "bytes", "of both, through COPY's ring buffer", _IO, "server"
    ),
    Metric("io_client_fsyncs", "", "files synced", _IO, "server", "lower"),
    Metric("io_client_evictions", "", "buffers taken from others", _IO, "server", "lower"),
    Metric(
        "io_other_written_bytes",
        "bytes",
        "buffers written by checkpointer, background writer and vacuum",
        "pg_stat_io (PostgreSQL 16 and newer), all other processes",
        "server",
    ),
    Metric("checkpoints", "", "checkpoints, begun or done", _CHECKPOINTS, "server", "lower"),
    Metric("checkpoint_buffers", "", "buffers they wrote", _CHECKPOINTS, "server"),
    Metric("checkpoint_write_ms", "ms", "time they wrote", _CHECKPOINTS, "server"),
    Metric("checkpoint_sync_ms", "ms", "time they synced", _CHECKPOINTS, "server"),
    Metric("bgwriter_buffers", "", "buffers the background writer wrote", _BGWRITER, "server"),
    Metric("bgwriter_stops", "", "times it stopped, having written its most", _BGWRITER, "server"),
    Metric("buffers_allocated", "", "shared buffers given out", _BGWRITER, "server"),
    Metric(
        "backend_buffers", "", "buffers backends wrote", f"{_BGWRITER}, until 16", "server", "lower"
    ),
    Metric(
        "backend_fsyncs", "", "files backends synced", f"{_BGWRITER}, until 16", "server", "lower"
    ),
    Metric("server_cpu_s", "s", "CPU of all the server's processes", "/proc", "server", "lower"),
)
_OF_DATABASE = (
    Metric("transactions", "", "transactions committed", _DATABASE, "database"),
    Metric("rollbacks", "", "transactions rolled back", _DATABASE, "database", "lower"),
    Metric("blocks_read", "", "blocks not found in shared buffers", _DATABASE, "database", "lower"),
    Metric("blocks_hit", "", "blocks found there", _DATABASE, "database"),
    Metric("temp_files", "", "temporary files made", _DATABASE, "database", "lower"),
    Metric("temp_bytes", "bytes", "written to temporary files", _DATABASE, "database", "lower"),
    Metric("deadlocks", "", "deadlocks broken", _DATABASE, "database", "lower"),
)
_TABLE = (
    Metric(
        "table_bytes",
        "bytes",
        "size after the load, with all that is its",
        _SIZES,
        "table",
        "lower",
    ),
    Metric("heap_bytes", "bytes", "the heap of it", _SIZES, "table", "lower"),
    Metric("index_bytes", "bytes", "all indexes of it", _SIZES, "table", "lower"),
    Metric("toast_bytes", "bytes", "TOAST and its index", _SIZES, "table", "lower"),
    Metric("heap_growth_bytes", "bytes", "what the load added to the heap", _SIZES, "table"),
    Metric("index_growth_bytes", "bytes", "what it added to the indexes", _SIZES, "table"),
    Metric(
        "heap_bytes_per_row", "bytes", "growth of heap and TOAST a row", _SIZES, "table", "lower"
    ),
    Metric("index_bytes_per_row", "bytes", "growth of indexes a row", _SIZES, "table", "lower"),
    Metric("dead_tuples", "", "dead row versions", "pg_stat_all_tables", "table", "lower"),
    Metric("heap_bloat_share", "share", "dead or free part of the heap", _TUPLES, "table", "lower"),
    Metric(
        "index_leaf_density_share", "share", "B-tree leaf pages in use", _TUPLES, "table", "higher"
    ),
)
_BACKENDS = (
    Metric("backends", "", "most backends of the load at once", _ACTIVITY, "load", "lower"),
    Metric("running_share", "share", "backends' time without a wait", _ACTIVITY, "load"),
    Metric(
        "client_wait_share", "share", "backends' time waiting for the client", _ACTIVITY, "load"
    ),
    Metric("lock_wait_share", "share", "time waiting for locks", _ACTIVITY, "load", "lower"),
    Metric("locks_waiting", "", "most backends waiting for one", _ACTIVITY, "load", "lower"),
    Metric(
        "backend_cpu_s",
        "s",
        "CPU of the load's backends at the last look",
        "/proc",
        "load",
        "lower",
    ),
    Metric(
        "backend_pss_mb",
        "MB",
        "most memory of the load's backends at once, shared parts divided",
        "PSS of /proc/PID/smaps_rollup, sampled",
        "load",
        "lower",
    ),
)
_OBSERVER = (
    Metric("samples", "", "looks at pg_stat_activity", "the sampler", "observer"),
    Metric(
        "sampler_cpu_share",
        "share",
        "of one core that looking took, backend included where local",
        "the thread's clock and /proc",
        "observer",
        "lower",
    ),
)

METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for group in (_LOAD, _CLIENT, _SERVER, _OF_DATABASE, _TABLE, _BACKENDS, _OBSERVER)
        for metric in group
    }
)
"""By name, in the order in which people read them."""


def find_metric(name: str) -> Metric:
    """Look a metric up. Raises KeyError, with the way out, for a name that is none."""
    try:
        return METRICS[name]
    except KeyError:
        raise KeyError(
            f"{name!r} is no metric; give it a unit and a meaning in observe/registry.py"
        ) from None


def metrics_of(*scopes: Scope) -> tuple[Metric, ...]:
    """The metrics of some scopes, in order."""
    return tuple(metric for metric in METRICS.values() if metric.scope in scopes)


def label(name: str) -> str:
    """For a table's head or an axis: "wal_bytes (bytes)", "retries"."""
    unit = find_metric(name).unit
    return f"{name} ({unit})" if unit else name


def document() -> dict[str, dict[str, str]]:
    """The registry as JSON takes it, so that a stored run explains itself."""
    return {name: asdict(metric) for name, metric in METRICS.items()}
