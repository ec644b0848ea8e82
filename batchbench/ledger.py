"""The ledger: which rows a load has committed, written in the very transactions that commit them.

Two tables of ours, in a schema that can be chosen. A row of `parts` says: these source rows went
into that table, so many were committed and so many were duplicates. It answers for ever whether a
COMMIT whose answer was lost has happened, and lets a killed load go on. It names rows, not chunks:
chunk numbers move with chunk size and splitting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from batchbench.batch import Location
from batchbench.drivers import Session
from batchbench.errors import ConfigError, WriteError
from batchbench.table import literal, quote

DEFAULT_SCHEMA = "batchbench"

_SYSTEM_SQL = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
_NOT_PERMITTED = "42501"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one transaction and table: what was sent, and what came of it."""

    table: str
    locations: tuple[Location, ...]
    committed: int = 0
    duplicates: int = 0
    skipped_by_server: int = 0

    @property
    def row_count(self) -> int:
        """Rows that were sent."""
        return self.committed + self.duplicates + self.skipped_by_server

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells parts of a load apart."""
        first = self.locations[0]
        return self.table, first.source, first.first_row


@dataclass(frozen=True, slots=True)
class LoadEntry:
    """What the ledger knows of a load. state: "running", "done" or "stopped"."""

    load_id: str
    state: str
    started_at: str
    committed: int
    duplicates: int
    tables: str

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


class Ledger:
    """SQL over the two tables. Holds no connection."""

    def __init__(self, schema: str = DEFAULT_SCHEMA) -> None:
        self.schema = schema
        self._loads = f"{quote(schema)}.loads"
        self._parts = f"{quote(schema)}.parts"

    async def exists(self, session: Session) -> bool:
        """Whether the tables are there and this role may use them."""
        rows = await session.fetch(
            "SELECT (CASE WHEN pg_catalog.has_schema_privilege("
            "pg_catalog.to_regnamespace($1::text), 'USAGE') THEN"
            " pg_catalog.has_table_privilege(pg_catalog.to_regclass($2::text), 'SELECT')"
            " AND pg_catalog.has_table_privilege(pg_catalog.to_regclass($2::text), 'INSERT')"
            " AND pg_catalog.has_table_privilege(pg_catalog.to_regclass($2::text), 'UPDATE')"
            " AND pg_catalog.has_table_privilege(pg_catalog.to_regclass($3::text), 'SELECT')"
            " AND pg_catalog.has_table_privilege(pg_catalog.to_regclass($3::text), 'INSERT')"
            " END IS TRUE)::text",
            *(quote(self.schema), self._loads, self._parts),
        )
        return rows[0][0] == "true"

    async def may_create(self, session: Session) -> bool:
        """Whether this role may make the schema and its tables."""
        rows = await session.fetch(
            "SELECT (CASE WHEN n.oid IS NULL"
            " THEN pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')"
            " ELSE pg_catalog.has_schema_privilege(n.oid, 'CREATE') END)::text"
            " FROM (SELECT 1) AS one LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = $1::text",
            self.schema,
        )
        return rows[0][0] == "true"

    async def create(self, session: Session) -> None:
        """Make the schema and tables where they are missing; two loads may do so at once."""
        await session.run(
            "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock(4711_2611);"
            f" CREATE SCHEMA IF NOT EXISTS {quote(self.schema)};"
            f" CREATE TABLE IF NOT EXISTS {self._loads} (load_id text PRIMARY KEY,"
            " fingerprint text NOT NULL, system_identifier text NOT NULL,"
            " started_at timestamptz NOT NULL DEFAULT now(), ended_at timestamptz,"
            " state text NOT NULL DEFAULT 'running', epoch int8 NOT NULL DEFAULT 0);"
            f" CREATE TABLE IF NOT EXISTS {self._parts} (load_id text NOT NULL,"
            " table_name text NOT NULL, source text NOT NULL, first_row int8 NOT NULL,"
            " row_count int8 NOT NULL, committed int8 NOT NULL, duplicates int8 NOT NULL,"
            " skipped int8 NOT NULL, PRIMARY KEY (load_id, table_name, source, first_row));"
            " COMMIT".replace("4711_2611", "47112611")
        )

    async def enter_load(self, session: Session, load_id: str, fingerprint: str) -> int:
        """Enter a new load; return its epoch. On disk at once: whoever knows the id may resume."""
        try:
            await session.run(self._enter_sql(load_id, fingerprint, f"({_SYSTEM_SQL})"))
        except WriteError as error:
            if error.sqlstate != _NOT_PERMITTED:
                raise
            await session.run(self._enter_sql(load_id, fingerprint, "''"))
        return 1

    def _enter_sql(self, load_id: str, fingerprint: str, system: str) -> str:
        """system: an expression for the cluster's identifier."""
        return (
            f"INSERT INTO {self._loads} (load_id, fingerprint, system_identifier, epoch)"
            f" VALUES ({literal(load_id)}, {literal(fingerprint)}, {system}, 1)"
        )

    async def take_over(self, session: Session, load_id: str, fingerprint: str) -> int:
        """Go on with an old load; return the epoch, which grows with each start. An earlier start
        that lives on can commit nothing more from then on, and what it was committing has ended.

        Raises ConfigError where it is not known, read another source or ran on another server.
        """
        system = await system_identifier(session)
        rows = await session.fetch(
            f"SELECT fingerprint, system_identifier FROM {self._loads} WHERE load_id = $1::text",
            load_id,
        )
        if not rows:
            raise ConfigError(f"the ledger knows no load {load_id}; check the id")
        if rows[0][0] != fingerprint:
            raise ConfigError(
                f"load {load_id} read other files (or they have changed since): resume it with the"
                " same files, unchanged"
            )
        if rows[0][1] != system:
            raise ConfigError(
                f"load {load_id} ran on another server (another system identifier); a resumed load"
                " needs the server that holds its rows"
            )
        taken = await session.fetch(
            f"UPDATE {self._loads} SET epoch = epoch + 1, state = 'running'"
            " WHERE load_id = $1::text RETURNING epoch::text",
            load_id,
        )
        # Every transaction of the load holds this lock shared, to its end.
        await session.run(f"SELECT pg_catalog.pg_advisory_xact_lock({_lock_key(load_id)})")
        return int(taken[0][0] or 0)

    def hold_sql(self, load_id: str) -> str:
        """At the beginning of each transaction of a load: a later start waits for its end."""
        return f"SELECT pg_catalog.pg_advisory_xact_lock_shared({_lock_key(load_id)})"

    def claim_sql(self, load_id: str, epoch: int) -> str:
        """Before each COMMIT of a load: fails with 42704 where a later start took it over."""
        return (
            f"SELECT CASE WHEN (SELECT epoch FROM {self._loads} WHERE load_id ="
            f" {literal(load_id)}) = {epoch} THEN ''"
            " ELSE pg_catalog.current_setting('batchbench.load_was_taken_over') END"
        )

    async def parts(self, session: Session, load_id: str) -> list[Part]:
        """What a load has committed so far."""
        rows = await session.fetch(
            "SELECT table_name, source, first_row::text, row_count::text, committed::text,"
            f" duplicates::text, skipped::text FROM {self._parts} WHERE load_id = $1::text",
            load_id,
        )
        return [_part(row) for row in rows]

    def record_sql(self, load_id: str, part: Part) -> str:
        """The statement that enters a part; it goes out with the COMMIT, in one message.

        The counts stand in the first of several locations; there are as many as rows where those
        of a chunk alternate with others.
        """
        first, *others = part.locations
        counts = (part.committed, part.duplicates, part.skipped_by_server)
        whose = f"{literal(load_id)}, {literal(part.table)}"
        entries = [
            f"SELECT {whose}, {literal(first.source)}, {first.first_row}, {first.row_count},"
            f" {', '.join(map(str, counts))}"
        ]
        for source, group in groupby(others, lambda location: location.source):
            places = list(group)
            rows = ",".join(str(place.first_row) for place in places)
            sizes = ",".join(str(place.row_count) for place in places)
            entries.append(
                f"SELECT {whose}, {literal(source)}, first_row, row_count, 0, 0, 0"
                f" FROM unnest('{{{rows}}}'::int8[], '{{{sizes}}}'::int8[]) AS u"
                " (first_row, row_count)"
            )
        return f"INSERT INTO {self._parts} {' UNION ALL '.join(entries)}"

    async def has(self, session: Session, load_id: str, part: Part) -> bool:
        """Whether a part's transaction was committed."""
        first = part.locations[0]
        rows = await session.fetch(
            f"SELECT load_id FROM {self._parts} WHERE load_id = $1::text AND table_name = $2::text"
            " AND source = $3::text AND first_row = $4::text::int8",
            *(load_id, part.table, first.source, str(first.first_row)),
        )
        return bool(rows)

    async def close_load(self, session: Session, load_id: str, state: str) -> None:
        """Enter how a load ended: "done" or "stopped". A crash right after it may undo the entry,
        never a part.
        """
        await session.run(
            f"BEGIN; SET LOCAL synchronous_commit = off; UPDATE {self._loads}"
            f" SET ended_at = now(), state = {literal(state)}"
            f" WHERE load_id = {literal(load_id)}; COMMIT"
        )

    async def loads(self, session: Session) -> list[LoadEntry]:
        """What is known of every load, newest first."""
        rows = await session.fetch(
            "SELECT l.load_id, l.state, to_char(l.started_at, 'YYYY-MM-DD HH24:MI:SS TZ'),"
            " coalesce(sum(p.committed), 0)::text, coalesce(sum(p.duplicates), 0)::text,"
            " coalesce(string_agg(DISTINCT p.table_name, ', '), '')"
            f" FROM {self._loads} l LEFT JOIN {self._parts} p USING (load_id)"
            " GROUP BY l.load_id ORDER BY l.started_at DESC"
        )
        entries = ([value or "" for value in row] for row in rows)
        return [
            LoadEntry(load_id, state, at, int(committed), int(duplicates), tables)
            for load_id, state, at, committed, duplicates, tables in entries
        ]

    async def prune(self, session: Session, days: int) -> int:
        """Forget loads that began longer ago; return how many."""
        rows = await session.fetch(
            f"WITH old AS (DELETE FROM {self._loads}"
            " WHERE started_at < now() - make_interval(days => $1::text::int4) RETURNING load_id),"
            f" gone AS (DELETE FROM {self._parts} p USING old WHERE p.load_id = old.load_id)"
            " SELECT count(*)::text FROM old",
            str(days),
        )
        return int(rows[0][0] or 0)

    def owns(self, error: WriteError) -> bool:
        """Whether an error is about our own tables, so that it never counts as a row's."""
        return error.table in ("parts", "loads") and error.schema == self.schema


def _lock_key(load_id: str) -> str:
    return f"pg_catalog.hashtextextended({literal('batchbench ' + load_id)}, 0)"


def _part(row: Sequence[str | None]) -> Part:
    table, source, first_row, row_count, committed, duplicates, skipped = (v or "" for v in row)
    location = Location(source, int(first_row), int(row_count))
    return Part(table, (location,), int(committed), int(duplicates), int(skipped))


async def system_identifier(session: Session) -> str:
    """The cluster's identifier; "" where this role may not see it."""
    try:
        rows = await session.fetch(_SYSTEM_SQL)
    except WriteError:
        return ""
    return rows[0][0] or ""
