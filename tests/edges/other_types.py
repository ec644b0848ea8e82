"""Types without an encoder of ours, whose text the server reads."""

from __future__ import annotations

import json

import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.arrays import quoted
from tests.edges.given import Given, Kind, arrow, frame, json_tokens, literal, python, texts

OTHER_SQL = """
CREATE EXTENSION hstore;
CREATE TYPE place AS (street varchar(3), zip int4);
CREATE DOMAIN flags AS bit(3);
CREATE DOMAIN late AS timetz CHECK (VALUE > '12:00+00');
"""

_ODD = literal("", " ", "NULL", "null", "x", "'", '"', "\\", "\\N", "a\0b", "{}", "()", "😀")
_BITS = st.text("01", max_size=5) | st.sampled_from(["b101", "B101", "x5", "0x5", " 101", "102"])
_SAID_BITS = _BITS.map(lambda text: Given(text, text))
_CLOCK = literal(
    *("12:00", "12:00+02", "24:00:00Z", "25:00", "00:00:00.9999995-15:59", "4 am", "12:00 CET"),
    *("23:59:60+00", "allballs", "now then"),
)
_MONEY = literal("1", "$1.50", "-2", "(3)", "1,000.5", "1e3", "$", "99999999999999999999", "1.005")
_RANGES = st.tuples(
    st.sampled_from("[("), st.integers(-3, 3), st.sampled_from([",", ", "]), st.integers(-3, 3),
    st.sampled_from("])"),
).map(lambda parts: "".join(map(str, parts))) | st.sampled_from(
    ["empty", "(,)", "[1,)", "EMPTY", "[1,2", "[2147483647,2147483647]", '["1","2")']
)  # fmt: skip
_SAID_RANGES = _RANGES.map(lambda text: Given(text, text))
_PLACES = literal(
    *("(a,1)", "(,)", '("a,b",2)', '("",)', "(abcd,1)", "(a)", "(a,1,2)", "(a,x)", '("a""",1)'),
    *("a,1", "(a\\,b,1)", " (a,1) ", "(😀😀😀,1)"),
)
_PAIRS = literal(*("a=>1", '"a b"=>NULL', "a=>1,b=>2", "a=>", "=>1", "a=>1,a=>2", '"\\""=>"x"'))
_POINTS = literal("(1,2)", "1,2", "(NaN,1e999)", "(1)", " ( 1 , 2 ) ", "(Infinity,-0)")
_TIDY = st.lists(st.none() | st.text("01", max_size=4), max_size=4)
_BIT_LISTS = _TIDY.map(lambda bits: Given(bits, quoted(bits, str)))
_BIT_LITERALS = _TIDY.map(lambda bits: Given(quoted(bits, str), quoted(bits, str)))
_NESTED = literal("{{1},{0}}", "[0:1]={1,0}", "{{1},{}}", "{", "{1,,0}", "{2}", "{ 1 , NULL }")
_WHOLE = st.integers(-(10**6), 10**6).map(lambda number: Given(number, str(number)))

OTHER_KINDS = (
    Kind("bit(3)", "varbit", (texts(_SAID_BITS, _ODD), arrow(pa.large_string(), _SAID_BITS))),
    Kind("varbit(3)", "varbit", (texts(_SAID_BITS, _ODD),)),
    Kind("flags", "varbit", (texts(_SAID_BITS, _ODD),)),
    Kind("late", "timetz", (texts(_CLOCK, _ODD),)),
    Kind(
        "money",
        "money",
        (
            texts(_MONEY, _ODD),
            python("int", _WHOLE),
            arrow(pa.int32(), _WHOLE),
            frame("Int64", _WHOLE),
            json_tokens("int", _WHOLE.map(lambda g: Given(g.text, g.text))),
        ),
    ),
    Kind("int4range", "int4range", (texts(_SAID_RANGES, _ODD),)),
    Kind("place", "place", (texts(_PLACES, _ODD),)),
    Kind("hstore", "hstore", (texts(_PAIRS, _ODD),)),
    Kind("point", "point", (texts(_POINTS, _ODD, literal("[]")),)),
    Kind(
        "varbit(3)[]",
        "varbit[]",
        (
            texts(_BIT_LITERALS, _NESTED, _ODD),
            python("list", _BIT_LISTS),
            arrow(pa.list_(pa.string()), _BIT_LISTS),
            json_tokens("list", _TIDY.map(lambda b: Given(json.dumps(b), quoted(b, str)))),
        ),
    ),
)
