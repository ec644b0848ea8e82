"""Whatever goes in: what a cast returns, decoded back, is the input, or the row is a fault."""

from __future__ import annotations

import datetime as dt
import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbench.casts import compile_cast
from tests.test_casts import column, numeric_typmod

EPOCH = dt.datetime(2000, 1, 1)
MICROSECOND = dt.timedelta(microseconds=1)
INT64 = st.integers(-(2**63), 2**63 - 1)
quick = settings(max_examples=60, deadline=None)


def rows(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.lists(st.none() | values, max_size=40)


def holds(
    source: pa.Array, target: Any, same: Callable[[Any, Any], bool], fits: Callable[[Any], bool]
) -> None:
    """Rows that fit come back the same, all others are faults, nulls stay nulls."""
    done = compile_cast(source.type, target).apply(source)
    done.values.validate(full=True)
    faulty = {fault.row for fault in done.faults}
    assert [f.row for f in done.faults] == sorted(faulty)
    for row, (given_value, got) in enumerate(
        zip(source.to_pylist(), done.values.to_pylist(), strict=True)
    ):
        if given_value is None:
            assert got is None
            assert row not in faulty
        elif row in faulty:
            assert got is None
            assert not fits(given_value)
        else:
            assert fits(given_value)
            assert same(given_value, got)


@quick
@given(rows(INT64), st.sampled_from(["int2", "int4", "int8"]))
def test_integers(values: list[int | None], kind: str) -> None:
    limit = {"int2": 2**15, "int4": 2**31, "int8": 2**63}[kind]
    for source in (pa.array(values, pa.int64()), pa.array(values, pa.int64()).cast(pa.string())):
        holds(source, column(kind), lambda a, b: int(a) == b, lambda a: -limit <= int(a) < limit)


@quick
@given(rows(INT64 | st.integers(-5, 5)), st.sampled_from(["float4", "float8"]))
def test_integers_into_floats(values: list[int | None], kind: str) -> None:
    def fits(value: int) -> bool:
        try:
            packed = (
                struct.unpack("f", struct.pack("f", value))[0] if kind == "float4" else float(value)
            )
        except OverflowError:
            return False
        return int(packed) == value

    holds(pa.array(values, pa.int64()), column(kind), lambda a, b: a == int(b), fits)


@quick
@given(rows(st.floats() | st.integers(-300, 300).map(float)))
def test_floats(values: list[float | None]) -> None:
    def same(a: float, b: Any) -> bool:
        return math.isnan(a) if str(b) == "NaN" or b != b else float(b) == a

    source = pa.array(values, pa.float64())
    holds(source, column("float8"), same, lambda a: True)
    holds(source, column("numeric"), same, lambda a: True)
    holds(source, column("text"), same, lambda a: True)
    holds(
        source,
        column("int2"),
        same,
        lambda a: math.isfinite(a) and a == int(a) and -(2**15) <= a < 2**15,
    )
    texts = pa.array([None if v is None else repr(v) for v in values], pa.string())
    holds(texts, column("float8"), lambda a, b: same(float(a), b), lambda a: True)


@quick
@given(rows(st.decimals(-(10**12), 10**12, places=4)), st.integers(1, 12), st.integers(-3, 8))
def test_numeric_limits(values: list[Decimal | None], precision: int, scale: int) -> None:
    """numeric(p,s) takes a decimal exactly where it is a multiple of 10^-s below 10^(p-s)."""
    target = column("numeric", numeric_typmod(precision, scale))

    def fits(value: Decimal | str) -> bool:
        number = Decimal(value)
        return number % Decimal(1).scaleb(-scale) == 0 and abs(number) < Decimal(1).scaleb(
            precision - scale
        )

    def same(a: Decimal | str, b: Decimal | str) -> bool:
        return Decimal(a) == Decimal(b)

    holds(pa.array(values, pa.decimal128(20, 4)), target, same, fits)
    holds(pa.array(values, pa.decimal256(50, 4)), target, same, fits)
    holds(
        pa.array([None if v is None else str(v) for v in values], pa.string()), target, same, fits
    )
    whole = [None if v is None else int(v) for v in values]
    holds(pa.array(whole, pa.int64()), target, lambda a, b: a == b, fits)


@quick
@given(rows(st.decimals(allow_nan=False, allow_infinity=False)))
def test_numeric_text(values: list[Decimal | None]) -> None:
    """Exponents are expanded without a change of value or of display scale."""
    texts = pa.array([None if v is None else str(v) for v in values], pa.string())
    done = compile_cast(pa.string(), column("numeric")).apply(texts)
    faulty = {fault.row for fault in done.faults}
    for row, (value, got) in enumerate(zip(values, done.values.to_pylist(), strict=True)):
        if value is None:
            continue
        _, digits, exponent = value.as_tuple()
        if row in faulty:
            assert exponent < -16_383 or len(digits) + exponent > 131_072
        else:
            assert got.lstrip("-").replace(".", "").isdigit()
            assert Decimal(got) == value
            assert len(got.partition(".")[2]) == max(-exponent, 0)


@quick
@given(
    rows(st.datetimes()),
    st.sampled_from([None, dt.timedelta(0), dt.timedelta(hours=-7, minutes=-30)]),
)
def test_timestamps(values: list[dt.datetime | None], offset: dt.timedelta | None) -> None:
    kind = "timestamp" if offset is None else "timestamptz"
    zone = None if offset is None else dt.timezone(offset)
    shift = offset or dt.timedelta(0)

    def same(a: str, b: int) -> bool:
        return dt.datetime.fromisoformat(a).replace(tzinfo=None) - EPOCH == b * MICROSECOND + shift

    texts = [None if v is None else v.replace(tzinfo=zone).isoformat(" ") for v in values]
    holds(pa.array(texts, pa.string()), column(kind), same, lambda a: True)
    typed = pa.array(values, pa.timestamp("us", None if offset is None else "UTC"))
    done = compile_cast(typed.type, column(kind)).apply(typed)
    assert done.faults == ()
    expected = [None if v is None else (v - EPOCH) // MICROSECOND for v in values]
    assert done.values.to_pylist() == expected


@quick
@given(st.lists(INT64, max_size=30), st.sampled_from(["s", "ms", "us", "ns"]))
def test_any_unit_is_exact_or_a_fault(values: list[int], unit: str) -> None:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    source = pa.array(values, pa.int64()).view(pa.timestamp(unit, "UTC"))
    done = compile_cast(source.type, column("timestamptz")).apply(source)
    faulty = {fault.row for fault in done.faults}
    for row, (value, got) in enumerate(zip(values, done.values.to_pylist(), strict=True)):
        micro, rest = divmod(value * 10**6, per_second)
        micro -= 946_684_800_000_000
        inside = -211_813_488_000_000_000 <= micro < 9_223_371_331_200_000_000
        assert (row in faulty) == (rest != 0 or not inside)
        assert row in faulty or got == micro


@quick
@given(rows(st.uuids()), st.sampled_from(["{}", "{{{}}}", "{0.hex}"]))
def test_uuids(values: list[uuid.UUID | None], spelling: str) -> None:
    texts = [None if v is None else spelling.format(v) for v in values]
    holds(
        pa.array(texts, pa.string()),
        column("uuid"),
        lambda a, b: uuid.UUID(a).bytes == b,
        lambda a: True,
    )


@quick
@given(rows(st.text()))
def test_text(values: list[str | None]) -> None:
    source = pa.array(values, pa.string())
    holds(source, column("text"), lambda a, b: a == b, lambda a: "\0" not in a)
    holds(
        source, column("varchar", 7), lambda a, b: a == b, lambda a: "\0" not in a and len(a) <= 3
    )


@quick
@given(rows(st.binary()))
def test_bytea(values: list[bytes | None]) -> None:
    texts = [None if v is None else "\\x" + v.hex() for v in values]
    done = compile_cast(pa.string(), column("bytea")).apply(pa.array(texts, pa.string()))
    assert done.values.to_pylist() == values
    escaped = [
        None
        if v is None
        else "".join(chr(b) if 32 <= b < 127 and b != 92 else f"\\{b:03o}" for b in v)
        for v in values
    ]
    done = compile_cast(pa.string(), column("bytea")).apply(pa.array(escaped, pa.string()))
    assert done.values.to_pylist() == values


@quick
@given(
    rows(st.text()),
    st.sampled_from(
        [
            "int4",
            "float8",
            "numeric",
            "bool",
            "uuid",
            "date",
            "time",
            "timestamp",
            "timestamptz",
            "interval",
            "bytea",
            "inet",
            "cidr",
            "macaddr",
            "int4[]",
            "text[]",
            "timestamptz[]",
        ]
    ),
)
def test_any_text_is_converted_or_a_fault(values: list[str | None], kind: str) -> None:
    """Nothing raises, and a row is null exactly where it was null or is a fault."""
    done = compile_cast(pa.string(), column(kind)).apply(pa.array(values, pa.string()))
    done.values.validate(full=True)
    missing = {row for row, value in enumerate(values) if value is None}
    assert {row for row in range(len(values)) if not done.values[row].is_valid} == missing | {
        fault.row for fault in done.faults
    }


@quick
@given(rows(st.lists(st.none() | st.text(), max_size=5)))
def test_array_literals(values: list[list[str | None] | None]) -> None:
    def literal(elements: list[str | None]) -> str:
        quoted = (
            "NULL" if e is None else '"' + e.replace("\\", "\\\\").replace('"', '\\"') + '"'
            for e in elements
        )
        return "{" + ",".join(quoted) + "}"

    source = pa.array([None if v is None else literal(v) for v in values], pa.string())
    done = compile_cast(pa.string(), column("text[]")).apply(source)
    faulty = {fault.row for fault in done.faults}
    for row, (value, got) in enumerate(zip(values, done.values.to_pylist(), strict=True)):
        has_nul = any("\0" in element for element in value or [] if element)
        assert (row in faulty) == has_nul
        assert row in faulty or got == value
