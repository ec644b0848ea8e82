"""Scratch copies of tables in a schema of their own, so that a sweep never writes to a user's."""

from __future__ import annotations

from dataclasses import dataclass, replace

from batchbench.drivers import Session, read_table
from batchbench.errors import ServerError, TableError, WriteError
from batchbench.harness.subject import Subject
from batchbench.profile import PROFILES
from batchbench.table import Table, TableName, quote

SCHEMA_PREFIX = "batchbench_"


@dataclass(frozen=True, slots=True)
class ScratchTable:
    """A copy of a table. remarks: where it costs less, or other, than the original."""

    table: Table
    remarks: tuple[str, ...] = ()


async def create_schema(session: Session, schema: str) -> None:
    """Make the scratch schema anew; what a killed start of the same run left in it goes.

    Raises ServerError where the role may not.
    """
    if not schema.startswith(SCHEMA_PREFIX):
        raise ValueError(f"{schema} is no scratch schema")
    await drop_schema(session, schema)
    try:
        await session.run(f"CREATE SCHEMA {quote(schema)}")
    except WriteError as error:
        if error.sqlstate != "42501":
            raise
        raise ServerError(
            "a sweep works in a schema of its own and this role may not create one: GRANT CREATE ON"
            " DATABASE to it, or connect as another role"
        ) from error


async def drop_schema(session: Session, schema: str) -> None:
    """Drop the scratch schema with all that is in it, where it exists."""
    await session.run(f"SET lock_timeout = '10s'; DROP SCHEMA IF EXISTS {quote(schema)} CASCADE")


async def create_scratch_table(session: Session, schema: str, subject: Subject) -> ScratchTable:
    """Make the copy that trials load into.

    Indexes, constraints, defaults, identity and generated columns, partitions and UNLOGGED are
    the original's; sequences are the copy's own. Foreign keys and triggers are not copied.
    Raises TableError where the original is missing or cannot be copied safely.
    """
    if subject.original is None:
        profile = PROFILES[subject.label]
        name = TableName(profile.table_name, schema)
        await session.run(profile.create_sql(name))
        return ScratchTable(await read_table(session, name))
    original = await read_table(session, subject.original)
    if original.rules:
        raise TableError(
            f"table {original.name} has the rule {original.rules[0]!r}, which INSERT obeys and COPY"
            " does not; sweep the table behind it"
        )
    name = TableName(original.name.table, schema)
    if await _exists(session, name):  # two tables of one name, of different schemas
        name = replace(name, table=f"{name.table[:40]}_{await _count(session, schema)}")
    unlogged = "UNLOGGED " if original.unlogged and not original.partitioned else ""
    like = f"CREATE {unlogged}TABLE {name.sql} (LIKE {original.sql} INCLUDING ALL)"
    await session.run(like + await _partition_key(session, original))
    await _own_sequences(session, name)
    if original.partitioned:
        await _copy_partitions(session, original.name, name)
    return ScratchTable(await read_table(session, name), await _remarks(session, original))


async def _exists(session: Session, name: TableName) -> bool:
    found = await session.fetch("SELECT pg_catalog.to_regclass($1::text)::text", name.sql)
    return found[0][0] is not None


async def _count(session: Session, schema: str) -> int:
    sql = (
        "SELECT count(*)::text FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n"
        " ON n.oid = c.relnamespace WHERE n.nspname = $1::text"
    )
    return int((await session.fetch(sql, schema))[0][0] or 0)


# Column, sequence and its type, of every default that draws from a sequence of another schema: a
# default that calls nextval depends on the sequence that it names.
_SEQUENCES_SQL = """
SELECT a.attname::text, s.oid::text, pg_catalog.format_type(q.seqtypid, NULL)
FROM pg_catalog.pg_attrdef d
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
JOIN pg_catalog.pg_depend p ON p.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
  AND p.objid = d.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'
JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.oid
WHERE d.adrelid = $1::text::pg_catalog.regclass AND s.relnamespace <> (
  SELECT relnamespace FROM pg_catalog.pg_class WHERE oid = d.adrelid)
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


async def _own_sequences(session: Session, name: TableName) -> None:
    """Give defaults sequences of the scratch schema: LIKE shares those of the original.

    The original's must not advance. Proved by test_a_table_is_copied_and_never_touched.
    """
    for number, found in enumerate(await session.fetch(_SEQUENCES_SQL, name.sql), 1):
        column, sequence_oid, type_name = map(str, found)
        own = TableName(f"{name.table[:40]}_sequence_{number}", name.schema)
        await session.run(f"CREATE SEQUENCE {own.sql} AS {type_name}")
        arguments = (name.sql, column, sequence_oid, own.sql)
        expression = (await session.fetch(_DEFAULT_SQL, *arguments))[0][0]
        change = f"ALTER COLUMN {quote(column)} SET DEFAULT {expression}"
        await session.run(f"ALTER TABLE {name.sql} {change}")
    if await session.fetch(_SEQUENCES_SQL, name.sql):
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


async def _copy_partitions(session: Session, original: TableName, copy: TableName) -> None:
    """The same partitions, and a default one for rows that fit none of them."""
    has_default = False
    for found in await session.fetch(_PARTITIONS_SQL, original.sql):
        schema, table, bound, key = found
        part = TableName(f"batchbench_part_{await _count(session, str(copy.schema))}", copy.schema)
        by = f" PARTITION BY {key}" if key else ""
        await session.run(f"CREATE TABLE {part.sql} PARTITION OF {copy.sql} {bound}{by}")
        has_default = has_default or bound == "DEFAULT"
        if key:
            await _copy_partitions(session, TableName(str(table), schema), part)
    if not has_default:
        await _default_partition(session, copy)


async def _default_partition(session: Session, copy: TableName) -> None:
    part = TableName(f"batchbench_part_{await _count(session, str(copy.schema))}", copy.schema)
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
