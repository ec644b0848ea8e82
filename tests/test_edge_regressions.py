"""What the tests at the edges of types found: each a bug once, in a cast, a source or the wire."""

from __future__ import annotations

import datetime as dt
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from batchbench.engine import load
from batchbench.errors import InputError
from batchbench.profile import PROFILES
from batchbench.sources import (
    HealthOptions,
    SourceOptions,
    half_pairs,
    json_array,
    ndjson,
    open_source,
    open_sources,
)
from batchbench.sources import rows as row_sources
from batchbench.table import TableName
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, options, query
from tests.test_casts import column
from tests.test_casts_values import check, text

UTC = dt.UTC
BIG = 1 << 40


def table_of(values: list[Any]) -> pa.Table:
    batches = open_source([{"v": value} for value in values]).batches(65_536, BIG)
    return pa.Table.from_batches([batch.columns for batch in batches])


def array_of(values: list[Any]) -> pa.Array:
    return table_of(values)["v"].combine_chunks()


# ------------------------------------------------------------------ the wire


@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
async def test_numerics_at_the_ends_of_their_encodings(
    dsn18: str, strategy: str, driver: str
) -> None:
    """The smallest int64 became -6627963145224192 in silence; 32,768 digit groups raised."""
    execute(dsn18, "CREATE TABLE t (id int4, v numeric)")
    values = [Decimal(-(2**63)), Decimal(2**63 - 1), Decimal(10**18), Decimal(-(10**18))]
    ids = pa.array(range(4), pa.int32())
    ints = pa.table({"id": ids, "v": pa.array([int(v) for v in values], pa.int64())})
    await load_rows(dsn18, ints, strategy=strategy, driver=driver)
    assert query(dsn18, "SELECT v FROM t ORDER BY id") == [(v,) for v in values]
    longest = pa.table({"id": [4, 5], "v": ["1e131071", "-" + "9" * 131_072 + "." + "9" * 16_383]})
    await load_rows(dsn18, longest, strategy=strategy, driver=driver)
    shown = query(dsn18, "SELECT v = 1e131071, length(v::text) FROM t WHERE id > 3 ORDER BY id")
    assert shown == [(True, 131_072), (False, 147_457)]


# ------------------------------------------------------------------ casts


def test_decimals_into_floats() -> None:
    """Tiny ones became 0; exact ones of many digits were refused."""
    tiny = [Decimal("1.3E-75"), Decimal("1.23E-44"), None, Decimal(0)]
    narrow = pa.array(tiny, pa.decimal256(76, 76))
    check(narrow, column("float4"), [{"22003"}, {"22003"}, None, 0.0])
    exact = pa.array([Decimal(2**62), Decimal(2**62 + 1), Decimal("0.5")], pa.decimal128(25, 3))
    check(exact, column("float8"), [2.0**62, {"22003"}, 0.5])
    check(pa.array([Decimal(2**31), None]), column("float4"), [2.0**31, None])


def test_decimals_with_no_room_beside_them() -> None:
    """pyarrow cannot round or compare them, which stopped the load."""
    small = pa.array([Decimal("0.5"), None, Decimal(0)], pa.decimal256(76, 76))
    check(small, column("int8"), [{"22P02"}, None, 0])
    long = pa.array([Decimal("5.00"), Decimal("5.25"), Decimal(2**70)]).cast(pa.decimal256(76, 50))
    check(long, column("int4"), [5, {"22P02"}, {"22003"}])


def of_scale(digits: list[int], scale: int) -> pa.Array:
    plain = pa.array([Decimal(d) for d in digits], pa.decimal256(76, 0))
    return pa.Array.from_buffers(pa.decimal256(76, scale), len(plain), plain.buffers())


def test_decimals_beyond_76_digits() -> None:
    huge = of_scale([5, 0, 10**75], -10)
    check(huge, column("int8"), [5 * 10**10, 0, {"22003"}])
    check(huge, column("float8"), [5e10, 0.0, 1e85])
    check(huge, column("numeric", (20 << 16) + 4), ["50000000000", "0", {"22003"}])


def test_decimals_that_arrow_cannot_show_are_refused() -> None:
    """Their text was <scale out of range ...>, and went into the column."""
    with pytest.raises(InputError, match="scale"):
        check(of_scale([1], 80), column("text"), [])


def test_integers_as_text_keep_their_digits_in_floats() -> None:
    texts = text("9007199254740993", "9007199254740992", "1e23", " +18446744073709551616 ", "0.1")
    check(texts, column("float8"), [{"22003"}, 2.0**53, 1e23, 2.0**64, 0.1])
    check(text("16777217", "16777216"), column("float4"), [{"22003"}, 2.0**24])


def test_blanks_in_bytea_are_those_of_the_server() -> None:
    values = text("\\x00\v01", "\\x\f00", "\\x00 01\n", "\\x00\t01\r")
    check(values, column("bytea"), [{"22P02"}, {"22P02"}, b"\0\1", b"\0\1"])


def test_prefix_lengths_have_no_leading_zeros() -> None:
    check(text("::1/08", "10.0.0.0/08"), column("inet"), [{"22P02"}, {"22P02"}])


def test_json_arrays_are_arrays() -> None:
    """Lists of several types, and empty ones, come as JSON; their rows were all refused."""
    check(
        text("[]", "[1, 2.50, null, 1e3]", "[1, [2]]", "[1,", "[0:1]={1,2}", "[NaN]"),
        column("float8[]"),
        [[], [1.0, 2.5, None, 1000.0], {"22P02"}, {"22P02"}, {"22P02"}, [float("nan")]],
    )
    check(
        text('["NULL", "é", true, null]', '["\\ud800"]', "[" * 100_000, '[{"a": 1}]'),
        column("text[]"),
        [["NULL", "é", "true", None], {"22021"}, {"22P02"}, {"22P02"}],
    )


@pytest.mark.parametrize("kind", [pa.list_view, pa.large_list_view, pa.large_list])
def test_list_views(kind: Any) -> None:
    """pyarrow's cast to plain lists forgets their last offset."""
    values = [None, [1, None], [], [2], None]
    check(pa.array(values, kind(pa.int64())), column("int4[]"), values)
    check(pa.array(values[:-1], kind(pa.int64())).slice(1), column("int4[]"), values[1:-1])


# ------------------------------------------------------------------ Python's values


def test_no_offset_is_dropped_from_a_time_of_day() -> None:
    found = array_of([dt.time(1, 2), dt.time(1, 2, tzinfo=UTC), None])
    check(found, column("time"), [3_720_000_000, {"22007"}, None])


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_no_nanosecond_is_dropped_from_a_timestamp(zone: str | None) -> None:
    moments = [pd.Timestamp(value, unit="ns", tz=zone) for value in (1_001, 1_000)]
    kind = column("timestamptz" if zone else "timestamp")
    shift = 0 if zone is None else 9 * 3_600_000_000
    expected = 1 - 946_684_800_000_000 - (0 if zone else shift)
    check(array_of([*moments, None]), kind, [{"22008"}, expected, None])
    assert array_of([moments[1], pd.NaT]).null_count == 1


def test_no_zone_is_dropped_from_a_pandas_timestamp() -> None:
    with pytest.raises(InputError, match="fit no one type"):
        array_of([pd.Timestamp(0), pd.Timestamp(0, tz="UTC")])


def test_spans_of_nanoseconds_and_beyond_64_bits() -> None:
    spans = [pd.Timedelta(-1_500, "ns"), pd.Timedelta(2_000, "ns")]
    found = array_of(spans)
    assert found.to_pylist() == ["-0.000001500 seconds", "0.000002000 seconds"]
    check(found, column("interval"), [{"22008"}, (2).to_bytes(8, "big") + bytes(8)])
    found = array_of([dt.timedelta.max, dt.timedelta(seconds=-1)])
    assert found.to_pylist() == ["999999999 days 86399.999999000 seconds", "-1.000000000 seconds"]
    nanoseconds = array_of([np.timedelta64(5, "ns"), np.timedelta64(6, "ns")])
    assert nanoseconds.type == pa.duration("ns")


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([[UUID(int=5)], [None]], pa.list_(pa.uuid())),
        ([[dt.datetime(2025, 1, 2, tzinfo=UTC)], []], pa.list_(pa.timestamp("us", "UTC"))),
        ([[dt.date(2025, 1, 2)], None], pa.list_(pa.date32())),
        ([[2**63, 1], []], pa.list_(pa.decimal128(19, 0))),
    ],
)
def test_lists_of_any_scalar(values: list[Any], kind: pa.DataType) -> None:
    found = array_of(values)
    assert found.type == kind
    assert found.to_pylist() == values


def test_a_list_after_empty_ones_keeps_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_sources, "CONVERT_ROWS", 1)
    source = open_source([{"v": []}, {"v": [dt.time(1)]}, {"v": [1, 2.5]}])
    found = [batch.columns["v"].to_pylist() for batch in source.batches(9, BIG)]
    assert found == [["[]"], [[dt.time(1)]], ["[1, 2.5]"]]


def test_numbers_that_no_type_holds_do_not_spoil_their_neighbours() -> None:
    """One such number made its column text that integer columns refuse, or stopped the load."""
    mixed = [5.0, Decimal("1E+3"), Decimal("100.00"), 7, Decimal("1E-400"), Decimal("2.5")]
    check(array_of(mixed), column("int8"), [5, 1000, 100, 7, {"22P02"}, {"22P02"}])
    check(array_of([10**5_000, -(2.0**63)]), column("int8"), [{"22003"}, -(2**63)])
    check(array_of([2**70, float("inf"), 0.5]), column("float8"), [2.0**70, float("inf"), 0.5])
    check(array_of([2**53 + 1, 1e-300, 2**2000]), column("float8"), [{"22003"}, 1e-300, {"22003"}])


def test_a_number_that_json_lacks_spoils_one_document_only() -> None:
    values = [{"a": float("nan")}, {"a": Decimal("Infinity")}, {"a": 1}]
    assert array_of(values).to_pylist() == ['{"a": NaN}', '{"a": Infinity}', '{"a": 1}']


# ------------------------------------------------------------------ NDJSON


def ndjson_numbers(folder: Path, lines: list[str]) -> list[Decimal]:
    path = folder / "rows.ndjson"
    path.write_text("".join(f'{{"v": {line}}}\n' for line in lines))
    batches = open_source(path).batches(65_536, BIG)
    return [Decimal(str(v)) for batch in batches for v in batch.columns["v"].to_pylist()]


def test_numbers_of_json(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """1e-400 became 0 from the second block on; whole numbers were moved to the nearest float;
    an integer of 5,000 digits stopped the load as a bug.
    """
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 20)
    for tokens in (
        ["0.5", "1.5", "1E-400", "2.5"],
        ["29736565730335010", "2.973656573033501E+16", "5E+15", "1E+22"],
        ["9" * 5_000, "1"],
    ):
        assert ndjson_numbers(tmp_path, tokens) == [Decimal(token) for token in tokens]


def test_an_hour_alone_is_no_time() -> None:
    """Arrow reads it, PostgreSQL 15 and our own reader of odd spellings do not."""
    check(text("2024-01-01 10", "2000-01-01 00:00"), column("timestamp"), [{"22007"}, 0])
    zoned = text("2024-01-01 10Z", "2024-01-01 10+00:00", "2000-01-01 00:00Z", None)
    check(zoned, column("timestamptz"), [{"22007"}, {"22007"}, 0, None])


_HALVES = {
    "rows": [{"id": 1, "v": "good"}, {"id": 2, "v": "half \ud800"}, {"id": 3, "v": "😀"}],
    "ndjson": b'{"id":1,"v":"good"}\n{"id":2,"v":"half \\ud800"}\n{"id":3,"v":"\\ud83d\\ude00"}\n',
    "json": b'[{"id":1,"v":"good"},{"id":2,"v":"half \\ud800"},{"id":3,"v":"\\ud83d\\ude00"}]',
}


@pytest.mark.parametrize("kind", _HALVES)
async def test_half_a_surrogate_pair_costs_its_own_row_only(
    dsn18: str, kind: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, v text)")
    data = _HALVES[kind]
    source = open_source(io.BytesIO(data) if isinstance(data, bytes) else data)
    dead_letter = tmp_path / "rejects.ndjson"
    result = await load(source, {None: TableName("t")}, dsn18, options(dead_letter=dead_letter))
    assert (result.total.committed, result.total.rejected) == (2, 1)
    assert query(dsn18, "SELECT * FROM t ORDER BY id") == [(1, "good"), (3, "😀")]
    record = json.loads(dead_letter.read_text())
    assert (record["row_number"], record["sqlstate"], record["column"]) == (2, "22021", "v")
    assert "half a surrogate pair" in record["reason"]
    assert record["row"] == {"id": 2, "v": "half \\ud800"}


async def test_half_a_surrogate_pair_in_a_health_payload_costs_its_own_row_only(
    dsn18: str, tmp_path: Path
) -> None:
    """Of a flat record, of an export's sample; a type that is no text is counted as any other."""
    profile = PROFILES["heart_rate"]
    execute(dsn18, profile.create_sql(TableName("t")))
    user = "11111111-2222-4333-8444-555555555555"
    at = "2025-09-09 05:06:0{} +0000"
    flat = [
        {
            "type": "HeartRate",
            "recorded_at": at.format(0),
            "heart_rate": 60,
            "context": "\ud83d\ude00",
        },
        {"type": "HeartRate", "recorded_at": at.format(1), "heart_rate": 61, "context": "\ud83d!"},
        {"type": "\ud83d"},
    ]
    samples = [
        {"date": at.format(2), "Avg": 62, "source": "\udead"},
        {"date": at.format(3), "Avg": 63},
    ]
    metrics = [*flat, {"name": "heart_rate", "units": "count/min", "data": samples}]
    dead_letter = tmp_path / "rejects.ndjson"
    result = await load(
        open_source(
            io.BytesIO(json.dumps({"data": {"metrics": metrics}}).encode()),
            health=HealthOptions({"heart_rate": profile.arrow_schema}, user),
        ),
        {"heart_rate": TableName("t")},
        dsn18,
        options(dead_letter=dead_letter),
    )
    assert result.tables["public.t"].committed == 2
    assert query(dsn18, "SELECT heart_rate, context FROM t ORDER BY 1") == [(60, "😀"), (63, None)]
    records = [json.loads(line) for line in dead_letter.read_text().splitlines()]
    assert [(record["sqlstate"], record["column"]) for record in records] == [
        ("22021", "context"),
        ("22021", "source_device"),
    ]
    assert result.tables["?"].not_loaded == 1


@pytest.mark.parametrize(("name", "empty"), [("a.ndjson", "{}\n{}\n"), ("a.json", "[{}, {}]")])
@pytest.mark.parametrize("missing", ["null", "default", "error"])
def test_objects_without_any_key_are_refused_not_lost(
    tmp_path: Path, name: str, empty: str, missing: Any
) -> None:
    """A batch without columns has no rows: before a file with columns they vanished."""
    (tmp_path / name).write_text(empty)
    (tmp_path / "b.ndjson").write_text('{"id": 1}\n')
    files = [tmp_path / name, tmp_path / "b.ndjson"]
    source = open_sources(files, options=SourceOptions(missing=missing))
    with pytest.raises(InputError, match="no object has a key"):
        source.schema()
    with pytest.raises(InputError, match="no object has a key"):
        list(source.batches(100, BIG))


def test_objects_without_any_key_are_rows_beside_others(tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_text("{}\n" * 9 + '{"id": 1}\n' + "{}\n" * 400_000)
    batches = open_source(tmp_path / "a.ndjson").batches(1_000_000, BIG)
    assert sum(batch.row_count for batch in batches) == 400_010


def test_a_first_file_with_a_header_only_brings_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("note,id\n")
    (tmp_path / "b.csv").write_text("id,note\n1,x\n")
    source = open_sources([tmp_path / "a.csv", tmp_path / "b.csv"])
    schema = source.schema()
    assert schema is not None
    assert schema.names == ["note", "id"]
    (batch,) = source.batches(10, BIG)
    assert batch.columns.to_pylist() == [{"id": "1", "note": "x"}]


def test_a_frame_without_columns_is_refused() -> None:
    with pytest.raises(InputError, match="has 3 rows and no column"):
        open_source(pd.DataFrame(index=range(3)))


def test_an_escape_cut_in_two_by_a_block_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_array, "BLOCK_BYTES", 256)
    monkeypatch.setattr(half_pairs, "_MORE_BYTES", 1)
    text = "[" + ",".join('{"v":"%s\\ud83d\\ude00\\\\ud800"}' % ("x" * n) for n in range(60)) + "]"
    rows = next(open_source(io.BytesIO(text.encode())).batches(100, BIG)).columns["v"].to_pylist()
    assert rows == ["x" * n + "😀\\ud800" for n in range(60)]


async def test_the_end_of_a_day_is_shown_as_it_is(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id > 0), v time, w time[])")
    day = 86_400_000_000
    times = pa.table(
        {
            "id": pa.array([0], pa.int32()),
            "v": pa.array([day], pa.time64("us")),
            "w": pa.array([[day, None]], pa.list_(pa.time64("us"))),
        }
    )
    dead_letter = tmp_path / "rejects.ndjson"
    await load_rows(dsn18, times, dead_letter=dead_letter)
    row = json.loads(dead_letter.read_text())["row"]
    assert row == {"id": 0, "v": "24:00:00", "w": ["24:00:00", None]}
