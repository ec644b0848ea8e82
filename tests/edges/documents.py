"""json and jsonb, and documents at their edges."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import Carrier, Given, Kind, arrow, json_tokens, late, literal, python, texts
from tests.edges.number_values import FLOATS, INTEGERS, Values, spelled
from tests.edges.numbers import number_carriers, single_digits
from tests.edges.texts import TEXTS

DEEP = 7_000  # beyond the server's stack

_TEXT = literal(
    "null", "true", "0", "-0", "1.50", "1e5", "1E400", "1e131071", "1e131072", "-1e-16383",
    "1e-16384", '""',
    '{"a": 1, "a": 2}', '{"b": 1, "a": [1.0, 2.50, 1e2]}', "[]", "{}", " [1 , 2] ", "[1,]", "{,}",
    "[,1]",
    '{"a"}', "{'a': 1}", "", " ", "NaN", "Infinity", "-", "01", "1.", ".5", "+1", "1e", "tru",
    "True", "nul",
    '"\\u0000"', '"\\ud800"', '"\\ude00"', '"\\ud83d\\ude00"', '"\\u00e9"', '"\\x"', '"\\u12"',
    '"\\/"',
    '"a\tb"', '"a\nb"', '"unterminated', '"a" "b"', "[1] x", '{"":""}', '"\u2028"', '"😀"',
    "\ufeff1",
    '{"a": {"b": {"c": [[[[]]]]}}}', "[" * 500 + "]" * 500, "123456789012345678901234567890.000",
    '{"k": "' + "x" * 5000 + '"}', "[" + "1," * 2000 + "1]", '"\x7f"', "[1]\0", "/**/1",
    '{"a":1}{"b":2}',
    '{"ke\\u0000y": 1}', "1 2", '{"a": undefined}', '"' + "é" * 40 + '"', "-0.0", "[-0, 0.0, 1E+2]",
)  # fmt: skip
_TOO_DEEP = late(lambda: ["[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP]).map(
    lambda text: Given(text, text)
)

_KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=4)
_SHORT = TEXTS.filter(lambda t: "\0" not in t and len(t) < 99)
_LEAVES = st.none() | st.booleans() | INTEGERS | _SHORT
_NUMBERS = FLOATS.filter(lambda f: f == f and abs(f) != float("inf")) | st.decimals(
    allow_nan=False, allow_infinity=False, places=3, min_value=-(10**30), max_value=10**30
)


_MODERATE = FLOATS.filter(lambda f: abs(f) < 1e300)


def _nested(leaves: Values) -> Values:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
        max_leaves=8,
    )


def _objects(leaves: Values) -> Values:
    return st.dictionaries(_KEYS, _nested(leaves), max_size=3)


def _exact(value: Any) -> Any:
    """A document with its numbers as decimals, so that 1.0 equals 1 and no digit is lost."""
    if isinstance(value, dict):
        return {key: _exact(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_exact(v) for v in value]
    if isinstance(value, bool | str) or value is None:
        return value
    return Decimal(spelled(value)) if isinstance(value, float) else Decimal(value)


def _says(document: Any) -> Callable[[str], bool]:
    wanted = _exact(document)

    def same(stored: str) -> bool:
        return bool(_loads(stored) == wanted)

    return same


def _loads(text: str) -> Any:
    found = json.loads(text, parse_float=Decimal, parse_int=Decimal, strict=False)
    return _exact(found)


def _document(value: Any) -> Given:
    return Given(value, check=_says(value))


def _held(value: Any, refused: bool) -> Given:
    return Given(value, fate="refused" if refused else "held", check=_says(value))


_UNFIT_LEAVES = st.sampled_from([float("nan"), float("inf"), Decimal("NaN")])
_UNFIT = st.builds(lambda key, leaf: Given({key: leaf}, fate="refused"), _KEYS, _UNFIT_LEAVES)


def _written(value: Any) -> Given:
    return Given(json.dumps(value, ensure_ascii=False), check=_says(value))


_STRUCT = pa.struct(
    [("n", pa.int64()), ("t", pa.string()), ("f", pa.float64()), ("d", pa.decimal128(20, 3))]
)
_BIGINTS = st.none() | st.integers(-(2**63), 2**63 - 1)
_STRUCTS = st.fixed_dictionaries(
    {
        "n": _BIGINTS,
        "t": st.none() | TEXTS.filter(lambda t: len(t) < 99),
        "f": st.none() | FLOATS,
        "d": st.none() | st.decimals(-(10**15), 10**15, places=3),
    }
)


def _struct(value: dict[str, Any], binary: bool) -> Given:
    number, text = value["f"], value["t"]
    odd = number is not None and not abs(number) < float("inf")
    return _held(value, odd or (binary and text is not None and "\0" in text))


def _kind(sql: str) -> Kind:
    binary = sql == "jsonb"
    carriers: list[Carrier] = [
        texts(_TEXT),
        texts(_TEXT, _TOO_DEEP),
        python("dict", _objects(_LEAVES | _NUMBERS).map(_document)),
        python("dict, some unfit", _objects(_LEAVES | _NUMBERS).map(_document) | _UNFIT),
        json_tokens("object", _objects(_LEAVES | _MODERATE).map(_written)),
        json_tokens("anything", st.lists(_nested(_LEAVES), max_size=3).map(_written)),
        arrow(_STRUCT, _STRUCTS.map(lambda v: _struct(v, binary))),
        arrow(pa.list_(pa.int64()), st.lists(_BIGINTS).map(_document)),
    ]
    carriers += number_carriers(
        lambda value: _json_number(value, binary),
        lambda value: replace(_json_number(Decimal(single_digits(value)), binary), value=value),
    )
    return Kind(sql, sql, tuple(carriers))


def _scale(number: Decimal) -> int:
    exponent = number.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _json_number(value: Any, binary: bool) -> Given:
    """jsonb has the bounds of numeric."""
    number = Decimal(spelled(value)) if isinstance(value, float) else Decimal(value)
    finite = number.is_finite()
    beyond = finite and not (number.adjusted() <= 131_071 and _scale(number) <= 16_383)
    if not finite or (binary and beyond):
        return Given(value, fate="refused")
    return Given(value, check=_says(number))


DOCUMENT_KINDS = (_kind("json"), _kind("jsonb"))
