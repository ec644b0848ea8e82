"""Arrow schema -> CREATE TABLE."""

from __future__ import annotations

import pyarrow as pa
import pytest

from batchbench.ddl import sql_type, table_ddl
from batchbench.errors import TableError
from batchbench.sources.columns import JSON_METADATA
from batchbench.table import TableName


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (pa.int8(), "smallint"),
        (pa.uint8(), "smallint"),
        (pa.uint16(), "integer"),
        (pa.int32(), "integer"),
        (pa.uint32(), "bigint"),
        (pa.int64(), "bigint"),
        (pa.uint64(), "numeric(20)"),
        (pa.float32(), "real"),
        (pa.float64(), "double precision"),
        (pa.decimal128(12, 2), "numeric(12,2)"),
        (pa.decimal128(3, 5), "numeric(5,5)"),
        (pa.decimal128(3, -2), "numeric(5)"),
        (pa.decimal256(76, 0), "numeric(76,0)"),
        (pa.large_string(), "text"),
        (pa.bool_(), "boolean"),
        (pa.date32(), "date"),
        (pa.date64(), "date"),
        (pa.time64("us"), "time"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.timestamp("us", "Europe/Berlin"), "timestamptz"),
        (pa.duration("s"), "interval"),
        (pa.binary(), "bytea"),
        (pa.binary(16), "bytea"),
        (pa.uuid(), "uuid"),
        (pa.list_(pa.int32()), "integer[]"),
        (pa.list_(pa.list_(pa.int32())), "integer[]"),
        (pa.list_(pa.struct([("a", pa.int32())])), "jsonb"),
        (pa.struct([("a", pa.int32())]), "jsonb"),
        (pa.map_(pa.string(), pa.int32()), "jsonb"),
        (pa.dictionary(pa.int8(), pa.string()), "text"),
        (pa.null(), "text"),
        (pa.run_end_encoded(pa.int32(), pa.int64()), None),
    ],
)
def test_types(kind: pa.DataType, expected: str | None) -> None:
    assert sql_type(kind) == expected


def test_statement_quotes_every_name_and_keeps_the_order() -> None:
    schema = pa.schema(
        [
            ('say "hi"', pa.int64()),
            ("Größe", pa.string()),
            pa.field("doc", pa.string(), metadata=JSON_METADATA),
        ]
    )
    assert table_ddl(TableName("select", "S"), schema) == (
        'CREATE TABLE "S"."select" (\n  "say ""hi""" bigint,\n  "Größe" text,\n  "doc" jsonb\n)'
    )


@pytest.mark.parametrize(
    ("name", "columns", "hint"),
    [
        ("t", ["a", "a"], "two columns"),
        ("t", ["ä" * 32], "64 bytes"),
        ("x" * 64, ["a"], "64 bytes"),
        ("t", [], "0 columns"),
        ("t", [f"c{n}" for n in range(1_601)], "1,601|1601"),
        ("t", [""], "empty"),
    ],
)
def test_what_postgresql_would_cut_or_refuse_is_refused(
    name: str, columns: list[str], hint: str
) -> None:
    schema = pa.schema([pa.field(column, pa.int64()) for column in columns])
    with pytest.raises(TableError, match=hint):
        table_ddl(TableName(name), schema)


def test_a_name_of_63_bytes_is_fine() -> None:
    assert "x" * 63 in table_ddl(TableName("t"), pa.schema([("x" * 63, pa.int64())]))


def test_a_type_without_counterpart_names_the_column() -> None:
    schema = pa.schema([("odd", pa.run_end_encoded(pa.int32(), pa.int64()))])
    with pytest.raises(TableError, match="'odd'"):
        table_ddl(TableName("t"), schema)
