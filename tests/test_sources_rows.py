"""Rows in memory: dicts, tuples, DataFrames, Arrow data."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from decimal import Decimal
from uuid import UUID

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from asyncpg.pgproto import pgproto

from batchbench.errors import InputError
from batchbench.sources import Source, open_source
from batchbench.sources.source import regroup

BIG = 1 << 40
UTC = dt.UTC


class East(dt.tzinfo):
    """Two hours ahead; without a hash, as dateutil's zones are."""

    __hash__ = None  # type: ignore[assignment]

    def utcoffset(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta(hours=2)

    def dst(self, when: dt.datetime | None) -> dt.timedelta:
        return dt.timedelta()


def table_of(source: Source, max_rows: int = 65_536) -> pa.Table:
    return pa.Table.from_batches([b.columns for b in source.batches(max_rows, BIG)])


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], pa.int64()),
        ([2**63], pa.decimal128(19, 0)),
        ([Decimal("1.50"), 2], pa.decimal128(3, 2)),
        ([1.5, float("inf")], pa.float64()),
        ([b"x"], pa.binary()),
        ([dt.date(2025, 1, 2)], pa.date32()),
        ([dt.time(1, 2, 3, 4)], pa.time64("us")),
        ([dt.timedelta(days=1)], pa.duration("us")),
        ([dt.datetime(2025, 1, 2, 3)], pa.timestamp("us")),
        ([dt.datetime(2025, 1, 2, 3, tzinfo=UTC)], pa.timestamp("us", "UTC")),
        ([dt.datetime(2025, 1, 2, 3, tzinfo=East())], pa.timestamp("us", "UTC")),
        ([UUID(int=5), None], pa.uuid()),
        ([pgproto.UUID(str(UUID(int=5))), UUID(int=6)], pa.uuid()),
        ([["a"], []], pa.list_(pa.string())),
        ([np.int32(5), 6], pa.int64()),
        ([np.float64(0.5)], pa.float64()),
    ],
)
def test_python_values_keep_their_type_and_value(values: list[object], kind: pa.DataType) -> None:
    column = table_of(open_source([(value,) for value in values], columns=["v"]))["v"]
    assert column.type == kind
    assert column.to_pylist() == values


def test_addresses_and_objects_become_text() -> None:
    rows = [{"ip": ipaddress.ip_address("::1"), "doc": {"a": [1, None]}}]
    assert table_of(open_source(rows)).to_pylist() == [{"ip": "::1", "doc": '{"a": [1, null]}'}]


@pytest.mark.parametrize(
    "values",
    [
        [dt.date(2025, 1, 1), dt.datetime(2025, 1, 1, 5)],
        [dt.datetime(2025, 1, 1), dt.datetime(2025, 1, 1, tzinfo=UTC)],
        ["text", b"bytes"],
        [object()],
    ],
)
def test_values_that_arrow_would_change_are_refused(values: list[object]) -> None:
    with pytest.raises(InputError, match=r"rows 1-\d: column 'v'"):
        table_of(open_source([{"v": value} for value in values]))


def test_offsets_of_datetimes_are_converted() -> None:
    east = dt.timezone(dt.timedelta(hours=2))
    values = [dt.datetime(2025, 1, 1, 2, tzinfo=east), dt.datetime(2025, 1, 1, tzinfo=UTC)]
    column = table_of(open_source([{"v": v} for v in values]))["v"]
    assert column.cast(pa.int64()).to_pylist() == [1_735_689_600_000_000] * 2


def test_rows_of_wrong_shape_are_named_by_number() -> None:
    with pytest.raises(InputError, match="row 9,001: is a tuple and has no 2 values"):
        table_of(open_source([(1, 2)] * 9_000 + [(1, 2, 3)], columns=["a", "b"]))
    with pytest.raises(InputError, match="row 2: is a int and is no dict"):
        table_of(open_source([{"a": 1}, 5]))
    with pytest.raises(InputError, match="columns="):
        table_of(open_source([(1, 2)]))
    with pytest.raises(InputError, match="two columns"):
        open_source([(1, 2)], columns=["a", "a"])


def test_a_generator_is_read_lazily_and_once() -> None:
    taken = 0

    def rows() -> Iterator[dict[str, int]]:
        nonlocal taken
        for number in range(100_000):
            taken += 1
            yield {"a": number}

    source = open_source(rows())
    assert source.one_shot
    assert source.schema() == pa.schema([("a", pa.int64())])
    assert taken < 10_000
    batches = source.batches(5_000, BIG)
    next(batches)
    assert taken < 30_000
    assert sum(b.row_count for b in batches) == 95_000
    with pytest.raises(InputError, match="only once"):
        next(source.batches(5_000, BIG))


def test_a_list_is_read_again() -> None:
    source = open_source([{"a": 1}, {"a": 2, "b": "late"}])
    assert table_of(source).equals(table_of(source))
    assert table_of(source)["b"].to_pylist() == [None, "late"]


def test_frames() -> None:
    frame = pd.DataFrame(
        {
            "i": [1, 2, 3],
            "f": [1.5, np.nan, 3.0],
            "s": ["a", None, "c"],
            "o": [dt.date(2025, 1, 1), None, dt.date(2025, 1, 3)],
            "t": pd.to_datetime(["2025-01-01", None, "2025-01-03"], utc=True),
            "n": pd.array([1, None, 3], dtype="Int64"),
        },
        index=[7, 8, 9],
    )
    source = open_source(frame)
    table = table_of(source, max_rows=2)
    assert table.num_rows == 3
    assert table.column_names == list(frame.columns)  # an unnamed index is no column
    assert table["f"].to_pylist() == [1.5, None, 3.0]
    assert table["s"].to_pylist() == ["a", None, "c"]
    assert table["o"].type == pa.date32()
    assert table["n"].to_pylist() == [1, None, 3]
    assert source.schema() == table.schema
    assert open_source(frame.rename_axis("key")).schema().names[0] == "key"  # type: ignore[union-attr]


def test_frames_with_mixed_or_doubled_columns_are_refused() -> None:
    mixed = pd.DataFrame({"a": pd.Series(["x", b"y"], dtype=object)})
    with pytest.raises(InputError, match="'a'"):
        table_of(open_source(mixed))
    with pytest.raises(InputError, match="two columns"):
        open_source(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_arrow_data() -> None:
    table = pa.table({"a": list(range(10)), "b": ["x"] * 10})
    assert table_of(open_source(table), 3).equals(table)
    assert table_of(open_source(table.to_batches()[0])).equals(table)
    reader = open_source(table.to_reader(max_chunksize=4))
    assert reader.one_shot
    assert table_of(reader).equals(table)
    with pytest.raises(InputError, match="only once"):
        reader.batches(1, BIG)

    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return table.__arrow_c_stream__(requested_schema)

    assert table_of(open_source(Stream())).equals(table)


def test_what_is_no_source_is_refused() -> None:
    with pytest.raises(InputError, match="int is no source"):
        open_source(5)


def test_regroup_keeps_order_rows_and_bounds() -> None:
    sizes = [1, 7, 30, 2, 0, 100, 3]
    start = 0
    pieces = []
    for size in sizes:
        pieces.append(pa.record_batch({"a": np.arange(start, start + size)}))
        start += size
    parts = list(regroup(pieces, 10, BIG))
    assert [part.num_rows for part in parts] == [10] * 14 + [3]
    assert [v for part in parts for v in part["a"].to_pylist()] == list(range(start))
    small = list(regroup(pieces, 1_000, 80))
    assert max(part.nbytes for part in small) <= 80
    assert sum(part.num_rows for part in small) == start


def test_regroup_gives_a_row_that_is_too_large_a_batch_of_its_own() -> None:
    piece = pa.record_batch({"a": ["x", "y" * 1_000, "z"]})
    parts = list(regroup([piece], 10, 100))
    assert [part["a"].to_pylist() for part in parts] == [["x"], ["y" * 1_000], ["z"]]


@pytest.mark.parametrize("as_dicts", [False, True], ids=["tuples", "dicts"])
def test_wide_rows_are_not_taken_before_they_are_needed(as_dicts: bool) -> None:
    """A generator of rows of 1 MB, read in batches of 4 MB: a memory limit holds for them too."""
    taken = 0

    def rows() -> Iterator[object]:
        nonlocal taken
        for number in range(200):
            taken += 1
            text = "x" * (1 << 20)
            yield {"id": number, "note": text} if as_dicts else (number, text)

    source = open_source(rows(), columns=None if as_dicts else ["id", "note"])
    source.schema()
    assert taken <= 16
    read = 0
    for batch in source.batches(10_000, 4 << 20):
        read += batch.row_count
        assert taken <= read + 16
        assert batch.row_count <= 4
    assert (read, taken) == (200, 200)


def test_narrow_rows_are_taken_as_many_at_once_as_are_wanted() -> None:
    source = open_source(((number, "x") for number in range(20_000)), columns=["id", "note"])
    source.schema()
    assert [b.row_count for b in source.batches(5_000, BIG)] == [5_000] * 4
