"""What a load costs the server: counters and sizes, before and after.

When a backend reports. It adds to the shared counters at the end of a transaction, but at most
once a second, later what is left, and all of it when it ends. So:
- the load's connections end with the load; the reading after it waits until they are gone from
  pg_stat_activity, which is after their last report. Behind a pooler they stay: then a remark
  says that counts may be late by up to 10 s;
- sessions of ours that stay (the sweep's own) are told to report at once by
  `report_now` (pg_stat_force_next_flush) before the first reading, else what they did for the
  trial before would be counted here;
- checkpointer, background writer and WAL writer report by their own clocks; nothing hurries them.
A reading sees what was reported by then: outside a transaction nothing is cached, so that
pg_stat_clear_snapshot has nothing to clear.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from batchbench.drivers import Session, within
from batchbench.errors import WriteError
from batchbench.harness.observe.counters import CounterSource, counter_sources
from batchbench.table import TableName, quote

Figures = Mapping[str, float | None]
"""By metric; None is not known."""

LIMIT_S = 30.0
"""For a reading. Sizes wait for whoever holds the table exclusively."""

MOST_BLOAT_BYTES = 256 << 20
"""Above that, reading a whole table to see its bloat would disturb what comes next."""

NOT_ALLOWED = "this role may not"
"""What the reasons begin with of figures that a GRANT would show."""

GONE_LIMIT_S = 2.0
_GONE_POLL_S = 0.002
_PRIVILEGE = "42501"
_STAY = (
    "the load's connections outlive it (a pooler keeps them), so the server's counts may lack what"
    " they report later, up to 10 s"
)


@dataclass(frozen=True, slots=True)
class Reading:
    """Counts so far by metric, and of each source since when it counts."""

    counts: Figures
    resets: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class TableSize:
    """Bytes and dead row versions of a table with all its partitions."""

    heap_bytes: int
    index_bytes: int
    toast_bytes: int
    dead_tuples: int


@dataclass(slots=True)
class ServerCounters:
    """Reads the sources that a role may read. reasons: why the others are not known."""

    session: Session
    sources: tuple[CounterSource, ...]
    reasons: dict[str, str] = field(default_factory=dict)

    async def read(self) -> Reading:
        """All counts now, in one query. Raises WriteError."""
        columns = ", ".join(f"({source.sql})" for source in self.sources)
        found = (await _fetch(self.session, f"SELECT {columns}"))[0]
        counts: dict[str, float | None] = {}
        resets = {}
        for source, text in zip(self.sources, found, strict=True):
            document = json.loads(text or "{}")
            resets[source.name] = document.pop("reset", None)
            counts |= {name: document.get(name) for name in source.metrics}
        return Reading(counts, resets)

    def between(self, before: Reading, after: Reading) -> tuple[Figures, Mapping[str, str]]:
        """What was added, and why what is None is so."""
        figures: dict[str, float | None] = dict.fromkeys(self.reasons)
        reasons = dict(self.reasons)
        for source in self.sources:
            reset = before.resets[source.name] != after.resets[source.name]
            for name in source.metrics:
                added = _added(before.counts[name], after.counts[name])
                figures[name] = None if reset else added
                if reset or (added is not None and added < 0):
                    figures[name] = None
                    reasons[name] = f"{source.name} was reset during the load"
                elif added is None:
                    reasons[name] = f"{source.name} has no value here"
        return figures, reasons


def _added(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else after - before


async def open_counters(session: Session) -> ServerCounters:
    """Find out what this server has and this role may read.

    Raises WriteError where the connection breaks.
    """
    allowed: list[CounterSource] = []
    reasons: dict[str, str] = {}
    for source in counter_sources(session.server_version):
        reasons |= source.missing
        why = await _why_not(session, source) if source.sql else ""
        if why:
            reasons |= dict.fromkeys(source.metrics, why)
        elif source.sql:
            allowed.append(source)
    return ServerCounters(session, tuple(allowed), reasons)


async def _why_not(session: Session, source: CounterSource) -> str:
    try:
        await _fetch(session, source.sql)
    except WriteError as error:
        return _refusal(source.name, error)
    return ""


def _refusal(what: str, error: WriteError) -> str:
    """Raises the error where it is the connection's."""
    if error.fate_unknown:
        raise error
    if error.sqlstate == _PRIVILEGE:
        return f"{NOT_ALLOWED} read {what}: GRANT pg_monitor to it, where that is wanted"
    return f"this server has no {what} as PostgreSQL does ({error.condition}, {error.sqlstate})"


async def report_now(session: Session) -> None:
    """Have a session's backend report all that it counted so far. Raises WriteError."""
    await _fetch(session, "SELECT pg_catalog.pg_stat_force_next_flush()::text")


_BACKENDS_SQL = """
SELECT count(*)::text FROM pg_catalog.pg_stat_activity WHERE application_name = $1::text
"""


async def until_reported(session: Session, tag: str, limit_s: float = GONE_LIMIT_S) -> str:
    """Wait until no backend has this application_name. Returns a remark where some stay.

    Raises WriteError.
    """
    deadline_s = time.monotonic() + limit_s
    while (await _fetch(session, _BACKENDS_SQL, tag))[0][0] != "0":
        if time.monotonic() > deadline_s:
            return _STAY
        await asyncio.sleep(_GONE_POLL_S)  # no event tells of another backend's end
    return ""


# A table that has no partitions is no partition tree either.
_PARTS = """
SELECT $1::text::pg_catalog.regclass AS part UNION
SELECT relid FROM pg_catalog.pg_partition_tree($1::text::pg_catalog.regclass)
"""
_SIZE_SQL = f"""
SELECT
  coalesce(pg_catalog.sum(pg_catalog.pg_relation_size(part)), 0)::text,
  coalesce(pg_catalog.sum(pg_catalog.pg_indexes_size(part)), 0)::text,
  coalesce(pg_catalog.sum(pg_catalog.pg_total_relation_size(c.reltoastrelid)), 0)::text,
  coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_dead_tuples(part)), 0)::text
FROM ({_PARTS}) AS parts JOIN pg_catalog.pg_class c ON c.oid = part AND c.relkind IN ('r', 'm')
"""


async def table_size(session: Session, table: TableName) -> TableSize:
    """Sizes now. Raises WriteError, where the table is missing too."""
    heap, index, toast, dead = (await _fetch(session, _SIZE_SQL, table.sql))[0]
    return TableSize(int(heap or 0), int(index or 0), int(toast or 0), int(dead or 0))


def size_figures(
    before: TableSize, after: TableSize, rows: int | None
) -> tuple[Figures, Mapping[str, str]]:
    """rows: that the load committed; None or 0 where that is not known."""
    heap = after.heap_bytes - before.heap_bytes
    index = after.index_bytes - before.index_bytes
    wide = heap + after.toast_bytes - before.toast_bytes
    figures: dict[str, float | None] = {
        "table_bytes": after.heap_bytes + after.index_bytes + after.toast_bytes,
        "heap_bytes": after.heap_bytes,
        "index_bytes": after.index_bytes,
        "toast_bytes": after.toast_bytes,
        "heap_growth_bytes": heap,
        "index_growth_bytes": index,
        "dead_tuples": after.dead_tuples,
        "heap_bytes_per_row": wide / rows if rows else None,
        "index_bytes_per_row": index / rows if rows else None,
    }
    why = "no row is known to have been committed"
    return figures, {} if rows else dict.fromkeys(
        ("heap_bytes_per_row", "index_bytes_per_row"), why
    )


_EXTENSION_SQL = """
SELECT n.nspname::text FROM pg_catalog.pg_extension e
JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgstattuple'
"""
_BLOAT_NAMES = ("heap_bloat_share", "index_leaf_density_share")


def _bloat_sql(schema: str) -> str:
    """Both from the pages themselves; all-visible ones are taken from the free space map."""
    return f"""
WITH parts AS ({_PARTS}),
heap AS (
  SELECT pg_catalog.sum(t.dead_tuple_len + t.approx_free_space) AS unused,
    pg_catalog.sum(t.table_len) AS whole
  FROM parts JOIN pg_catalog.pg_class c ON c.oid = part AND c.relkind IN ('r', 'm'),
  LATERAL {schema}.pgstattuple_approx(c.oid) t),
leaves AS (
  SELECT pg_catalog.sum(x.avg_leaf_density * x.leaf_pages) FILTER (WHERE x.leaf_pages > 0) AS full,
    pg_catalog.sum(x.leaf_pages) AS pages
  FROM parts JOIN pg_catalog.pg_index i ON i.indrelid = part AND i.indisvalid
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid AND c.relkind = 'i'
  JOIN pg_catalog.pg_am a ON a.oid = c.relam AND a.amname = 'btree',
  LATERAL {schema}.pgstatindex(c.oid::pg_catalog.regclass) x)
SELECT (unused / nullif(whole, 0))::text, (leaves.full / nullif(pages, 0) / 100)::text
FROM heap, leaves
"""


async def bloat(
    session: Session, table: TableName, size: TableSize
) -> tuple[Figures, Mapping[str, str]]:
    """Bloat by the extension pgstattuple, where it is installed and this role may use it.

    Nothing is installed for it. Raises WriteError where the connection breaks.
    """
    found = await _fetch(session, _EXTENSION_SQL)
    if not found:
        return _unknown_bloat("the extension pgstattuple is not installed in this database")
    if size.heap_bytes + size.index_bytes > MOST_BLOAT_BYTES:
        return _unknown_bloat(f"the table is larger than {MOST_BLOAT_BYTES >> 20} MiB")
    try:
        rows = await _fetch(session, _bloat_sql(quote(str(found[0][0]))), table.sql)
    except WriteError as error:
        if error.fate_unknown:
            raise
        if error.sqlstate == _PRIVILEGE:
            return _unknown_bloat(f"{NOT_ALLOWED} use pgstattuple: GRANT pg_stat_scan_tables")
        return _unknown_bloat(f"pgstattuple was refused ({error.condition}, {error.sqlstate})")
    figures = {
        name: None if text is None else float(text)
        for name, text in zip(_BLOAT_NAMES, rows[0], strict=True)
    }
    empty = {name: "there are no pages to look at" for name in figures if figures[name] is None}
    return figures, empty


def _unknown_bloat(why: str) -> tuple[Figures, Mapping[str, str]]:
    return dict.fromkeys(_BLOAT_NAMES), dict.fromkeys(_BLOAT_NAMES, why)


async def _fetch(session: Session, sql: str, *arguments: str) -> list[tuple[str | None, ...]]:
    return await within(session, LIMIT_S, session.fetch(sql, *arguments))
