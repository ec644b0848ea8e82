"""Arrays of one dimension, and values at their edges."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import Carrier, Given, Kind, arrow, json_tokens, literal, python, texts
from tests.edges.moments import clock_text, timestamp_text
from tests.edges.number_values import FLOATS, INTEGERS, Values, spelled
from tests.edges.texts import LABELS, TEXTS

Spell = Callable[[Any], str]

_LITERALS = literal(
    "{}", "{NULL}", "{null}", '{"NULL"}', "{ }", " {1,2} ", "{1, 2 ,3}", "{1,,2}", "{,}", "{1,}",
    "{", "}", "",
    "{1", "1}", "x", "{a b}", '{"a"}', '{"a"b}', '{"a\\"b"}', "{a\\,b}", '{"}"}', '{""}', "{1}x",
    '{"a" , b}',
    "{\\ }", '{"unterminated}', "{NULL,NULL}", "{nUlL}", "{a\\}", "{;}", "{'a'}", "{1 2}",
    '{" 1 "}', "{ 1}",
    "{t,f}", "{true,NULL}", "{NaN}", "{abcd}", "{😀}",
    '{a"b}', "{a\nb}", "{1.005}", "{sad}", "{ sad , happy }", "{a,\tb}", "{{}", "{}}",
)  # fmt: skip
_ODD = literal(
    "{{1},{2}}", "[0:1]={1,2}", "[1:2]={1,2}", "{{1,2}}", "{{}}", "[2:1]={}",
    "{infinity}", "{2024-01-01 00:00:00+00}", fate="free",
)  # fmt: skip


def quoted(elements: list[Any], spell: Spell) -> str:
    """A literal of elements, all of them quoted."""
    parts = (
        "NULL" if e is None else '"' + spell(e).replace("\\", "\\\\").replace('"', '\\"') + '"'
        for e in elements
    )
    return "{" + ",".join(parts) + "}"


def _lists(elements: Values, spell: Spell) -> st.SearchStrategy[Given]:
    return st.lists(st.none() | elements, max_size=4).map(
        lambda values: Given(values, quoted(values, spell))
    )


def _in_json(elements: Values, spell: Spell) -> st.SearchStrategy[Given]:
    return st.lists(st.none() | elements, max_size=4).map(
        lambda values: Given(json.dumps(values, ensure_ascii=False), quoted(values, spell))
    )


def _number(value: Any) -> str:
    return spelled(value) if isinstance(value, float) else str(value)


def _same(text: str) -> str:
    return text


def _array(sql: str, base: str, given: st.SearchStrategy[Given], *typed: Carrier) -> Kind:
    literals = _LITERALS
    if sql == "interval":  # a bare number is seconds
        literals = literals.map(lambda g: replace(g, fate="free"))
    return Kind(f"{sql}[]", f"{base}[]", (texts(literals, _ODD, given), *typed))


_INT64S = st.integers(-(2**63), 2**63 - 1) | st.integers(-40_000, 40_000)
_FINITE = FLOATS.filter(lambda f: abs(f) < float("inf"))
_MICROS = st.integers(-(10**16), 10**16)
_SHORT = TEXTS.filter(lambda t: len(t) < 99)
_BOUNDED = st.integers(-(10**6), 10**6)


def _spelled_lists(elements: Values, spell: Spell) -> st.SearchStrategy[Given]:
    return _lists(elements, spell).map(lambda g: Given(g.text, g.text))


def _integers(name: str) -> Kind:
    return _array(
        name,
        name,
        _spelled_lists(INTEGERS, str),
        python("list", _lists(_INT64S, str)),
        python("tuple", _lists(_INT64S, str).map(lambda g: Given(tuple(g.value), g.text))),
        arrow(pa.list_(pa.int64()), _lists(_INT64S, str)),
        arrow(pa.large_list(pa.int32()), _lists(_BOUNDED, str)),
        arrow(pa.list_(pa.uint64()), _lists(st.integers(0, 2**64 - 1), str)),
        arrow(pa.list_(pa.int16(), 2), st.lists(st.integers(-9, 9), min_size=2, max_size=2).map(
            lambda v: Given(v, quoted(v, str)))),
        json_tokens("list", _in_json(_INT64S, str)),
    )  # fmt: skip


_MIXED = (_BOUNDED | _FINITE).map(lambda v: v if v == v else 0)
_FLOATS = _array(
    "float8",
    "float8",
    _spelled_lists(FLOATS, spelled),
    python("list", _lists(FLOATS, spelled)),
    python("int and float", _lists(_MIXED, _number)),
    arrow(pa.list_(pa.float64()), _lists(FLOATS, spelled)),
    arrow(pa.list_(pa.float32()), _lists(st.floats(width=32), spelled)),
    json_tokens("list", _in_json(_FINITE, spelled)),
    json_tokens("int and float", _in_json(_MIXED, _number)),
)
_DECIMALS = st.decimals(-10_000, 10_000, places=2)
_ODD_DECIMALS = st.sampled_from([Decimal("NaN"), Decimal("1E+400")])
_NUMERICS = _array(
    "numeric(6,2)",
    "numeric",
    _spelled_lists(st.decimals(-20_000, 20_000, places=3), str),
    python("Decimal", _lists(_DECIMALS, str)),
    python("odd Decimal", _lists(_DECIMALS | _ODD_DECIMALS, str)),
    python("int", _lists(_BOUNDED, str)),
    arrow(pa.list_(pa.decimal128(10, 3)), _lists(st.decimals(-20_000, 20_000, places=3), str)),
    arrow(pa.list_(pa.float64()), _lists(FLOATS, spelled)),
    json_tokens("list", _in_json(_MIXED, _number)),
)  # fmt: skip
_TEXTS = _array(
    "text",
    "text",
    _spelled_lists(TEXTS, _same),
    python("list", _lists(_SHORT, _same)),
    arrow(pa.list_(pa.string()), _lists(_SHORT, _same)),
    arrow(pa.list_view(pa.large_string()), _lists(_SHORT, _same), lossy_in_parquet=True),
    arrow(pa.list_(pa.dictionary(pa.int8(), pa.string())), _lists(_SHORT, _same)),
    json_tokens("list", _in_json(_SHORT, _same)),
)
_VARCHARS = _array(
    "varchar(3)", "text", _spelled_lists(TEXTS, _same), python("list", _lists(_SHORT, _same))
)


def _utc(micros: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=micros)


_MOMENTS = _array(
    "timestamptz",
    "timestamptz",
    _spelled_lists(_MICROS, lambda v: timestamp_text(v, "+00")),
    python("aware datetime", _lists(_MICROS, lambda v: timestamp_text(v, "+00")).map(
        lambda g: Given([None if v is None else _utc(v) for v in g.value], g.text))),
    arrow(pa.list_(pa.timestamp("us", "UTC")), _lists(_MICROS, lambda v: timestamp_text(v, "+00"))),
)  # fmt: skip
_DATES = _array(
    "date",
    "date",
    _spelled_lists(st.dates(), str),
    python("date", _lists(st.dates(), str)),
    arrow(pa.list_(pa.date32()), _lists(st.dates(), str)),
)
_TIMES = _array(
    "time",
    "time",
    _spelled_lists(st.integers(0, 86_400_000_000), clock_text),
    python("time", _lists(st.times(), str)),
)
_UUIDS = _array(
    "uuid",
    "uuid",
    _spelled_lists(st.uuids(), str),
    python("UUID", _lists(st.uuids(), str)),
    arrow(pa.list_(pa.binary(16)), _lists(st.uuids(), str).map(
        lambda g: Given([None if v is None else v.bytes for v in g.value], g.text))),
    json_tokens("text", st.lists(st.uuids(), max_size=3).map(
        lambda v: Given(json.dumps([str(u) for u in v]), quoted(v, str)))),
)  # fmt: skip
_BOOLS = _array(
    "bool",
    "bool",
    _spelled_lists(st.booleans(), str),
    python("bool", _lists(st.booleans(), str)),
    arrow(pa.list_(pa.bool_()), _lists(st.booleans(), str)),
    json_tokens("bool", _in_json(st.booleans(), str)),
)
_LABELS = st.sampled_from([*LABELS, "Sad"])
_ENUMS = _array(
    "mood",
    "mood",
    _spelled_lists(_LABELS, _same),
    python("list", _lists(_LABELS, _same)),
    arrow(pa.list_(pa.string()), _lists(_LABELS, _same)),
)
_BYTES = st.binary(max_size=5)
_BYTEAS = _array(
    "bytea",
    "bytea",
    _spelled_lists(_BYTES, lambda b: "\\x" + b.hex()),
    python("bytes", _lists(_BYTES, lambda b: "\\x" + b.hex())),
    arrow(pa.list_(pa.binary()), _lists(_BYTES, lambda b: "\\x" + b.hex())),
)
_SPANS = st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6))
_MICRO = dt.timedelta(microseconds=1)
_INTERVALS = _array(
    "interval",
    "interval",
    _spelled_lists(st.integers(-(10**9), 10**9), lambda v: f"{v} seconds"),
    python("timedelta", _lists(_SPANS, lambda v: f"{v // _MICRO} us")),
)

ARRAY_KINDS = (
    *map(_integers, ("int2", "int4", "int8")),
    *(_FLOATS, _NUMERICS, _TEXTS, _VARCHARS, _MOMENTS, _DATES, _TIMES, _UUIDS, _BOOLS, _ENUMS),
    *(_BYTEAS, _INTERVALS),
)
