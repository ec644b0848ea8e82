"""Columns of types without an encoder of ours: they go as text, which the server reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchbench.casts import Converted, compile_cast
from batchbench.casts.compile import TABLE
from batchbench.drivers import connect, read_table
from batchbench.errors import InputError, TableError
from batchbench.strategies import OnConflict
from batchbench.table import BY_INPUT, ENCODED, Column, PgType, TableName
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, query

both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)

SETUP = """
CREATE TYPE mood AS ENUM ('calm', 'cross');
CREATE TYPE place AS (street varchar(5), zip int4);
CREATE DOMAIN flags AS bit(3);
CREATE DOMAIN short AS varchar(3);
CREATE DOMAIN bag AS hstore CHECK (VALUE ? 'a');
CREATE DOMAIN grid AS int4[] CHECK (cardinality(VALUE) = 4);
"""
# type -> two values as the server prints them, one that it refuses and the SQLSTATE it gives
TYPES: dict[str, tuple[str, str, str, str]] = {
    "bit(3)": ("101", "000", "1010", "22026"),
    "varbit(3)": ("1", "", "1010", "22001"),
    "flags": ("101", "111", "1010", "22026"),
    "timetz(0)": ("12:00:00+02", "24:00:00+00", "12", "22007"),
    "money": ("$1.50", "-$2.00", "x", "22P02"),
    '"char"': ("a", "b", "ab", "22001"),
    "point": ("(1,2)", "(0,-1.5)", "(1)", "22P02"),
    "macaddr8": ("08:00:2b:01:02:03:04:05", "00:00:00:00:00:00:00:00", "x", "22P02"),
    "pg_lsn": ("0/16B3748", "0/0", "x", "22P02"),
    "tsvector": ("'cat' 'fat':2", "", "'a", "42601"),
    "jsonpath": ('$."a"', "$", "$.", "42601"),
    "int4range": ("[1,5)", "empty", "[5,1)", "22000"),
    "nummultirange": ("{[1.5,2.5),[7,)}", "{}", "[1,2)", "22P02"),
    "place": ("(a,1)", '("a b",)', "(abcdef,1)", "22001"),
    "hstore": ('"a"=>"1", "b"=>NULL', "", "a=>", "42601"),
    "bag": ('"a"=>"1"', '"a"=>NULL', '"b"=>"1"', "23514"),
    "vector(3)": ("[1,2,3]", "[0,-1.5,1e-07]", "[1,2]", "22000"),
    "ltree": ("a.b", "", "a..b", "42601"),
    "mood[]": ("{calm,cross}", "{NULL}", "{glum}", "22P02"),
    "short[]": ("{abc,NULL}", "{}", "{abcd}", "22001"),
    "flags[]": ("{101,111}", "{NULL}", "{1010}", "22026"),
    "varbit(3)[]": ("{1,101}", "{}", "{1010}", "22001"),
    "place[]": ('{"(a,1)","(,)"}', "{}", '{"(abcdef,1)"}', "22001"),
    "int4range[]": ('{"[1,5)",empty}', "{NULL}", '{"[5,1)"}', "22000"),
    "grid": ("{1,2,3,4}", "{5,6,7,8}", "{1,2}", "23514"),
    "int2vector": ("1 2", "3", "x", "22P02"),
    "regtype": ("integer", "text", "no_such_type", "42704"),
}


def test_every_kind_has_casts() -> None:
    assert set(TABLE) == ENCODED | {"array", BY_INPUT}


@both
@pytest.mark.parametrize("on_conflict", [OnConflict.ERROR, OnConflict.UPDATE])
async def test_any_table_loads(
    dsn: str, strategy: str, driver: str, on_conflict: OnConflict, tmp_path: Path
) -> None:
    """Each type in one table, beside columns with an encoder and an array."""
    there = {name for (name,) in query(dsn, "SELECT name FROM pg_available_extensions")}
    extensions = there & {"hstore", "vector", "ltree"}  # vector comes with the embedded server
    kinds = {k: v for k, v in TYPES.items() if k != "vector(3)" or "vector" in there}
    columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(kinds))
    numbers = "tags int4[] NOT NULL, at timestamptz"
    execute(dsn, "".join(f"CREATE EXTENSION {name};" for name in extensions))
    execute(dsn, f"{SETUP} CREATE TABLE t (id int4 PRIMARY KEY, {columns}, {numbers})")
    good: list[dict[str, Any]] = [{"id": 1}, {"id": 2}, {"id": 3}]
    for number, (first, second, _, _) in enumerate(kinds.values()):
        good[0][f"c{number}"], good[1][f"c{number}"], good[2][f"c{number}"] = first, second, None
    for row in good:
        row |= {"tags": [row["id"]], "at": "2025-01-01 00:00:00+00"}
    bad = [
        {**good[0], "id": 10 + number, f"c{number}": broken}
        for number, (_, _, broken, _) in enumerate(kinds.values())
    ]
    dead_letter = tmp_path / "rejects.ndjson"
    result = await load_rows(
        dsn,
        [good[0], *bad, good[1], good[2]],
        strategy=strategy,
        driver=driver,
        on_conflict=on_conflict,
        dead_letter=dead_letter,
    )
    records = [json.loads(line) for line in dead_letter.read_text().splitlines()]
    states = {
        # hstore before 16 calls malformed text an internal error
        record["row"]["id"] - 10: record["sqlstate"].replace("XX000", "42601")
        for record in records
    }
    assert states == {number: state for number, (*_, state) in enumerate(kinds.values())}
    assert (result.total.committed, result.total.duplicates) == (3, 0)
    shown = ", ".join(f"c{number}::text" for number in range(len(kinds)))
    stored = query(dsn, f"SELECT {shown}, tags FROM t ORDER BY id")
    assert stored == [(*[row[f"c{n}"] for n in range(len(kinds))], row["tags"]) for row in good]


async def test_probe_says_that_it_cannot_serve_them(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, v varbit)")
    with pytest.raises(TableError, match=r"bit varying goes as text.*use optimistic or copy"):
        await load_rows(dsn18, [{"id": 1, "v": "1"}], strategy="probe", on_conflict="nothing")


@pytest.mark.parametrize(("strategy", "driver"), [*COMBINATIONS, ("optimistic", "psycopg")])
async def test_their_keys_conflict_as_the_server_says(
    dsn18: str, strategy: str, driver: str
) -> None:
    execute(dsn18, "CREATE TABLE t (span int4range PRIMARY KEY, n int4)")
    rows = [{"span": "[1,3)", "n": 1}, {"span": "[1,2]", "n": 2}, {"span": "(0,2]", "n": 3}]
    for kind, kept, duplicates in ((OnConflict.NOTHING, 1, 2), (OnConflict.UPDATE, 3, 0)):
        execute(dsn18, "TRUNCATE t")
        chosen = {"strategy": strategy, "driver": driver, "on_conflict": kind}
        result = await load_rows(dsn18, rows, **chosen)
        assert query(dsn18, "SELECT span::text, n FROM t") == [("[1,3)", kept)]
        if kind is OnConflict.NOTHING:
            assert (result.total.committed, result.total.duplicates) == (1, duplicates)


@pytest.mark.parametrize("dedup", ["first", "last"])
async def test_one_of_each_key_over_the_whole_load(dsn18: str, dedup: str) -> None:
    execute(dsn18, "CREATE TABLE t (span int4range PRIMARY KEY, n int4)")
    rows = [{"span": f"[{n % 4},{n % 4 + 1}]", "n": n} for n in range(40)]
    result = await load_rows(dsn18, rows, dedup=dedup, chunk_size=7)
    expected = [n if dedup == "first" else 36 + n for n in range(4)]
    assert query(dsn18, "SELECT n FROM t ORDER BY n") == [(n,) for n in expected]
    assert (result.total.committed, result.total.duplicates) == (4, 36)


async def test_rows_that_a_trigger_drops_are_no_duplicates(dsn18: str) -> None:
    execute(
        dsn18,
        "CREATE TABLE t (id int4, v varbit); CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN IF NEW.id % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END $$;"
        " CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION odd()",
    )
    result = await load_rows(dsn18, [{"id": n, "v": "1"} for n in range(5)], strategy="copy")
    assert (result.total.committed, result.total.skipped_by_server) == (2, 3)


# ------------------------------------------------------------------ a source's own types


def converted(values: pa.Array, kind: str, element: str = "") -> Converted:
    inner = PgType(element, 1, 2, f'"x"."{element}"', BY_INPUT) if element else None
    pg_type = PgType(kind, 3, 4, f'"x"."{kind}"', BY_INPUT, element=inner)
    return compile_cast(values.type, Column("v", pg_type, kind)).apply(values)


def test_lists_become_the_text_of_arrays_and_vectors() -> None:
    floats = pa.array([[1.5, 0.1], None, [], [None]], pa.list_(pa.float32()))
    done = converted(floats, "vector")
    assert done.values.to_pylist() == ["[1.5,0.1]", None, "[]", None]
    assert [(fault.row, fault.sqlstate) for fault in done.faults] == [(3, "22004")]
    fixed = pa.array([[1, 2], [3, 4]], pa.list_(pa.int8(), 2)).slice(1)
    assert converted(fixed, "vector").values.to_pylist() == ["[3,4]"]
    texts = pa.array([['a"\\,b', None], [], None, ["x\0"], ["y"]])
    done = converted(texts, "_thing", "thing")
    assert done.values.to_pylist() == ['{"a\\"\\\\,b",NULL}', "{}", None, None, '{"y"}']
    assert [(fault.row, fault.sqlstate) for fault in done.faults] == [(3, "22021")]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([b"x"]),
        pa.array([[["a"]]]),
        pa.array([["a"]]),
        pa.array([{"a": 1}]),
        pa.array([1], pa.timestamp("us")),
    ],
)
def test_what_has_no_one_text_form_is_refused(values: pa.Array) -> None:
    with pytest.raises(InputError, match="column 'v'"):
        converted(values, "vector")


async def test_embeddings_in_arrow_lists(dsn18: str) -> None:
    execute(dsn18, "CREATE EXTENSION vector; CREATE TABLE t (id int4, v vector(2), tags varbit[])")
    rows = pa.table(
        {
            "id": pa.array([1, 2], pa.int32()),
            "v": pa.array([[0.1, 1e-8], [1, 2]], pa.list_(pa.float32(), 2)),
            "tags": pa.array([["1", None], []]),
        }
    )
    for strategy in ("values", "unnest", "copy"):
        execute(dsn18, "TRUNCATE t")
        await load_rows(dsn18, rows, strategy=strategy)
        stored = query(dsn18, "SELECT v::text, tags::text FROM t ORDER BY id")
        assert stored == [("[0.1,1e-08]", "{1,NULL}"), ("[1,2]", "{}")]


async def test_a_domain_in_an_array_keeps_its_own_oid(dsn18: str) -> None:
    execute(dsn18, "CREATE DOMAIN short AS varchar(3); CREATE TABLE t (v short[], w int2vector)")
    session = await connect("psycopg", dsn18)
    try:
        table = await read_table(session, TableName("t"))
    finally:
        await session.close()
    element = table.column("v").type.element
    assert element is not None
    [(oid,)] = query(dsn18, "SELECT 'short'::regtype::oid::int8")
    assert (element.oid, element.kind) == (oid, "varchar")
    assert table.column("w").type.by_input
