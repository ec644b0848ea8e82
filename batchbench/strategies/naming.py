"""Statements that say what became of each row of a chunk, not only of how many."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from batchbench.strategies import Target, Written
from batchbench.strategies.sql import (
    absent_key,
    best_first,
    column_list,
    insert_into,
    kept_columns,
    key_expressions,
    on_conflict,
    with_collation,
)
from batchbench.table import UniqueKey, quote


def _as_is(value: object) -> object:
    return value


# All can be without a point in JSON, or a text: NaN.
_MAKERS: Mapping[str, Callable[[Any], object]] = {
    "float4": float,
    "float8": float,
    "numeric": Decimal,
}


def naming_sql(target: Target, rows: str, names: tuple[str, ...], order: str) -> str:
    """Insert from `rows`; see `written_by_name` for the answer. Arguments as for `select_rows`.

    placed: the rows with their places in the chunk, the parts of their key, whether they can
    clash at all, their turn among those of their key, 1 for the one to write, and what the first
    of those has in `kept_columns`.
    """
    key = target.key or (target.returning.key if target.returning is not None else None)
    if key is None:
        raise AssertionError("rows are named by a key")
    columns = tuple(quote(column.name) for column in target.columns)
    parts = [f"batchbench_key_{number}" for number in range(len(key.parts))]
    compared = [
        with_collation(f"p.{own}", part) for own, part in zip(parts, key.parts, strict=True)
    ]
    listed = [f"{name} AS {column}" for name, column in zip(names, columns, strict=True)]
    listed += [
        f"{expression} AS {own}"
        for expression, own in zip(key_expressions(target, key, names), parts, strict=True)
    ]
    ranked = best_first(target, tuple(f"p.{column}" for column in columns), "p.batchbench_place")
    alone = f"coalesce({absent_key(target, key, names) or 'false'}, false)"
    same = f"PARTITION BY {', '.join(compared)} ORDER BY"
    turn = f"row_number() OVER ({same} {ranked})"
    firsts = {
        quote(name): f"batchbench_first_{number}"
        for number, name in enumerate(sorted(kept_columns(target)))
    }
    first_values = "".join(
        f", CASE WHEN p.batchbench_alone THEN p.{column}"
        f" ELSE first_value(p.{column}) OVER ({same} p.batchbench_place) END AS {first}"
        for column, first in firsts.items()
    )
    sent = ", ".join(firsts.get(column, column) for column in columns)
    if target.key is None:  # each is written, or the statement fails
        turn = "1"
    clauses = (
        f"numbered AS (SELECT row_number() OVER (ORDER BY {order}) - 1 AS batchbench_place,"
        f" {alone} AS batchbench_alone, {', '.join(listed)} FROM {rows})",
        "placed AS MATERIALIZED (SELECT p.*, CASE WHEN p.batchbench_alone THEN 1"
        f" ELSE {turn} END AS batchbench_turn{first_values} FROM numbered p)",
        f"written AS ({insert_into(target)} SELECT {sent} FROM placed p"
        f" WHERE batchbench_turn = 1 ORDER BY {', '.join(compared)}{on_conflict(target)}"
        f" RETURNING {_answer(target, key, parts)})",
    )
    return f"WITH {', '.join(clauses)} SELECT {_summary(target, key, parts, compared)}"


def _answer(target: Target, key: UniqueKey, parts: Sequence[str]) -> str:
    """What a written row says of itself."""
    listed = [f"{part.sql} AS {own}" for part, own in zip(key.parts, parts, strict=True)]
    listed.append(f"({key.predicate or 'true'}) AS batchbench_indexed")
    if target.returning is not None:
        values = column_list(target.returning.columns)
        listed.append(f"pg_catalog.json_build_array({values}) AS batchbench_returned")
    return ", ".join(listed)


def _summary(target: Target, key: UniqueKey, parts: Sequence[str], compared: Sequence[str]) -> str:
    equals = "IS NOT DISTINCT FROM" if key.nulls_equal else "="
    same = " AND ".join(
        f"w.{own} {equals} {theirs}" for own, theirs in zip(parts, compared, strict=True)
    )
    left_out = returned = "NULL"
    if target.key is not None:
        left_out = (
            "(SELECT pg_catalog.json_agg(batchbench_place ORDER BY batchbench_place)"
            " FROM placed p WHERE batchbench_turn > 1 OR NOT batchbench_alone"
            f" AND NOT EXISTS (SELECT FROM written w WHERE w.batchbench_indexed AND {same}))"
        )
    if target.returning is not None:
        returned = (
            "(SELECT pg_catalog.json_agg(pg_catalog.json_build_array("
            "p.batchbench_place, w.batchbench_returned)) FROM placed p JOIN written w"
            f" ON {same} WHERE p.batchbench_turn = 1)"
        )
    counted = "(SELECT count(*) FROM written)"
    return f"pg_catalog.json_build_array({counted}, {left_out}, {returned})::text"


def written_by_name(target: Target, answer: str | None) -> Written:
    """What a naming statement says, in JSON: how many rows were written, the places of those left
    out, places and values of those written.
    """
    row_count, left_out, returned = json.loads(answer or "", parse_float=Decimal)
    values = {}
    if target.returning is not None:
        kinds = [target.table.column(name).type.kind for name in target.returning.columns]
        makers = [_MAKERS.get(kind, _as_is) for kind in kinds]
        for place, row in returned or ():
            values[place] = tuple(
                None if value is None else make(value)
                for value, make in zip(row, makers, strict=True)
            )
    places = tuple(left_out or ())
    return Written(row_count, len(places), places, values)
