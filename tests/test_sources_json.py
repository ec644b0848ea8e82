"""NDJSON and JSON arrays: exact values, widening, errors with line numbers."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbench.errors import InputError
from batchbench.sources import Source, SourceOptions, infer_types, open_source
from batchbench.sources import ndjson as ndjson_module
from batchbench.sources.columns import is_json

BIG = 1 << 40
SECRET = "s3cr3tvalue"


def source_of(text: str | bytes, format: str = "ndjson") -> Source:  # noqa: A002
    raw = text.encode() if isinstance(text, str) else text
    return open_source(io.BytesIO(raw), format=format)


def table_of(text: str | bytes, format: str = "ndjson") -> pa.Table:  # noqa: A002
    (batch,) = source_of(text, format).batches(65_536, BIG)
    return pa.Table.from_batches([batch.columns])


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ("1 2 null", pa.int64(), [1, 2, None]),
        ("1 2.5", pa.float64(), [1.0, 2.5]),
        ("1.10 1e3", pa.float64(), [1.1, 1000.0]),
        ("true false", pa.bool_(), [True, False]),
        (
            '"2025-01-01" "2025-01-01T00:00:00Z"',
            pa.string(),
            ["2025-01-01", "2025-01-01T00:00:00Z"],
        ),
        ("9223372036854775808 1", pa.decimal128(19, 0), [Decimal(2**63), Decimal(1)]),
        (
            "9007199254740993 0.5",
            pa.decimal128(17, 1),
            [Decimal("9007199254740993.0"), Decimal("0.5")],
        ),
        ("0.12345678901234567890", pa.decimal128(20, 20), [Decimal("0.12345678901234567890")]),
        ("1e400", pa.string(), ["1E+400"]),
        ('1 "x" true null', pa.string(), ["1", "x", "true", None]),
        ("[1,2] [] null [null]", pa.list_(pa.int64()), [[1, 2], [], None, [None]]),
        ("null null", pa.null(), [None, None]),
    ],
)
@pytest.mark.parametrize("format_", ["ndjson", "json"])
def test_values_and_types(
    values: str, kind: pa.DataType, expected: list[Any], format_: str
) -> None:
    rows = [f'{{"v":{value}}}' for value in values.split(" ")]
    text = "\n".join(rows) + "\n" if format_ == "ndjson" else f"[{','.join(rows)}]"
    column = table_of(text, format_)["v"]
    assert column.to_pylist() == expected
    if kind != pa.decimal128(20, 20):  # the digits count, not how wide Arrow makes the type
        assert column.type == kind


@pytest.mark.parametrize(
    "value", ['{"a":1}', '[1,"x"]', '[{"a":null}]', "[[1],[2]]", '[1,{"b":2}]']
)
def test_nested_values_are_json_documents(value: str) -> None:
    table = table_of(f'{{"v":{value}}}\n{{"v":null}}\n{{"v":{{"b":[1.5,"é"]}}}}\n')
    assert is_json(table.schema.field("v"))
    first, second, third = table["v"].to_pylist()
    assert json.loads(first) == json.loads(value)  # no key added, none lost
    assert second is None
    assert third == '{"b": [1.5, "é"]}'


def test_numbers_in_documents_keep_their_digits() -> None:
    table = table_of('{"v":{"a":0.12345678901234567890,"b":123456789012345678901234567890}}\n')
    expected = '{"a": 0.12345678901234567890, "b": 123456789012345678901234567890}'
    assert table["v"].to_pylist() == [expected]


def test_missing_keys_are_null_and_late_keys_add_a_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndjson_module, "BLOCK_BYTES", 16)
    text = '{"a":1,"b":"x"}\n{"a":2}\n{"a":3,"c":true}\n{"a":4}\n'
    batches = list(source_of(text).batches(10, BIG))
    rows = [row for b in batches for row in b.columns.to_pylist()]
    assert [row["a"] for row in rows] == [1, 2, 3, 4]
    assert rows[2] == {"a": 3, "b": None, "c": True}
    assert rows[3] == {"a": 4, "b": None, "c": None}
    assert "c" not in rows[0]
    assert batches[-1].location.first_row + batches[-1].row_count == 5


def test_infer_types_sees_late_keys_and_wider_types(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson_module, "BLOCK_BYTES", 16)
    path = tmp_path / "t.ndjson"
    path.write_text('{"a":1,"b":null,"e":1}\n{"a":2.5}\n{"b":{"x":1}}\n{"c":"t"}\n{"e":"f"}\n')
    schema = infer_types(open_source(path))
    assert schema.names == ["a", "b", "e", "c"]
    assert schema.field("a").type == pa.float64()
    assert is_json(schema.field("b"))
    assert schema.field("e").type == pa.string()


_scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-5, 5),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), _scalars, min_size=1), min_size=1, max_size=30)
)
def test_fast_and_exact_parsers_agree_with_json(rows: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndjson_module, "BLOCK_BYTES", 40)  # several blocks: the fast parser too
        batches = list(source_of(text).batches(7, BIG))
    got = [row for b in batches for row in b.columns.to_pylist()]
    assert len(got) == len(rows)
    for row, expected in zip(got, rows, strict=True):
        for key in "abc":
            assert _same(row.get(key), expected.get(key)), (row, expected)


def _same(value: Any, expected: Any) -> bool:
    if isinstance(value, str | Decimal) and type(expected) in (int, float):
        return Decimal(value) == Decimal(repr(expected))  # the digits of the file
    if isinstance(value, str) and not isinstance(expected, str) and expected is not None:
        return bool(json.loads(value.replace("E+", "e+")) == expected)
    return bool(value == expected)


def test_the_fast_parser_is_used_and_rounds_nothing() -> None:
    parser = ndjson_module._BlockParser("t", SourceOptions())
    first = b'{"f":0.5,"i":1,"s":"x"}\n'
    list(parser.parse(first))
    assert parser._fast(b'{"f":1.5,"i":2,"s":"y"}\n', 1) is not None
    for doubtful in (
        b'{"f":9007199254740993}\n',
        b'{"f":0.12345678901234567890}\n',
        b'{"i":1.5}\n',
        b'{"n":1}\n',
        b'{"s":1}\n',
        b'{"s":"\xff"}\n',
        b'{"i":1}{"i":2}\n',
        b'{"i":\n1}\n',
        b'{"i":1,"i":2}\n',
    ):
        assert parser._fast(doubtful, doubtful.count(b"\n")) is None, doubtful


@pytest.mark.parametrize(
    ("text", "hints"),
    [
        (f'{{"a":1}}\n\n{{"a":"{SECRET}\n', ["line 3", "not valid JSON"]),
        (f'{{"a":1}}\n["{SECRET}"]\n', ["line 2", "array"]),
        ("{}\n5\n", ["line 2", "number"]),
        (b'{"a":1}\n{"a":"' + SECRET.encode() + b'\xff"}\n', ["line 2", "UTF-8"]),
        (f'{{"a":1,"a":"{SECRET}"}}\n', ["line 1", "'a' twice"]),
        ('{"a":' + "[" * 100_000 + "\n", ["line 1", "too deep"]),
    ],
)
def test_bad_lines(text: str | bytes, hints: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        table_of(text)
    message = str(caught.value)
    assert all(hint in message for hint in ["stream", *hints]), message
    assert SECRET not in message
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_line_numbers_count_over_blocks() -> None:
    good = '{"a":1,"b":"some text"}\n'
    with pytest.raises(InputError, match="line 200,001:"):
        list(source_of(good * 200_000 + "{oops\n").batches(65_536, BIG))


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('[{"a":1},{"a":', "after element 1"),
        ('[{"a":1},5]', "element 2"),
        ("[null]", "element 1"),
    ],
)
def test_bad_arrays(text: str, hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        table_of(text, "json")


def test_array_as_a_stream_keeps_the_rows_its_schema_was_read_from() -> None:
    source = source_of(json.dumps([{"a": n} for n in range(12_000)]), "json")
    assert source.schema() == pa.schema([("a", pa.int64())])
    values = [row["a"] for b in source.batches(65_536, BIG) for row in b.columns.to_pylist()]
    assert values == list(range(12_000))


def test_formats_are_told_by_the_first_bytes() -> None:
    assert open_source(io.BytesIO(b'[{"a":1}]')).schema() is not None
    line = b'{"id":1,"data":{"x":1}}\n'
    assert open_source(io.BytesIO(line * 3)).schema_kind == "observed"
    with pytest.raises(InputError, match="health payload"):
        open_source(io.BytesIO(b'{"data":{"metrics":[]}}'))


def test_ndjson_of_blank_lines_and_last_line_without_break() -> None:
    assert list(source_of("\n \n\r\n").batches(10, BIG)) == []
    assert table_of('\ufeff{"a":1}\r\n{"a":2}')["a"].to_pylist() == [1, 2]
