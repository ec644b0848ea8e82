"""Dialects of CSV, encodings, names that differ, values from inside objects."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchbench.cli.load_flags import parse_map
from batchbench.errors import BatchbenchError, ConfigError, InputError
from batchbench.sources import SourceOptions, infer_types, ndjson, open_source, open_sources
from tests.fixtures.commands import Commands
from tests.fixtures.loading import execute, query

BIG = 1 << 40
NESTED = [
    {"at": 1, "payload": {"device": {"name": "a"}, "n": 1}},
    {"at": 2, "payload": {"device": {"name": None}, "n": 2}},
    {"at": 3, "payload": {"n": 3}},
    {"at": 4, "payload": None},
    {"at": 5},
]
PATHS = {"payload.device.name": "device", "payload.n": "n"}


def read(data: Any, **options: Any) -> list[dict[str, Any]]:
    source = open_source(data, options=SourceOptions(**options))
    return [row for b in source.batches(65_536, BIG) for row in b.columns.to_pylist()]


def csv(text: str | bytes, **options: Any) -> list[dict[str, Any]]:
    raw = text if isinstance(text, bytes) else text.encode()
    source = open_source(io.BytesIO(raw), format="csv", options=SourceOptions(**options))
    return [row for b in source.batches(65_536, BIG) for row in b.columns.to_pylist()]


def test_quotes_and_delimiters_of_other_dialects() -> None:
    assert csv("a;b\n'x;''y';2\n", delimiter=";", quote="'") == [{"a": "x;'y", "b": "2"}]
    assert csv('a,b\n"x,y\n', quote="") == [{"a": '"x', "b": "y"}]
    with pytest.raises(InputError, match="row 1: a quoted field is never closed"):
        csv("a;b\n1;'x\n", delimiter=";", quote="'")
    assert csv("'a;b';c\n1;2\n", delimiter=";", quote="'") == [{"a;b": "1", "c": "2"}]


def test_null_has_its_own_text_and_no_other() -> None:
    text = 'a,b\nNA,""\n"NA",\n\\N,x\n'
    assert csv(text, null_string="NA") == [
        {"a": None, "b": ""},
        {"a": "NA", "b": ""},
        {"a": "\\N", "b": "x"},
    ]
    source = open_source(
        io.BytesIO(b"n\n1\n\\N\n"), format="csv", options=SourceOptions(null_string="\\N")
    )
    assert [b.columns.to_pylist() for b in source.batches(9, BIG)] == [[{"n": "1"}, {"n": None}]]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
@pytest.mark.parametrize("packed", [False, True])
def test_other_encodings(encoding: str, packed: bool, tmp_path: Path) -> None:
    text = "näme,b\n" + "ünï,çé\n" * 40_000  # more than a block, longer in UTF-8
    path = tmp_path / "x.csv"
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    rows = read(path, encoding=encoding)
    assert len(rows) == 40_000
    assert set(map(tuple, map(dict.values, rows))) == {("ünï", "çé")}
    assert list(rows[0]) == ["näme", "b"]
    assert infer_types(open_source(path, options=SourceOptions(encoding=encoding))).names == [
        "näme",
        "b",
    ]


def test_text_of_another_encoding_is_named_by_its_line() -> None:
    raw = b"a,b\n1,2\n3,caf\xe9 s3cret\n"
    with pytest.raises(InputError, match=r"stream, line 3: is not cp932 text") as caught:
        csv(raw, encoding="cp932")
    assert "s3cret" not in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(InputError, match="--encoding"):
        csv(raw)
    assert csv(raw, encoding="latin-1")[1] == {"a": "3", "b": "café s3cret"}


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"delimiter": ";;"}, "one ASCII character"),
        ({"quote": "é"}, "one ASCII character"),
        ({"delimiter": "'", "quote": "'"}, "must differ"),
        ({"encoding": "no-such"}, "unknown"),
        ({"encoding": "hex"}, "unknown"),
        ({"missing": "maybe"}, "known: null, default, error"),
        ({"columns": {"a": "x", "b": "x"}}, "'x' is mapped twice"),
        ({"columns": {"a..b": "x"}}, "may be empty"),
    ],
)
def test_options_that_cannot_work(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        SourceOptions(**options)


def test_options_of_csv_are_for_csv() -> None:
    for data in (io.BytesIO(b'{"a":1}\n'), [{"a": 1}], pa.table({"a": [1]})):
        with pytest.raises(InputError, match="--null-string is for CSV"):
            read(data, null_string="NA")


# ------------------------------------------------------------------ names and paths


@pytest.mark.parametrize("kind", ["rows", "ndjson", "json"])
def test_values_from_inside_objects(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 80)  # later blocks could go the fast way
    data: Any = NESTED
    if kind == "ndjson":
        data = io.BytesIO("\n".join(map(json.dumps, NESTED)).encode())
    if kind == "json":
        data = io.BytesIO(json.dumps(NESTED).encode())
    rows = read(data, columns=PATHS)
    assert [(row["at"], row.get("device"), row.get("n")) for row in rows] == [
        (1, "a", 1),
        (2, None, 2),
        (3, None, 3),
        (4, None, None),
        (5, None, None),
    ]
    assert "payload" not in rows[0]


def test_an_object_is_a_column_too_where_it_is_named() -> None:
    rows = read(NESTED[:1], columns={"payload": "whole", "payload.n": "n"})
    assert rows == [{"at": 1, "whole": '{"device": {"name": "a"}, "n": 1}', "n": 1}]
    assert read([{"a.b": 1, "a": {"b": 2}}], columns={"a.b": "x"}) == [{"x": 1}]


def test_structs_of_arrow_are_objects(tmp_path: Path) -> None:
    table = pa.table({"at": [1, 2], "p": [{"d": {"n": "a"}}, None]})
    assert read(table, columns={"p.d.n": "n"}) == [{"at": 1, "n": "a"}, {"at": 2, "n": None}]
    with pytest.raises(InputError, match=r"the map names 'p.d.x', which is not there; .* at, p"):
        open_source(table, options=SourceOptions(columns={"p.d.x": "n"})).schema()


def test_names_that_differ(tmp_path: Path) -> None:
    assert csv("a,b\n1,2\n", columns={"a": "b", "b": "c"}) == [{"b": "1", "c": "2"}]
    path = tmp_path / "x.ndjson"
    path.write_text('{"a":1}\n{"a":2,"z":3}\n')
    assert read(path, columns={"z": "y"}) == [{"a": 1, "y": None}, {"a": 2, "y": 3}]
    for data, columns, message in (
        (
            b"a,b\n1,2\n",
            {"x": "y"},
            "stream: the map names 'x', which is not there; there are a, b",
        ),
        (b"a,b\n1,2\n", {"a": "b"}, "stream, as mapped: two columns are named 'b'"),
        (b'{"a":{"b":1}}\n', {"a.c": "x"}, "'a.c', which is not there in its first rows"),
    ):
        with pytest.raises(InputError, match=message):
            open_source(io.BytesIO(data), options=SourceOptions(columns=columns)).schema()


def test_a_path_through_what_is_no_object_names_the_line() -> None:
    lines = b'{"p":{"n":1}}\n{"p":"s3cret"}\n'
    with pytest.raises(InputError, match=r"stream, line 2: p is a str, and p\.n needs") as caught:
        read(io.BytesIO(lines), columns={"p.n": "n"})
    assert "s3cret" not in str(caught.value)
    with pytest.raises(InputError, match=r"rows, row 2: p is a str"):
        read([{"p": {"n": 1}}, {"p": "x"}], columns={"p.n": "n"})


def test_the_map_of_the_command_line() -> None:
    assert parse_map(["a=b, c.d=e", "f=g"]) == {"a": "b", "c.d": "e", "f": "g"}
    for bad in (["a"], ["=b"], ["a="], ["a=b", "a=c"], [""]):
        with pytest.raises(BatchbenchError, match="--map"):
            parse_map(bad)


def test_several_files_are_read_alike(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / f"{name}.csv").write_text("ts;v\n1;NA\n")
    options = SourceOptions(delimiter=";", null_string="NA", columns={"ts": "at"})
    source = open_sources([tmp_path / "1.csv", tmp_path / "2.csv"], options=options)
    rows = [row for b in source.batches(9, BIG) for row in b.columns.to_pylist()]
    assert rows == [{"at": "1", "v": None}] * 2
    assert source.fingerprint()


def test_the_command_line_loads_and_shows_them(
    dsn18: str, commands: Commands, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (at int4, device text, span int4range)")
    path = tmp_path / "x.csv"
    path.write_bytes("ts;gerät;span\n1;caf\xe9;[1,2)\n2;-;-\n".encode("latin-1"))
    args = ["load", str(path), "--table", "t", "--dsn", dsn18, "--delimiter", ";"]
    args += ["--encoding", "latin-1", "--null-string", "-", "--map", "ts=at,gerät=device"]
    plan = commands(*args, "--dry-run").out
    assert "at: ts, string -> integer (checked)" in plan
    assert "span: string -> int4range (checked: sent as text, read by the server)" in plan
    assert commands(*args).code == 0
    assert query(dsn18, "SELECT at, device, span::text FROM t ORDER BY at") == [
        (1, "café", "[1,2)"),
        (2, None, None),
    ]
