"""What is not asked of the catalogue is so on every server; what a table has besides is asked."""

from __future__ import annotations

import pytest

from batchbench.drivers import connect, read_table
from batchbench.errors import TableError
from batchbench.table import Collation, Table, TableName
from batchbench.table.catalogue import _COLLATIONS, _SCALARS, TABLE_SQL, catalogued
from tests.fixtures.loading import execute, query

# of a table, and what must be asked besides
TABLES = [
    ("CREATE TABLE t (id int PRIMARY KEY, a numeric(6,2)[] NOT NULL, b text UNIQUE)", ()),
    ('CREATE TABLE t (a text COLLATE "C", b text COLLATE "POSIX", UNIQUE (a, b))', ()),
    ("CREATE TABLE t (id bigserial PRIMARY KEY)", ("defaults",)),
    ("CREATE TABLE t (a int GENERATED ALWAYS AS (1) STORED)", ()),
    ("CREATE TYPE m AS ENUM ('x'); CREATE TABLE t (a m)", ("types",)),
    ("CREATE TABLE t (a point)", ("types",)),
    ("CREATE TABLE t (a int); CREATE UNIQUE INDEX ON t ((a + 1))", ("keys",)),
    ("CREATE TABLE t (a int); CREATE UNIQUE INDEX ON t (a) WHERE a > 0", ("keys",)),
    ("CREATE TABLE t (a int); CREATE RULE r AS ON INSERT TO t DO ALSO NOTHING", ("rules",)),
    (
        "CREATE COLLATION own (locale = 'C'); CREATE TABLE t (a text);"
        " CREATE UNIQUE INDEX ON t (a COLLATE own)",
        ("collations",),
    ),
]


async def read(dsn: str) -> Table:
    session = await connect("psycopg", dsn)
    try:
        return await read_table(session, TableName("t"))
    finally:
        await session.close()


def test_built_in_types_and_collations_are_the_servers(dsn: str) -> None:
    sql = "SELECT typname, oid::int8, typarray::int8 FROM pg_type WHERE typnamespace = 11"
    found = {name: (oid, array) for name, oid, array in query(dsn, sql)}
    assert {name: found[name] for name in _SCALARS} == _SCALARS
    oids = ",".join(str(oid) for oid, _ in _SCALARS.values())
    plain = (
        f"SELECT count(*) FROM pg_type WHERE oid IN ({oids}) AND typtype = 'b' AND typbasetype = 0"
        " AND typsubscript <> 'array_subscript_handler'::regproc"
    )
    assert query(dsn, plain) == [(len(_SCALARS),)]
    collations = query(dsn, "SELECT oid::text, collname, collisdeterministic FROM pg_collation")
    for oid, name, deterministic in collations:
        if oid in _COLLATIONS:
            assert (name, deterministic) == (_COLLATIONS[oid]["name"], True)


@pytest.mark.parametrize(("sql", "details"), TABLES)
def test_only_what_a_table_has_is_asked(dsn: str, sql: str, details: tuple[str, ...]) -> None:
    execute(dsn, sql)
    asked = TABLE_SQL.replace("$1", "'t'")
    answer = query(dsn, asked)[0][0]
    assert catalogued(answer, TableName("t")).details == details


async def test_a_table_with_all_of_it(dsn: str) -> None:
    execute(
        dsn,
        'CREATE SCHEMA "My.s"; SET search_path = "My.s";'
        " CREATE TYPE mood AS ENUM ('sad', 'not so'); CREATE DOMAIN short AS varchar(5);"
        " CREATE COLLATION own (locale = 'C');"
        ' CREATE TABLE t (gone int, id serial, "Mood" mood[], s short COLLATE own DEFAULT $$a$$,'
        " d int GENERATED ALWAYS AS (1) STORED, PRIMARY KEY (s, id));"
        " ALTER TABLE t DROP COLUMN gone;"
        " CREATE UNIQUE INDEX part ON t (lower(s), id) WHERE id > 0",
    )
    session = await connect("asyncpg", dsn)
    try:
        table = await read_table(session, TableName("t", "My.s"))
        with pytest.raises(TableError, match="does not exist"):
            await read_table(session, TableName("t", "other"))
    finally:
        await session.close()
    assert table.name == TableName("t", "My.s")
    id_, mood, s, d = table.columns
    assert (id_.type.kind, id_.numbered, id_.not_null) == ("int4", True, True)
    assert mood.type.element is not None
    assert mood.type.element.labels == ("sad", "not so")
    assert (s.type.kind, s.typmod, s.declared_typmod) == ("varchar", 9, -1)
    assert (s.default, d.default) == ("'a'::character varying", None)
    own = Collation('"My.s"."own"', deterministic=True)
    assert s.collation == own
    primary, part = table.keys
    assert (primary.columns, primary.primary, primary.plain) == (("s", "id"), True, True)
    assert [key.collation for key in primary.parts] == [own, None]
    assert (part.columns, part.predicate, set(part.uses)) == (("id",), "(id > 0)", {"s", "id"})
    assert [key.sql for key in part.parts] == ["lower((s)::text)", '"id"']
