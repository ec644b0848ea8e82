"""Into types that have no encoder of ours: the text that the type's own input function reads.

The server holds every value against the type; nothing is checked here but what that function
would not say.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts.nested import JSON_WITH_DIGITS, of_elements
from batchbench.casts.outcome import (
    HALF_A_PAIR,
    Builder,
    CastOptions,
    Converted,
    Kernel,
    Plan,
    UnfitError,
    byte_lengths,
    checked,
    each_distinct,
    patch,
    reject,
    valid_mask,
)
from batchbench.casts.text import has_nul
from batchbench.table import Column


def input_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    one_byte = column.type.sql == '"pg_catalog"."char"'  # whose input function cuts in silence

    def kernel(values: pa.Array) -> Converted:
        done = reject(Converted(values), has_nul(values), "22021", "has a NUL character")
        if one_byte:
            done = reject(done, byte_lengths(values) > 1, "22001", "longer than 1 byte")
        return _from_json(done) if column.type.element is not None else done

    return checked(kernel)


def _from_json(done: Converted) -> Converted:
    """Array literals as they are; lists, which sources also hand on as JSON, as literals."""
    found = pc.fill_null(pc.match_substring_regex(done.values, r"^\s*\["), False)
    lists = found.to_numpy(zero_copy_only=False)
    return patch(done, lists, done.values, each_distinct(_literal, done.values.type))


def _literal(text: str) -> str:
    try:
        elements = JSON_WITH_DIGITS(text)
    except (ValueError, RecursionError):
        return text  # a literal with bounds of its own
    spelled = _spelled(elements)
    if not spelled.isascii():
        try:
            spelled.encode()
        except UnicodeEncodeError as error:
            raise UnfitError("22021", HALF_A_PAIR) from error
    return spelled


def _spelled(value: Any) -> str:
    if isinstance(value, list):
        return "{" + ",".join(map(_spelled, value)) + "}"
    if isinstance(value, dict):
        raise UnfitError("22P02", "an object is no element of an array")
    if value is None or isinstance(value, bool):
        return "NULL" if value is None else str(value).lower()
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def held_by_server(build: Builder) -> Builder:
    """Of a cast into text: whether a value fits, the server says."""
    return lambda source, column, options: checked(build(source, column, options).kernel)


def array_literals(element: Kernel) -> Kernel:
    """Lists as array literals: {"a","b",NULL}. element: makes text of the elements."""

    def kernel(values: pa.Array) -> Converted:
        lists = of_elements(values, element(values.flatten()))
        quoted = of_elements(lists.values, Converted(_quoted(lists.values.flatten())))
        return Converted(_wrapped("{", pc.binary_join(quoted.values, ","), "}"), lists.faults)

    return kernel


def _quoted(texts: pa.Array) -> pa.Array:
    escaped = pc.replace_substring_regex(texts, r'(["\\])', r"\\\1")
    return pc.fill_null(_wrapped('"', escaped, '"'), "NULL")


def bracketed_lists(element: Kernel) -> Kernel:
    """Lists of numbers as [1,2.5], which vectors read. element: makes text of the numbers."""

    def kernel(values: pa.Array) -> Converted:
        lists = of_elements(values, element(values.flatten()))
        done = Converted(_wrapped("[", pc.binary_join(lists.values, ","), "]"), lists.faults)
        holed = valid_mask(lists.values) & ~valid_mask(done.values)
        filled = Converted(pc.if_else(pa.array(holed), "", done.values), done.faults)
        return reject(filled, holed, "22004", "an element is null")

    return kernel


def _wrapped(before: str, texts: pa.Array, after: str) -> pa.Array:
    return pc.binary_join_element_wise(before, texts, after, "", null_handling="emit_null")
