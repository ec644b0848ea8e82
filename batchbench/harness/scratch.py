"""Scratch copies of tables in a schema of their own, so that a sweep never writes to a user's."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchbench.drivers import Session, read_table
from batchbench.errors import ServerError, TableError, WriteError
from batchbench.harness.subject import Subject
from batchbench.profile import PROFILES
from batchbench.table import Table, TableName, quote

SCHEMA_PREFIX = "batchbench_"
_LONGEST_NAME = 63  # bytes; the server cuts what is longer


@dataclass(frozen=True, slots=True)
class ScratchTable:
    """A copy of a table. remarks: where it costs less, or other, than the original."""

    table: Table
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class Scratch:
    """Where the tables of one run are made: in a schema of its own, or in one that is there.

    prefix: of every name that we make there; "" in a schema of our own.
    """

    schema: str
    prefix: str = ""
    _taken: set[str] = field(default_factory=set)

    @classmethod
    def of_run(cls, run_id: str, schema: str | None) -> Scratch:
        """The same for every start of a run. schema: of the user's, to work in."""
        name = SCHEMA_PREFIX + run_id
        return cls(name) if schema is None else cls(schema, f"{name}_")

    def __str__(self) -> str:
        where = f"schema {self.schema}"
        return f"the scratch {where}" if not self.prefix else f"{self.prefix}* in {where}"

    def name(self, wanted: str) -> TableName:
        """For a table or sequence of ours: as wanted where that is short enough and free."""
        name = self.prefix + wanted
        if name in self._taken or len(name.encode()) > _LONGEST_NAME:
            name = f"{self.prefix}batchbench_{len(self._taken) + 1}"
        self._taken.add(name)
        return TableName(name, self.schema)

    async def create(self, session: Session) -> None:
        """Make the schema anew; what a killed start of the same run left in it goes.

        Raises ServerError where the role may not.
        """
        await self.drop(session)
        try:
            if self.prefix:
                await self._check(session)
            else:
                await session.run(f"CREATE SCHEMA {quote(self.schema)}")
        except WriteError as error:
            if error.sqlstate != "42501":
                raise
            raise ServerError(
                "a sweep works in a schema of its own and this role may not create one: name a"
                " schema that it may create tables in, --scratch-schema NAME, or GRANT CREATE ON"
                " DATABASE to it"
            ) from error

    async def _check(self, session: Session) -> None:
        """Raises ServerError where tables cannot be made in the schema."""
        found = await session.fetch(
            "SELECT pg_catalog.has_schema_privilege(oid, 'CREATE')::text"
            " FROM pg_catalog.pg_namespace WHERE nspname = $1::text",
            self.schema,
        )
        if not found:
            raise ServerError(f"there is no schema {self.schema} for --scratch-schema; create it")
        if found[0][0] != "true":
            raise ServerError(
                f"this role may not create tables in schema {self.schema}: GRANT CREATE ON SCHEMA"
                " to it, or name another --scratch-schema"
            )

    async def drop(self, session: Session) -> None:
        """Drop all that is ours, where it exists."""
        if not self.prefix:
            await session.run(_DROP_SQL.format(f"SCHEMA IF EXISTS {quote(self.schema)}"))
            return
        for kind, letters in (("TABLE", "rp"), ("SEQUENCE", "S")):  # defaults hold on to sequences
            for (name,) in await session.fetch(_OURS_SQL, self.schema, self.prefix, letters):
                ours = TableName(str(name), self.schema)
                await session.run(_DROP_SQL.format(f"{kind} IF EXISTS {ours.sql}"))

    async def copy(self, session: Session, subject: Subject) -> ScratchTable:
        """Make the copy that trials load into.

        Indexes, constraints, defaults, identity and generated columns, partitions and UNLOGGED are
        the original's; sequences are the copy's own. Foreign keys and triggers are not copied.
        Raises TableError where the original is missing or cannot be copied safely.
        """
        if subject.original is None:
            profile = PROFILES[subject.label]
            name = self.name(profile.table_name)
            await session.run(profile.create_sql(name))
            return ScratchTable(await read_table(session, name))
        original = await read_table(session, subject.original)
        if original.rules:
            raise TableError(
                f"table {original.name} has the rule {original.rules[0]!r}, which INSERT obeys and"
                " COPY does not; sweep the table behind it"
            )
        name = self.name(original.name.table)
        unlogged = "UNLOGGED " if original.unlogged and not original.partitioned else ""
        like = f"CREATE {unlogged}TABLE {name.sql} (LIKE {original.sql} INCLUDING ALL)"
        await session.run(like + await _partition_key(session, original))
        await _own_sequences(session, name, self)
        if original.partitioned:
            await _copy_partitions(session, original.name, name, self)
        return ScratchTable(await read_table(session, name), await _remarks(session, original))


# One message, so one transaction: the limit must not stay for a pooler's other clients.
_DROP_SQL = "SET LOCAL lock_timeout = '10s'; DROP {} CASCADE"
_OURS_SQL = """
SELECT relname::text FROM pg_catalog.pg_class c
WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = $1::text)
  AND pg_catalog.starts_with(relname::text, $2::text) AND $3::text LIKE '%' || relkind::text || '%'
"""


# Column, sequence and its type, of every default that draws from a sequence that is not ours: a
# default that calls nextval depends on the sequence that it names.
_SEQUENCES_SQL = """
SELECT a.attname::text, s.oid::text, pg_catalog.format_type(q.seqtypid, NULL)
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
  AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
JOIN pg_catalog.pg_class c ON c.oid = d.adrelid
WHERE d.adrelid = $1::text::pg_catalog.regclass AND NOT (
  s.relnamespace = c.relnamespace AND pg_catalog.starts_with(s.relname::text, $2::text))
ORDER BY a.attnum
"""
_DEFAULT_SQL = """
SELECT pg_catalog.replace(
  pg_catalog.pg_get_expr(d.adbin, d.adrelid),
  pg_catalog.quote_literal($3::text::oid::pg_catalog.regclass::text) || '::regclass',
  pg_catalog.quote_literal($4::text) || '::pg_catalog.regclass')
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE d.adrelid = $1::text::pg_catalog.regclass AND a.attname = $2::text
"""


async def _own_sequences(session: Session, name: TableName, scratch: Scratch) -> None:
    """Give defaults sequences of our own: LIKE shares those of the original.

    The original's must not advance. Proved by test_a_table_is_copied_and_never_touched.
    """
    for found in await session.fetch(_SEQUENCES_SQL, name.sql, scratch.prefix):
        column, sequence_oid, type_name = map(str, found)
        own = scratch.name(f"{column}_sequence")
        await session.run(f"CREATE SEQUENCE {own.sql} AS {type_name}")
        arguments = (name.sql, column, sequence_oid, own.sql)
        expression = (await session.fetch(_DEFAULT_SQL, *arguments))[0][0]
        change = f"ALTER COLUMN {quote(column)} SET DEFAULT {expression}"
        await session.run(f"ALTER TABLE {name.sql} {change}")
    if await session.fetch(_SEQUENCES_SQL, name.sql, scratch.prefix):
        raise TableError(
            f"table {name.table} has a default that takes numbers of a sequence in a way that"
            " cannot be copied; a sweep would advance it, so none is made"
        )


async def _partition_key(session: Session, original: Table) -> str:
    if not original.partitioned:
        return ""
    sql = "SELECT pg_catalog.pg_get_partkeydef($1::text::pg_catalog.regclass)"
    return f" PARTITION BY {(await session.fetch(sql, original.sql))[0][0]}"


_PARTITIONS_SQL = """
SELECT n.nspname::text, c.relname::text,
  pg_catalog.pg_get_expr(c.relpartbound, c.oid),
  pg_catalog.pg_get_partkeydef(c.oid)
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE i.inhparent = $1::text::pg_catalog.regclass ORDER BY c.oid
"""


async def _copy_partitions(
    session: Session, original: TableName, copy: TableName, scratch: Scratch
) -> None:
    """The same partitions, and a default one for rows that fit none of them."""
    has_default = False
    for found in await session.fetch(_PARTITIONS_SQL, original.sql):
        schema, table, bound, key = found
        part = scratch.name("batchbench_part")
        by = f" PARTITION BY {key}" if key else ""
        await session.run(f"CREATE TABLE {part.sql} PARTITION OF {copy.sql} {bound}{by}")
        has_default = has_default or bound == "DEFAULT"
        if key:
            await _copy_partitions(session, TableName(str(table), schema), part, scratch)
    if not has_default:
        await _default_partition(session, copy, scratch.name("batchbench_part"))


async def _default_partition(session: Session, copy: TableName, part: TableName) -> None:
    try:
        await session.run(f"CREATE TABLE {part.sql} PARTITION OF {copy.sql} DEFAULT")
    except WriteError as error:
        if error.sqlstate != "42P16":  # hash partitions have no default, and need none
            raise


async def _remarks(session: Session, original: Table) -> tuple[str, ...]:
    """What the original has and the copy lacks."""
    sql = (
        "SELECT count(*) FILTER (WHERE NOT t.tgisinternal)::text,"
        " (SELECT count(*) FROM pg_catalog.pg_constraint c WHERE c.contype = 'f'"
        "  AND c.conrelid = $1::text::pg_catalog.regclass)::text"
        " FROM pg_catalog.pg_trigger t WHERE t.tgrelid = $1::text::pg_catalog.regclass"
    )
    triggers, keys = (await session.fetch(sql, original.sql))[0]
    lacks = []
    if triggers != "0":
        lacks.append(f"triggers ({triggers})")
    if keys != "0":
        lacks.append(f"foreign keys ({keys})")
    if original.row_security:
        lacks.append("row security (COPY is refused under it)")
    if not lacks:
        return ()
    return (f"the scratch copy of {original.name} lacks what is not copied: {', '.join(lacks)}",)
