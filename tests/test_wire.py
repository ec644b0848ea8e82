"""The wire formats, byte by byte, against psycopg's own dumpers."""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from decimal import Context, Decimal
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from psycopg.types.json import Jsonb

from batchbench.table import PgType
from batchbench.wire import (
    COPY_HEADER,
    COPY_TRAILER,
    array_parameter,
    copy_rows,
    field,
    record_array_parameter,
    scalar_parameters,
)
from batchbench.wire.numeric import numeric_values

OIDS = {"bool": 16, "int2": 21, "int4": 23, "int8": 20, "float4": 700, "float8": 701}
OIDS |= {"text": 25, "uuid": 2950, "bytea": 17, "jsonb": 3802, "timestamptz": 1184, "numeric": 1700}


def pg_type(kind: str, element: PgType | None = None) -> PgType:
    return PgType(kind, OIDS.get(kind, 0), 0, kind, kind, element=element)


def psycopg_binary(value: Any, oid: int) -> bytes | None:
    if value is None:
        return None
    dumper = psycopg.adapters.get_dumper_by_oid(oid, psycopg.pq.Format.BINARY)
    dumped = dumper(type(value), Transformer()).dump(value)
    assert dumped is not None
    return bytes(dumped)


_EXACT = Context(prec=500)
EPOCH = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
VALUES: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    "bool": (st.booleans(), pa.bool_()),
    "int2": (st.integers(-(2**15), 2**15 - 1), pa.int16()),
    "int4": (st.integers(-(2**31), 2**31 - 1), pa.int32()),
    "int8": (st.integers(-(2**63), 2**63 - 1), pa.int64()),
    "float4": (st.floats(width=32), pa.float32()),
    "float8": (st.floats(), pa.float64()),
    "text": (st.text(st.characters(exclude_characters="\0", codec="utf-8")), pa.string()),
    "bytea": (st.binary(), pa.binary()),
    "uuid": (st.uuids(), pa.binary(16)),
}
COLUMNS = st.sampled_from(sorted(VALUES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(st.none() | VALUES[kind][0], min_size=1))
)


def arrow(kind: str, values: list[Any]) -> pa.Array:
    raw = [value.bytes if isinstance(value, uuid.UUID) else value for value in values]
    return pa.array(raw, VALUES[kind][1])


@given(COLUMNS)
def test_scalars_are_psycopgs_bytes(column: tuple[str, list[Any]]) -> None:
    kind, values = column
    encoded = scalar_parameters(field(arrow(kind, values), pg_type(kind)))
    assert encoded == [psycopg_binary(value, OIDS[kind]) for value in values]


@given(COLUMNS, st.data())
def test_a_slice_is_encoded_like_a_copy_of_it(
    column: tuple[str, list[Any]], data: st.DataObject
) -> None:
    kind, values = column
    start = data.draw(st.integers(0, len(values) - 1))
    part = arrow(kind, values).slice(start)
    assert scalar_parameters(field(part, pg_type(kind))) == [
        psycopg_binary(value, OIDS[kind]) for value in values[start:]
    ]


@given(COLUMNS)
def test_arrays_are_lengths_and_values(column: tuple[str, list[Any]]) -> None:
    kind, values = column
    parameter = array_parameter(field(arrow(kind, values), pg_type(kind)), pg_type(kind))
    has_nulls = any(value is None for value in values)
    assert parameter[:20] == struct.pack(">iiIii", 1, has_nulls, OIDS[kind], len(values), 1)
    assert parameter[20:] == b"".join(framed(psycopg_binary(v, OIDS[kind])) for v in values)


@given(st.lists(COLUMNS, min_size=1, max_size=6), st.integers(1, 5), st.integers(0, 4))
def test_copy_rows_are_rows(
    columns: list[tuple[str, list[Any]]], row_count: int, start: int
) -> None:
    columns = [
        (kind, (values * (start + row_count))[: start + row_count]) for kind, values in columns
    ]
    arrays = [arrow(kind, values).slice(start) for kind, values in columns]
    types = [pg_type(kind) for kind, _ in columns]
    expected = b"".join(
        struct.pack(">h", len(columns))
        + b"".join(framed(psycopg_binary(values[row], OIDS[kind])) for kind, values in columns)
        for row in range(start, start + row_count)
    )
    assert bytes(copy_rows(arrays, types)) == expected
    fields = [field(values, type_) for values, type_ in zip(arrays, types, strict=True)]
    records = record_array_parameter(
        [*fields, None], [OIDS[kind] for kind, _ in columns] + [25], 4711, row_count
    )
    assert records.startswith(struct.pack(">iiIii", 1, 0, 4711, row_count, 1))
    assert struct.unpack_from(">ii", records, 20)[1] == len(columns) + 1
    assert records.endswith(struct.pack(">Ii", 25, -1))


_LISTS = pa.array([[1, None], [], None, [3], [2**31 - 1]], pa.list_(pa.int32()))
OTHERS: dict[str, tuple[PgType, list[pa.Array]]] = {
    "oid": (pg_type("oid"), [pa.array([0, None, 2**31, 2**32 - 1], pa.uint32())]),
    "jsonb": (
        pg_type("jsonb"),
        [pa.array(["{}", None, "[1]"], of) for of in (pa.string(), pa.large_string())],
    ),
    "numeric": (
        pg_type("numeric"),
        [
            pa.array([Decimal("-1.50"), None, Decimal("12345678.90")], pa.decimal128(20, 2)),
            pa.array([Decimal(10**37), None, Decimal(-1)], pa.decimal128(38, 0)),
            pa.array(["0.001", None, "NaN", "-" + "7" * 24], pa.string()),
            pa.array(["1.5", "20"], pa.string()),
        ],
    ),
    "array": (pg_type("array", pg_type("int4")), [_LISTS, _LISTS.slice(3)]),
    "date": (pg_type("date"), [pa.array([0, None, -(2**31)], pa.int32())]),
    "timestamp": (pg_type("timestamp"), [pa.array([0, None, -(2**63), 2**63 - 1], pa.int64())]),
    "interval": (pg_type("interval"), [pa.array([b"a" * 16, None], pa.binary(16))]),
    "inet": (pg_type("inet"), [pa.array([b"ab", None], pa.binary())]),
    "macaddr": (pg_type("macaddr"), [pa.array([b"abcdef", None], pa.binary(6))]),
    "text": (pg_type("text"), [pa.array(["\u00e9", None, ""], pa.large_string())]),
    "bytea": (pg_type("bytea"), [pa.array([b"\0", None, b""], pa.large_binary())]),
}


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("start", [0, 1])
def test_copy_rows_have_the_bytes_of_parameters(kind: str, start: int) -> None:
    type_, columns = OTHERS[kind]
    for whole in columns:
        values = whole.slice(start)
        one_by_one = scalar_parameters(field(values, type_))
        expected = b"".join(struct.pack(">h", 1) + framed(value) for value in one_by_one)
        assert bytes(copy_rows([values], [type_])) == expected


def framed(value: bytes | None) -> bytes:
    return struct.pack(">i", -1) if value is None else struct.pack(">i", len(value)) + value


DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda value: abs(value.adjusted()) < 200
)


@given(st.lists(st.none() | DECIMALS, min_size=1))
def test_numeric_text_means_what_psycopg_sends(values: list[Decimal | None]) -> None:
    text = pa.array([None if value is None else f"{value:f}" for value in values], pa.string())
    encoded = scalar_parameters(field(text, pg_type("numeric")))
    assert [None if e is None else numeric_of(e) for e in encoded] == [
        None if v is None else (v, max(-int(v.as_tuple().exponent), 0)) for v in values
    ]


@given(st.lists(st.integers(-(10**38) + 1, 10**38 - 1), min_size=1), st.integers(0, 20))
def test_numeric_decimal_means_what_it_was(unscaled: list[int], scale: int) -> None:
    values = [Decimal(number).scaleb(-scale, _EXACT) for number in unscaled]
    column = pa.array(values, pa.decimal128(38, scale))
    encoded = scalar_parameters(field(column, pg_type("numeric")))
    assert [numeric_of(e) for e in encoded if e is not None] == [(v, scale) for v in values]


def numeric_of(encoded: bytes) -> tuple[Decimal, int]:
    """Read a binary numeric as the server does: (value, display scale)."""
    count, weight, sign, scale = struct.unpack_from(">hhHh", encoded)
    groups = struct.unpack_from(f">{count}h", encoded, 8)
    assert all(0 <= group < 10_000 for group in groups)
    value = Decimal(0)
    for place, group in enumerate(groups):
        value = _EXACT.add(value, Decimal(group).scaleb(4 * (weight - place), _EXACT))
    return (_EXACT.minus(value) if sign == 0x4000 else value), scale


def test_numeric_specials() -> None:
    encoded = numeric_values(pa.array(["NaN", "Infinity", "-Infinity"])).to_pylist()
    assert encoded == [psycopg_binary(Decimal(text), 1700) for text in ("NaN", "Inf", "-Inf")]


def test_jsonb_has_its_version() -> None:
    encoded = scalar_parameters(field(pa.array(['{"a": 1}', None]), pg_type("jsonb")))
    dumper = psycopg.adapters.get_dumper(Jsonb, PyFormat.BINARY)(Jsonb, Transformer())
    assert encoded == [bytes(dumper.dump(Jsonb({"a": 1})) or b""), None]


def test_lists_become_arrays() -> None:
    lists = pa.array([[1, None], [], None, [3]], pa.list_(pa.int32())).slice(0)
    kind = pg_type("array", pg_type("int4"))
    encoded = scalar_parameters(field(lists, kind))
    head = struct.pack(">iiIii", 1, 1, 23, 2, 1)
    assert encoded[0] == head + framed(struct.pack(">i", 1)) + framed(None)
    assert encoded[1] == struct.pack(">iiI", 0, 1, 23)
    assert encoded[2] is None
    assert encoded[3] == struct.pack(">iiIii", 1, 1, 23, 1, 1) + framed(struct.pack(">i", 3))
    assert scalar_parameters(field(lists.slice(3), kind)) == [
        struct.pack(">iiIii", 1, 0, 23, 1, 1) + framed(struct.pack(">i", 3))
    ]


def test_null_lists_hide_whatever_lies_under_them() -> None:
    lists = pa.ListArray.from_arrays(
        pa.array([0, 2, 3], pa.int32()),
        pa.array([7, 8, 9], pa.int32()),
        mask=pa.array([True, False]),
    )
    encoded = scalar_parameters(field(lists, pg_type("array", pg_type("int4"))))
    assert encoded == [None, struct.pack(">iiIii", 1, 0, 23, 1, 1) + framed(struct.pack(">i", 9))]


def test_timestamps_are_microseconds_since_2000() -> None:
    moment = dt.datetime(2025, 9, 9, 5, 6, 7, 890123, tzinfo=dt.UTC)
    micros = (moment - EPOCH) // dt.timedelta(microseconds=1)
    encoded = scalar_parameters(field(pa.array([micros]), pg_type("timestamptz")))
    assert encoded == [psycopg_binary(moment, 1184)]


def test_copy_frame_is_the_documented_one() -> None:
    assert b"PGCOPY\n\xff\r\n\x00" + bytes(8) == COPY_HEADER
    assert COPY_TRAILER == b"\xff\xff"


@pytest.mark.parametrize("width", [1, 1600])
def test_wide_rows(width: int) -> None:
    columns = [pa.array(np.arange(3), pa.int32())] * width + [pa.array(["a", None, "c"])]
    rows = copy_rows(columns, [pg_type("int4")] * width + [pg_type("text")])
    assert len(rows) == 3 * (2 + width * 8 + 4) + 2


@pytest.mark.parametrize("width", [0, 10, 4 << 20])
def test_rows_are_whole_whatever_their_size(width: int) -> None:
    rows = copy_rows([pa.array(["x" * width] * 3)], [pg_type("text")])
    assert bytes(rows) == (struct.pack(">hi", 1, width) + b"x" * width) * 3
