"""Into arrays of one dimension, and into JSON from lists, structs and maps."""

from __future__ import annotations

import json
import re
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts.outcome import (
    HALF_A_PAIR,
    CastOptions,
    Converted,
    Fault,
    Kernel,
    Plan,
    UnfitError,
    checked,
    each_distinct,
    in_order,
    numbers,
    patch,
    refuse,
    salvage,
    valid_mask,
)
from batchbench.table import Column

# ------------------------------------------------------------------ arrays


def lists_kernel(element: Kernel) -> Kernel:
    """Any kind of Arrow list, element by element; a faulty element makes its row a fault."""

    def kernel(values: pa.Array) -> Converted:
        # Not by a cast to plain lists: pyarrow forgets the last offset of a list view.
        return of_elements(values, element(values.flatten()))

    return kernel


def of_elements(lists: pa.Array, elements: Converted) -> Converted:
    """Put converted elements (those of null lists left out) back into the lists of `lists`."""
    counts = numbers(pc.list_value_length(lists)).astype(np.int64)
    valid = valid_mask(lists)
    flat, faults = elements.values, _row_faults(elements, counts)
    if faults:
        guilty = np.zeros(len(lists), np.bool_)
        guilty[[fault.row for fault in faults]] = True
        flat = flat.filter(pa.array(np.repeat(~guilty, counts)))
        counts, valid = np.where(guilty, 0, counts), valid & ~guilty
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
    mask = None if bool(valid.all()) else pa.array(~valid)
    return Converted(pa.ListArray.from_arrays(offsets, flat, mask=mask), faults)


def _row_faults(elements: Converted, counts: Any) -> tuple[Fault, ...]:
    """The first faulty element of each list."""
    if not elements.faults:
        return ()
    owners = np.repeat(np.arange(len(counts)), counts)
    first: dict[int, Fault] = {}
    for fault in elements.faults:
        row = int(owners[fault.row])
        first.setdefault(row, Fault(row, fault.sqlstate, f"an element: {fault.reason}"))
    return tuple(first.values())


def array_literals_kernel(element: Kernel, text_type: pa.DataType) -> Kernel:
    """PostgreSQL's array literals, such as {1,2,NULL,"a b"}."""
    slow = each_distinct(array_literal, pa.list_(text_type))

    def kernel(values: pa.Array) -> Converted:
        simple = pc.fill_null(pc.match_substring_regex(values, _SIMPLE_LITERAL), False)
        odd = ~simple.to_numpy(zero_copy_only=False) & valid_mask(values)
        literals = patch(Converted(_split(values)), odd, values, slow)
        done = of_elements(literals.values, element(literals.values.flatten()))
        return Converted(done.values, in_order(literals.faults, done.faults))

    return kernel


# No quotes, escapes, blanks or empty elements: the text between the commas is the element.
_SIMPLE_LITERAL = r"^\{[^{}\"\\\s,]+(,[^{}\"\\\s,]+)*\}$"


def _split(values: pa.Array) -> pa.Array:
    """Simple literals as lists of text."""
    lists = pc.split_pattern(pc.ascii_trim(values, "{}"), ",")
    texts = lists.flatten()
    null = pc.equal(pc.ascii_lower(texts), "null")
    texts = pc.if_else(null, pa.scalar(None, texts.type), texts)
    return of_elements(lists, Converted(texts)).values


# Numbers stay the text they are, with all their digits.
JSON_WITH_DIGITS = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=str, strict=False
).decode


def _json_elements(text: str) -> list[str | None]:
    try:
        elements = JSON_WITH_DIGITS(text)
        "".join(e for e in elements if isinstance(e, str)).encode()
    except UnicodeEncodeError as error:
        raise UnfitError("22021", HALF_A_PAIR) from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise UnfitError(
            "22P02", "an array with bounds of its own; only {...} is supported"
        ) from error
    if any(isinstance(element, list | dict) for element in elements):
        raise UnfitError("22P02", _ONE_DIMENSION)
    return [str(e).lower() if isinstance(e, bool) else e for e in elements]


_ELEMENT = re.compile(
    r'\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>(?:[^"\\{},]|\\.)+))\s*(?P<end>,|\}$)',
    re.S | re.ASCII,
)
# An escaped blank at the end is part of the element.
_TRIMMED = re.compile(r"\A\s*((?:[^\\]|\\.)*?)\s*\Z", re.S | re.ASCII)
_ESCAPED = re.compile(r"\\(.)", re.S)
_ONE_DIMENSION = "only arrays of one dimension are supported"
_MALFORMED = "malformed array literal: write {1,2,NULL}"


def array_literal(text: str) -> list[str | None]:
    """The elements of a one-dimensional literal as text. Source: array_in in arrayfuncs.c.

    A JSON array of scalars is one too: sources hand on lists of several types as JSON.
    """
    text = text.strip(" \t\n\v\f\r")
    if text[:1] == "[":
        return _json_elements(text)
    if text[:1] != "{" or text[-1:] != "}":
        raise UnfitError("22P02", _MALFORMED)
    if not text[1:-1].strip():
        return []
    elements: list[str | None] = []
    position = 1
    while position < len(text):
        match = _ELEMENT.match(text, position)
        if match is None:
            nested = text[position:].lstrip()[:1] == "{"
            raise UnfitError("22P02", _ONE_DIMENSION if nested else _MALFORMED)
        elements.append(_element(match))
        position = match.end()
    if match is None or match["end"] != "}":
        raise UnfitError("22P02", _MALFORMED)
    return elements


def _element(match: re.Match[str]) -> str | None:
    if match["quoted"] is not None:
        return _ESCAPED.sub(r"\1", match["quoted"])
    bare = match["bare"]
    stripped = _TRIMMED.sub(r"\1", bare)
    if not stripped:
        raise UnfitError("22P02", _MALFORMED)
    return None if stripped.lower() == "null" else _ESCAPED.sub(r"\1", stripped)


# ------------------------------------------------------------------ JSON


def json_from_nested(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Lists as arrays, structs and maps as objects; times as ISO 8601 text, decimals as numbers."""
    _hold_leaves(source, column)
    write = _write if _has_decimals(source) else _dumps

    def text(value: Any) -> str:
        try:
            return write(value)
        except ValueError as error:
            raise UnfitError("22P02", "JSON has no NaN or infinity") from error

    def fast(values: pa.Array) -> pa.Array:
        rows = values.to_pylist(maps_as_pydicts="strict")
        return pa.array([None if row is None else text(row) for row in rows], pa.string())

    def one(values: pa.Array) -> str | None:
        try:
            row = values.to_pylist(maps_as_pydicts="strict")[0]
        except KeyError as error:
            raise UnfitError("22P02", "a map has a key twice") from error
        except (ValueError, OverflowError) as error:
            raise UnfitError(
                "22008",
                "a time that Python cannot show: finer than microseconds, or beyond year 9999",
            ) from error
        return None if row is None else text(row)

    def guarded(values: pa.Array) -> pa.Array:
        try:
            return fast(values)
        except (KeyError, ValueError, OverflowError) as error:
            raise UnfitError("22P02", "some row") from error

    return checked(lambda values: salvage(values, guarded, _row_by_row(one)))


def _row_by_row(convert: Any) -> Kernel:
    def kernel(values: pa.Array) -> Converted:
        results: list[str | None] = []
        faults: list[Fault] = []
        for row in range(len(values)):
            try:
                results.append(convert(values.slice(row, 1)))
            except UnfitError as unfit:
                results.append(None)
                faults.append(Fault(row, unfit.sqlstate, unfit.reason))
        return Converted(pa.array(results, pa.string()), tuple(faults))

    return kernel


def _iso(value: Any) -> str:
    if isinstance(value, date | datetime | time):  # pandas' Timestamp is a datetime
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in JSON")


_dumps = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_iso
).encode


def _write(value: Any) -> str:
    """As `_dumps`, with decimals as numbers of all their digits, which json cannot write."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{_dumps(str(k))}:{_write(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_write, value)) + "]"
    return format(value, "f") if isinstance(value, Decimal) else str(_dumps(value))


def _children(source: pa.DataType) -> list[pa.DataType]:
    if isinstance(source, pa.BaseExtensionType):
        return _children(source.storage_type)
    if pa.types.is_dictionary(source):
        return [source.value_type]
    return [source.field(i).type for i in range(source.num_fields)]


def _has_decimals(source: pa.DataType) -> bool:
    return pa.types.is_decimal(source) or any(map(_has_decimals, _children(source)))


_NO_JSON = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_duration,
    pa.types.is_interval,
    pa.types.is_union,
)


def _hold_leaves(source: pa.DataType, column: Column) -> None:
    """Refuse types that have no one form in JSON."""
    if isinstance(source, pa.UuidType):
        return
    fixed = pa.types.is_fixed_size_binary(source) and not pa.types.is_decimal(source)
    if fixed or any(test(source) for test in _NO_JSON):
        refuse(source, column, "JSON has no such values; give text or numbers instead")
    if pa.types.is_map(source):
        key = source.key_type
        if not (pa.types.is_string(key) or pa.types.is_large_string(key)):
            refuse(source, column, "the keys of a JSON object are text; give text keys")
    if pa.types.is_struct(source):
        names = [source.field(i).name for i in range(source.num_fields)]
        if len(set(names)) < len(names):
            refuse(source, column, "a field's name comes twice; give each its own name")
    for child in _children(source):
        _hold_leaves(child, column)
