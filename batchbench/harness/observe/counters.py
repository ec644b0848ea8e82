"""Where the server counts what a load costs it: one query for each view and version.

A source is a SELECT of one text: a JSON object of metric -> count so far, and "reset", the time
since when it counts. Differences of two readings are the load's, and others' of the same time.

Sources: PostgreSQL's documentation, "The Cumulative Statistics System", of 15 to 18.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CounterSource:
    """A view whose counts only grow.

    metrics: the names that this server's version has. sql: "" where it has none of them.
    missing: other names of the registry that belong here -> why this version lacks them.
    """

    name: str
    sql: str
    metrics: tuple[str, ...]
    missing: Mapping[str, str]


def counter_sources(server_version: int) -> tuple[CounterSource, ...]:
    """All of them for a server. server_version: as in server_version_num."""
    major = server_version // 10_000
    return (
        _wal(major),
        _source("pg_current_wal_insert_lsn", _WAL_POSITION, ""),
        _io(major),
        _checkpoints(major),
        _bgwriter(major),
        _source("pg_stat_database", _DATABASE, "FROM pg_catalog.pg_stat_database", _OWN_DATABASE),
    )


_WAL_POSITION = {
    "wal_lsn_bytes": "pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')"
}
_OWN_DATABASE = "WHERE datname = pg_catalog.current_database()"
_DATABASE = {
    "transactions": "xact_commit",
    "rollbacks": "xact_rollback",
    "blocks_read": "blks_read",
    "blocks_hit": "blks_hit",
    "temp_files": "temp_files",
    "temp_bytes": "temp_bytes",
    "deadlocks": "deadlocks",
}
_NO_IO = "PostgreSQL {major} has no pg_stat_io; 16 and newer have"
_MOVED = "PostgreSQL {major} counts it in pg_stat_io instead: see io_client_*"


def _source(
    name: str,
    metrics: Mapping[str, str],
    tail: str,
    where: str = "",
    *,
    reset: str = "stats_reset",
    missing: Mapping[str, str] | None = None,
) -> CounterSource:
    """metrics: name -> SQL of its count. tail: FROM; without it there is nothing to reset."""
    pairs = [f"'{metric}', {count}" for metric, count in metrics.items()]
    pairs.append(f"'reset', {reset if tail else 'NULL'}")
    sql = f"SELECT pg_catalog.json_build_object({', '.join(pairs)})::text {tail} {where}"
    return CounterSource(name, sql.strip(), tuple(metrics), missing or {})


def _wal(major: int) -> CounterSource:
    names = ("wal_bytes", "wal_records", "wal_fpi", "wal_buffers_full")
    metrics = {name: name for name in names}
    if major < 18:
        metrics |= {"wal_writes": "wal_write", "wal_fsyncs": "wal_sync"}
    return _source("pg_stat_wal", metrics, "FROM pg_catalog.pg_stat_wal")


_CLIENT = "backend_type = 'client backend' AND object <> 'wal'"


def _io(major: int) -> CounterSource:
    """Bytes in every version: 18 counts them, 16 and 17 count operations of `op_bytes`."""
    if major < 16:
        why = _NO_IO.format(major=major)
        names = [name for name in _io_metrics("", "", "") if not name.startswith("wal_")]
        return CounterSource("pg_stat_io", "", (), dict.fromkeys(names, why))
    if major < 18:
        metrics = _io_metrics("reads * op_bytes", "writes * op_bytes", "extends * op_bytes")
        del metrics["wal_writes"], metrics["wal_fsyncs"]
    else:
        metrics = _io_metrics("read_bytes", "write_bytes", "extend_bytes")
    tail = "FROM pg_catalog.pg_stat_io"
    return _source("pg_stat_io", metrics, tail, reset="pg_catalog.max(stats_reset)")


def _io_metrics(read: str, written: str, extended: str) -> dict[str, str]:
    both = f"coalesce({written}, 0) + coalesce({extended}, 0)"
    other = "backend_type <> 'client backend' AND object <> 'wal'"
    return {
        "io_client_read_bytes": _summed(read, _CLIENT),
        "io_client_written_bytes": _summed(written, _CLIENT),
        "io_client_extended_bytes": _summed(extended, _CLIENT),
        "io_client_bulkwrite_bytes": _summed(both, f"{_CLIENT} AND context = 'bulkwrite'"),
        "io_client_fsyncs": _summed("fsyncs", _CLIENT),
        "io_client_evictions": _summed("evictions", _CLIENT),
        "io_other_written_bytes": _summed(written, other),
        "wal_writes": _summed("writes", "object = 'wal' AND context = 'normal'"),
        "wal_fsyncs": _summed("fsyncs", "object = 'wal' AND context = 'normal'"),
    }


def _summed(what: str, where: str) -> str:
    return f"coalesce(pg_catalog.sum({what}) FILTER (WHERE {where}), 0)"


def _checkpoints(major: int) -> CounterSource:
    if major < 17:
        metrics = {
            "checkpoints": "checkpoints_timed + checkpoints_req",
            "checkpoint_buffers": "buffers_checkpoint",
            "checkpoint_write_ms": "checkpoint_write_time",
            "checkpoint_sync_ms": "checkpoint_sync_time",
        }
        return _source(
            "pg_stat_bgwriter (checkpoints)", metrics, "FROM pg_catalog.pg_stat_bgwriter"
        )
    metrics = {
        # 17 counts also those that it skipped, since nothing had happened.
        "checkpoints": "num_done" if major >= 18 else "num_timed + num_requested",
        "checkpoint_buffers": "buffers_written",
        "checkpoint_write_ms": "write_time",
        "checkpoint_sync_ms": "sync_time",
    }
    return _source("pg_stat_checkpointer", metrics, "FROM pg_catalog.pg_stat_checkpointer")


def _bgwriter(major: int) -> CounterSource:
    metrics = {
        "bgwriter_buffers": "buffers_clean",
        "bgwriter_stops": "maxwritten_clean",
        "buffers_allocated": "buffers_alloc",
    }
    own = {"backend_buffers": "buffers_backend", "backend_fsyncs": "buffers_backend_fsync"}
    missing = {}
    if major < 17:
        metrics |= own
    else:
        missing = dict.fromkeys(own, _MOVED.format(major=major))
    tail = "FROM pg_catalog.pg_stat_bgwriter"
    return _source("pg_stat_bgwriter", metrics, tail, missing=missing)
