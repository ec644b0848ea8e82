"""What comes back from the server equals what went in, for every type, strategy and driver."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from batchbench.strategies import OnConflict
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, query

UTC = dt.UTC
BIG = "é" * 500_000  # 1 MB in UTF-8

# column type -> text of values, as PostgreSQL prints them; every list ends in NULL.
TEXTS: dict[str, list[str | None]] = {
    "int2": ["-32768", "0", "32767", None],
    "int4": ["-2147483648", "1", "2147483647", None],
    "int8": ["-9223372036854775808", "1", "9223372036854775807", None],
    "float4": ["1.5", "NaN", "-Infinity", None],
    "float8": ["0.1", "NaN", "Infinity", "-1.7976931348623157e+308", "5e-324", "-0", None],
    "numeric": ["1.50", "-0.001", "NaN", "Infinity", "123456789012345678901234567890.123", None],
    "numeric(10,2)": ["1.50", "-99999999.99", "0.00", None],
    "text": ["", "a", "😀", 'quote " and \\ and \n', "NULL", BIG, None],
    "varchar(5)": ["", "abcde", "😀😀😀😀😀", None],
    "bool": ["t", "f", None],
    "uuid": ["00000000-0000-0000-0000-000000000000", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", None],
    "date": ["2025-09-09", "0044-03-15 BC", "5874897-12-31", "infinity", "-infinity", None],
    "time": ["00:00:00", "23:59:59.999999", "24:00:00", None],
    "timestamp": ["2025-09-09 05:06:07.89", "0001-01-01 00:00:00 BC", "infinity", None],
    "timestamptz": [
        "2025-09-09 05:06:07.000001+00",
        "4714-11-24 00:00:00+00 BC",
        "294246-12-31 23:59:59.999999+00",
        "-infinity",
        None,
    ],
    "interval": ["1 year 2 mons 3 days 04:05:06.7", "-1 days", "00:00:00", None],
    "json": ['{"a": [1, 2.50, null]}', '"text"', "null", None],
    "jsonb": ['{"a": [1, 2.50, null]}', '"😀"', "null", "[]", None],
    "bytea": ["\\x", "\\x00ff", None],
    "mood": ["sad", "happy", None],
    "int4[]": ["{}", "{1,NULL,3}", None],
    "text[]": ['{a,"","NULL",NULL,"a b"}', "{😀}", None],
    "mood[]": ["{sad,happy}", "{}", None],
    "timestamptz[]": ['{"2025-01-01 00:00:00+00",NULL}', None],
    "inet": ["192.168.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", None],
    "positive": ["1", "2147483647", None],
}
both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)


def create(dsn: str) -> list[str]:
    """A table with a column of each type; its column names, in order of TEXTS."""
    execute(dsn, "CREATE TYPE mood AS ENUM ('sad', 'happy')")
    execute(dsn, "CREATE DOMAIN positive AS int4 CHECK (VALUE > 0)")
    names = [f"c{i}" for i in range(len(TEXTS))]
    columns = ", ".join(f"{n} {kind}" for n, kind in zip(names, TEXTS, strict=True))
    execute(dsn, f"CREATE TABLE t (id int4 PRIMARY KEY, {columns})")
    return names


def as_text(dsn: str, names: list[str]) -> dict[str, list[str | None]]:
    shown = ", ".join(
        f"CASE WHEN {name} IS NOT NULL THEN format('%s', {name}) END" for name in names
    )
    columns = list(zip(*query(dsn, f"SELECT {shown} FROM t ORDER BY id"), strict=True))
    return {kind: list(column) for kind, column in zip(TEXTS, columns, strict=True)}


@both
@pytest.mark.parametrize("on_conflict", list(OnConflict))
async def test_text_goes_in_as_the_server_prints_it(
    dsn: str, strategy: str, driver: str, on_conflict: OnConflict
) -> None:
    """The server's own output, given as text (CSV), comes back the same."""
    names = create(dsn)
    longest = max(map(len, TEXTS.values()))
    padded = {kind: values + [None] * (longest - len(values)) for kind, values in TEXTS.items()}
    rows = pa.table(
        {"id": pa.array(range(longest), pa.int32())}
        | {n: pa.array(v, pa.string()) for n, v in zip(names, padded.values(), strict=True)}
    )
    await load_rows(
        dsn, rows, strategy=strategy, driver=driver, on_conflict=on_conflict, chunk_size=4
    )
    assert as_text(dsn, names) == padded


TYPED: list[tuple[str, pa.DataType | None, list[Any], list[str | None]]] = [
    ("int8", pa.int8(), [-128, None], ["-128", None]),
    ("numeric", pa.decimal128(38, 4), [Decimal("1.5000"), None], ["1.5000", None]),
    ("numeric", pa.int64(), [-(2**63), 2**63 - 1], [str(-(2**63)), str(2**63 - 1)]),
    ("float8", pa.float64(), [0.1, float("nan")], ["0.1", "NaN"]),
    ("uuid", pa.binary(16), [uuid.UUID(int=7).bytes], [str(uuid.UUID(int=7))]),
    ("date", pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31)], ["0001-01-01", "9999-12-31"]),
    ("time", pa.time64("us"), [dt.time(1, 2, 3, 4)], ["01:02:03.000004"]),
    ("timestamp", pa.timestamp("ms"), [dt.datetime(1815, 6, 18)], ["1815-06-18 00:00:00"]),
    (
        "timestamptz",
        pa.timestamp("us", "Europe/Berlin"),
        [dt.datetime(2025, 7, 1, 12, tzinfo=UTC)],
        ["2025-07-01 12:00:00+00"],
    ),
    ("interval", pa.duration("us"), [dt.timedelta(days=1, microseconds=5)], ["24:00:00.000005"]),
    ("jsonb", None, [{"a": [1, None]}, None], ['{"a": [1, null]}', None]),
    ("bytea", pa.binary(), [b"\0\xff", b""], ["\\x00ff", "\\x"]),
    ("int4[]", pa.list_(pa.int64()), [[1, None], [], None], ["{1,NULL}", "{}", None]),
    ("text", pa.dictionary(pa.int8(), pa.string()), ["a", None, "b", "a"], ["a", None, "b", "a"]),
]


@both
async def test_typed_values(dsn18: str, strategy: str, driver: str) -> None:
    for kind, arrow, values, texts in TYPED:
        execute(dsn18, f"DROP TABLE IF EXISTS t; CREATE TABLE t (id int4, v {kind})")
        column = pa.array(values) if arrow is None else pa.array(values, arrow)
        rows = pa.table({"id": pa.array(range(len(values)), pa.int32()), "v": column})
        await load_rows(dsn18, rows, strategy=strategy, driver=driver)
        assert query(dsn18, "SELECT v::text FROM t ORDER BY id") == [(text,) for text in texts], (
            kind
        )


@both
async def test_json_text_stays_as_it_was(dsn18: str, strategy: str, driver: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, v json)")
    text = json.dumps({"b": 1, "a": [1.0, "é"]}, indent=3)
    await load_rows(dsn18, pa.table({"id": [1], "v": [text]}), strategy=strategy, driver=driver)
    assert query(dsn18, "SELECT v::text FROM t") == [(text,)]
