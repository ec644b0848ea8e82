"""The table of casts, and what holds for every cast whatever its types."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from batchbench.casts import Cast, CastOptions, Exactness, Fault, compile_cast
from batchbench.casts.compile import TABLE, canonical_type
from batchbench.errors import ConfigError, InputError
from batchbench.table import BY_INPUT, Column, PgType


def column(kind: str, typmod: int = -1, *, labels: tuple[str, ...] = (), **more: Any) -> Column:
    """A column of a type; "int4[]" is an array of int4."""
    element = column(kind[:-2], labels=labels).type if kind.endswith("[]") else None
    pg_type = PgType(kind, 0, 0, kind, "array" if element else kind, labels, element)
    return Column("reading", pg_type, kind, typmod=typmod, **more)


def numeric_typmod(precision: int, scale: int) -> int:
    return ((precision << 16) | (scale & 0x7FF)) + 4


def values_and_states(cast: Cast, values: pa.Array) -> tuple[list[Any], dict[int, str]]:
    done = cast.apply(values)
    done.values.validate(full=True)
    return done.values.to_pylist(), {fault.row: fault.sqlstate for fault in done.faults}


EXACT, CHECKED = Exactness.EXACT, Exactness.CHECKED
REFUSED = None
UTC = pa.timestamp("us", "UTC")
NAIVE = pa.timestamp("us")
LIST = pa.list_(pa.int32())
STRUCT = pa.struct([("a", pa.int32())])
MAP = pa.map_(pa.string(), pa.int32())

# source, then the verdict for each column kind that stands in the header
NUMBERS = ["int4", "int8", "float4", "float8", "numeric"]
KINDS = ["bool", *NUMBERS, "text", "bytea", "uuid", "date", "timestamptz", "jsonb", "int4[]"]
PAIRS: list[tuple[pa.DataType, list[Exactness | None]]] = [
    (pa.bool_(), [EXACT, *[REFUSED] * 5, EXACT, *[REFUSED] * 4, EXACT, REFUSED]),
    (pa.int8(), [REFUSED, *[EXACT] * 6, *[REFUSED] * 4, EXACT, REFUSED]),
    (
        pa.int32(),
        [REFUSED, EXACT, EXACT, CHECKED, EXACT, EXACT, EXACT, *[REFUSED] * 4, EXACT, REFUSED],
    ),
    (
        pa.int64(),
        [REFUSED, CHECKED, EXACT, CHECKED, CHECKED, EXACT, EXACT, *[REFUSED] * 4, EXACT, REFUSED],
    ),
    (
        pa.uint64(),
        [REFUSED, CHECKED, CHECKED, CHECKED, CHECKED, EXACT, EXACT, *[REFUSED] * 4, EXACT, REFUSED],
    ),
    (
        pa.float32(),
        [REFUSED, CHECKED, CHECKED, EXACT, EXACT, EXACT, EXACT, *[REFUSED] * 4, CHECKED, REFUSED],
    ),
    (
        pa.float64(),
        [REFUSED, CHECKED, CHECKED, CHECKED, EXACT, EXACT, EXACT, *[REFUSED] * 4, CHECKED, REFUSED],
    ),
    (
        pa.decimal128(20, 2),
        [REFUSED, *[CHECKED] * 4, EXACT, EXACT, *[REFUSED] * 4, EXACT, REFUSED],
    ),
    (pa.string(), [CHECKED] * 13),
    (pa.binary(), [*[REFUSED] * 7, EXACT, CHECKED, *[REFUSED] * 4]),
    (pa.binary(16), [*[REFUSED] * 7, EXACT, EXACT, *[REFUSED] * 4]),
    (pa.binary(15), [*[REFUSED] * 7, EXACT, *[REFUSED] * 5]),
    (pa.date32(), [*[REFUSED] * 9, EXACT, *[REFUSED] * 3]),
    (UTC, [*[REFUSED] * 10, EXACT, *[REFUSED] * 2]),
    (NAIVE, [*[REFUSED] * 9, CHECKED, *[REFUSED] * 3]),
    (pa.timestamp("ns", "UTC"), [*[REFUSED] * 10, CHECKED, *[REFUSED] * 2]),
    (LIST, [*[REFUSED] * 11, CHECKED, EXACT]),
    (STRUCT, [*[REFUSED] * 11, CHECKED, REFUSED]),
    (MAP, [*[REFUSED] * 11, CHECKED, REFUSED]),
    (pa.null(), [EXACT] * 13),
]
MORE_PAIRS: list[tuple[pa.DataType, str, Exactness | None]] = [
    (pa.int64(), "oid", CHECKED),
    (pa.uint32(), "oid", EXACT),
    (pa.time32("s"), "time", EXACT),
    (pa.time64("ns"), "time", CHECKED),
    (pa.time64("us"), "timestamp", REFUSED),
    (pa.date32(), "timestamp", EXACT),
    (pa.date64(), "date", CHECKED),
    (pa.duration("us"), "interval", EXACT),
    (pa.duration("ns"), "interval", CHECKED),
    (pa.month_day_nano_interval(), "interval", CHECKED),
    (pa.int64(), "interval", REFUSED),
    (pa.string(), "enum", CHECKED),
    (pa.int32(), "enum", REFUSED),
    (pa.string(), "inet", CHECKED),
    (pa.string(), "xml", CHECKED),
    (pa.uuid(), "uuid", EXACT),
    (pa.dictionary(pa.int8(), pa.int16()), "int4", EXACT),
    (pa.list_(LIST), "int4[]", REFUSED),
    (pa.large_list(pa.int64()), "int4[]", CHECKED),
    (pa.struct([("b", pa.binary())]), "jsonb", REFUSED),
    (pa.map_(pa.int32(), pa.int32()), "jsonb", REFUSED),
    *((source, "input", CHECKED) for source in (pa.string(), pa.bool_(), pa.int8(), LIST)),
    *((source, "input", REFUSED) for source in (pa.binary(), UTC, STRUCT, MAP, pa.list_(LIST))),
]
ALL_PAIRS = [
    *(
        (source, kind, v)
        for source, verdicts in PAIRS
        for kind, v in zip(KINDS, verdicts, strict=True)
    ),
    *MORE_PAIRS,
]


@pytest.mark.parametrize(
    ("source", "kind", "verdict"), ALL_PAIRS, ids=[f"{s}-{k}" for s, k, _ in ALL_PAIRS]
)
def test_table_of_pairs(source: pa.DataType, kind: str, verdict: Exactness | None) -> None:
    if verdict is REFUSED:
        with pytest.raises(InputError) as refusal:
            compile_cast(source, column(kind))
        assert "reading" in str(refusal.value)
        assert kind in str(refusal.value)
    else:
        assert compile_cast(source, column(kind)).exactness is verdict


# Two values per source type, so that every pair that is not refused can be run.
SAMPLES: dict[str, pa.Array] = {
    "bool": pa.array([True, False]),
    "int": pa.array([1, -2], pa.int64()),
    "float": pa.array([1.0, -2.5]),
    "decimal": pa.array([Decimal("1.50"), Decimal("2.00")]),
    "text": pa.array(["1", "t"]),
    "binary": pa.array([b"a" * 16, b"b"]),
    "date": pa.array([dt.date(2024, 2, 29), dt.date(1999, 12, 31)]),
    "time": pa.array([dt.time(1, 2, 3), dt.time(0)]),
    "timestamp": pa.array([dt.datetime(2024, 2, 29), dt.datetime(1, 1, 1, 5)], NAIVE),
    "duration": pa.array([1, -1], pa.duration("us")),
    "months": pa.array([(1, 2, 3000), (0, 0, 0)], pa.month_day_nano_interval()),
    "list": pa.array([[1, None], []], LIST),
    "struct": pa.array([{"a": 1}, {"a": None}], STRUCT),
    "map": pa.array([[("a", 1)], []], MAP),
}
RUNNABLE = [(kind, family) for kind, builders in TABLE.items() for family in builders]


@pytest.mark.parametrize(("kind", "family"), RUNNABLE)
def test_slices_empty_and_null_arrays(kind: str, family: str) -> None:
    """A slice gives what the whole gives there; no rows and only nulls work; types are stable."""
    two = SAMPLES[family]
    padded = pa.concat_arrays([two, pa.nulls(1, two.type), two, two.slice(1)])
    target = column("int4[]" if kind == "array" else kind)
    cast = compile_cast(two.type, target, CastOptions(assume_timezone="UTC"))
    whole = cast.apply(padded)
    whole.values.validate(full=True)
    assert not whole.values[2].is_valid
    for start in range(len(padded) + 1):
        part = cast.apply(padded.slice(start, 3))
        part.values.validate(full=True)
        assert part.values.type == whole.values.type
        assert part.values.equals(whole.values.slice(start, 3))
        moved = [Fault(f.row + start, f.sqlstate, f.reason) for f in part.faults]
        assert moved == [f for f in whole.faults if start <= f.row < start + 3]
    nulls = cast.apply(pa.nulls(3, two.type))
    assert nulls.values.null_count == 3
    assert nulls.faults == ()
    if kind not in ("numeric", "text", "bytea"):
        assert whole.values.type.equals(canonical_type(target))


@pytest.mark.parametrize("kind", [*TABLE, "numeric[]"])
def test_null_source_becomes_canonical_nulls(kind: str) -> None:
    target = column("int4[]" if kind == "array" else kind)
    done = compile_cast(pa.null(), target).apply(pa.nulls(2))
    assert done.values.type == canonical_type(target)
    assert done.values.null_count == 2


def test_not_null_column() -> None:
    cast = compile_cast(pa.string(), column("int4", not_null=True))
    values, states = values_and_states(cast, pa.array(["1", None, "x", None]))
    assert values == [1, None, None, None]
    assert states == {1: "23502", 2: "22P02", 3: "23502"}


def test_another_type_than_compiled_for() -> None:
    cast = compile_cast(pa.int64(), column("int4"))
    with pytest.raises(InputError, match="changed from int64 to int32"):
        cast.apply(pa.array([1], pa.int32()))


def test_dictionary_values_are_converted_once_each() -> None:
    source = pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0, 2], pa.int8()), pa.array(["7", "x", None, "unused and bad"])
    )
    cast = compile_cast(source.type, column("int4"))
    assert values_and_states(cast, source) == ([7, None, None, 7, None], {2: "22P02"})
    assert values_and_states(cast, source.slice(2, 2)) == ([None, 7], {0: "22P02"})


def test_extension_views_and_run_ends_go_by_what_they_hold() -> None:
    number = uuid.UUID(int=7)
    for source, kind, wanted in (
        (pa.array([number.bytes], pa.uuid()), "uuid", number.bytes),
        (pa.array(['{"a":1}'], pa.json_(pa.string())), "jsonb", '{"a":1}'),
        (pa.array(["7"], pa.string_view()), "int4", 7),
        (pa.array([b"7"], pa.binary_view()), "bytea", b"7"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([1], pa.int32()), ["7"]), "int4", 7),
        (pa.array(["7"], pa.large_string()), "text", "7"),
    ):
        cast = compile_cast(source.type, column(kind))
        assert values_and_states(cast, source) == ([wanted], {})


def test_bytes_that_are_not_utf8_are_faults() -> None:
    raw = pa.array([b"ok", b"\xff\xfe", None, b"fine"] * 20)
    text = pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())
    for kind in ("text", "jsonb", "bytea", "inet"):
        _, states = values_and_states(compile_cast(pa.string(), column(kind)), text)
        assert {row for row, state in states.items() if state == "22021"} == set(range(1, 80, 4))


def test_reasons_never_hold_the_value() -> None:
    secret = "s3cr3t99"
    for kind in TABLE:
        if kind in ("text", "varchar", "bpchar", "name", "xml", "json", "jsonb", "bytea", BY_INPUT):
            continue
        target = column(
            "int4[]" if kind == "array" else kind, labels=("a",) if kind == "enum" else ()
        )
        done = compile_cast(pa.string(), target).apply(pa.array([secret, "{" + secret + "}"]))
        assert len(done.faults) == 2, kind
        assert not any("s3cr3t" in fault.reason for fault in done.faults)


def test_unknown_zone_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="Nowhere/Land"):
        compile_cast(NAIVE, column("timestamptz"), CastOptions(assume_timezone="Nowhere/Land"))


def test_guilty_rows_are_found_without_touching_the_rest() -> None:
    """Of 20,000 rows 3 are bad, in ways that no pattern tells apart."""
    days = np.datetime64("2020-01-01", "s") + np.arange(20_000) * 3600
    texts = [f"{day}Z" for day in days]
    texts[5], texts[10_000], texts[19_999] = "2020-02-30T00:00:00Z", "2021-02-29T00:00Z", "soon"
    done = compile_cast(pa.string(), column("timestamptz")).apply(pa.array(texts))
    assert [(f.row, f.sqlstate) for f in done.faults] == [
        (5, "22008"),
        (10_000, "22008"),
        (19_999, "22007"),
    ]
    good = np.delete(np.arange(20_000), [5, 10_000, 19_999])
    wanted = (days - np.datetime64("2000-01-01", "s")).astype(np.int64) * 1_000_000
    assert np.array_equal(done.values.drop_null().to_numpy(), wanted[good])
