"""Casts into arrays and JSON, value by value."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

import pyarrow as pa

from tests.test_casts import column
from tests.test_casts_values import INF, NAN, check, text


def test_arrays_element_by_element() -> None:
    lists = pa.array([[1, None], [], None, [1, 99_999], [2]])
    check(lists, column("int2[]"), [[1, None], [], None, {"22003"}, [2]])
    check(lists.slice(3), column("int2[]"), [{"22003"}, [2]])
    check(pa.array([[1, 2], None], pa.list_(pa.int32(), 2)), column("int8[]"), [[1, 2], None])
    check(pa.array([["1.50", None]]), column("numeric[]"), [["1.50", None]])
    check(pa.array([[True], [None]]), column("bool[]"), [[True], [None]])
    check(pa.array([["abcd"], ["abcdef"]]), column("varchar[]", 5 + 4), [["abcd"], {"22001"}])


def test_null_lists_with_hidden_elements_stay_null() -> None:
    hidden = pa.ListArray.from_arrays(
        pa.array([0, 2, 3]), pa.array([70_000, 1, 5]), mask=pa.array([True, False])
    )
    check(hidden, column("int2[]"), [None, [5]])


def test_array_literals() -> None:
    check(
        text(
            "{1,2,NULL}",
            "{}",
            " { 4 , null } ",
            '{"5"}',
            "{1,}",
            "{,}",
            "1",
            "",
            "{{1}}",
            "[0:0]={1}",
            "{x}",
            None,
        ),
        column("int4[]"),
        [[1, 2, None], [], [4, None], [5], *[{"22P02"}] * 7, None],
    )
    check(
        text('{a b,"NULL","c\\"d",é\\,}', "{a\\ }", '{"a"b}', '{a"b"}', '{""}'),
        column("text[]"),
        [["a b", "NULL", 'c"d', "é,"], ["a "], {"22P02"}, {"22P02"}, [""]],
    )


def test_json_from_nested_values() -> None:
    rows = [
        {"d": Decimal("1.50"), "l": [1.5, None], "t": dt.datetime(2020, 1, 1, 5), "s": 'é"'},
        {"d": None, "l": [NAN], "t": None, "s": None},
        None,
    ]
    source = pa.array(rows)
    check(
        source,
        column("jsonb"),
        ['{"d":1.50,"l":[1.5,null],"t":"2020-01-01T05:00:00","s":"é\\""}', {"22P02"}, None],
    )
    check(source.slice(1), column("json"), [{"22P02"}, None])
    pairs = pa.array([[("k", 1)], [("k", 1), ("k", 2)]], pa.map_(pa.string(), pa.int64()))
    check(pairs, column("json"), ['{"k":1}', {"22P02"}])


def test_json_scalars() -> None:
    check(pa.array([1e22, NAN, -INF, None]), column("jsonb"), ["1e+22", {"22P02"}, {"22P02"}, None])
    check(pa.array([True, None]), column("jsonb"), ["true", None])
    check(pa.array([Decimal("1.50")]), column("json"), ["1.50"])
    check(text('{"a": 1 }'), column("json"), ['{"a": 1 }'])  # text is JSON already


def test_json_times_beyond_python_are_faults() -> None:
    source = pa.array([{"t": 10**18}, {"t": 0}], pa.struct([("t", pa.timestamp("us"))]))
    check(
        source,
        column("jsonb"),
        [{"22008"}, json.dumps({"t": "1970-01-01T00:00:00"}, separators=(",", ":"))],
    )
