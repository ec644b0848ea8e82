"""Into text, varchar, bpchar, name, xml, enum, and JSON that is text or one scalar."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts.outcome import (
    HALF_A_PAIR,
    CastOptions,
    Converted,
    Kernel,
    Mask,
    Plan,
    UnfitError,
    byte_lengths,
    checked,
    each,
    exact,
    in_order,
    numbers,
    patch,
    reject,
    salvage,
    text_bytes,
    valid_mask,
)
from batchbench.table import Column

_HEADER = 4  # a varchar(n) has typmod n + 4
_NAME_BYTES = 63  # NAMEDATALEN - 1


# ------------------------------------------------------------------ reading text sources


def readable(values: pa.Array) -> Converted:
    """Valid UTF-8 as string or large_string; other rows are faults.

    Parquet readers hand bytes on as they are, so what Arrow calls a string need not be one.
    """
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.string())
    if bool(text_bytes(values).view(np.int8).min(initial=0) == 0):  # ASCII: nothing else to look at
        return Converted(values)
    large = pa.types.is_large_string(values.type)
    raw_type = pa.large_binary() if large else pa.binary()
    raw = values.view(raw_type)

    def slow(value: bytes) -> str:
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise UnfitError("22021", _why_unreadable(value)) from error

    return salvage(raw, lambda part: part.cast(values.type), each(slow, values.type))


def _why_unreadable(value: bytes) -> str:
    try:
        value.decode(errors="surrogatepass")
    except UnicodeDecodeError:
        return "not valid UTF-8"
    return HALF_A_PAIR


def from_text(plan: Plan) -> Plan:
    """A plan whose kernel takes valid UTF-8, for a source that promises it only."""

    def kernel(values: pa.Array) -> Converted:
        text = readable(values)
        done = plan.kernel(text.values)
        return Converted(done.values, in_order(text.faults, done.faults))

    return Plan(plan.exactness, kernel)


# ------------------------------------------------------------------ writing numbers as text


def float_text(values: pa.Array) -> pa.Array:
    """Shortest text that reads back as the same float; NaN and Infinity as PostgreSQL has them."""
    if pa.types.is_float16(values.type):
        values = values.cast(pa.float32())
    found = numbers(values)
    text = values.cast(pa.string())
    if bool(np.isfinite(found).all()):
        return text
    for odd, spelling in (
        (np.isnan(found), "NaN"),
        (np.isposinf(found), "Infinity"),
        (np.isneginf(found), "-Infinity"),
    ):
        text = pc.if_else(pa.array(odd & valid_mask(values)), spelling, text)
    return text


def decimal_text(values: pa.Array) -> pa.Array:
    """Plain decimal text with all digits of the type's scale; Arrow writes 1E-10 for small ones."""
    text = values.cast(pa.string())
    exponents = pc.fill_null(pc.match_substring(text, "E"), False)
    odd = exponents.to_numpy(zero_copy_only=False)
    plain = each(lambda value: format(Decimal(value), "f"), pa.string())
    return patch(Converted(text), odd, text, plain).values


# ------------------------------------------------------------------ what the column asks


def _finish(column: Column) -> Kernel:
    """Hold text against the column: NUL characters, length, labels."""
    kind = column.type.kind
    length = column.typmod - _HEADER if kind in ("varchar", "bpchar") else -1
    labels = column.type.labels

    def kernel(values: pa.Array) -> Converted:
        done = reject(Converted(values), has_nul(values), "22021", "has a NUL character")
        if length >= 0:
            reason = f"longer than {length} characters"
            done = reject(done, _longer(values, length), "22001", reason)
        if kind == "name":
            long = byte_lengths(values) > _NAME_BYTES
            done = reject(done, long, "42622", f"longer than {_NAME_BYTES} bytes")
        if labels:
            known = pc.is_in(values, value_set=pa.array(labels, values.type))
            unknown = ~known.to_numpy(zero_copy_only=False)
            done = reject(done, unknown, "22P02", f"not a label of {column.declared}")
        return done

    return kernel


def has_nul(values: pa.Array) -> Mask:
    if text_bytes(values).min(initial=1):
        return np.zeros(len(values), np.bool_)
    found = pc.fill_null(pc.match_substring(values, "\0"), False)
    mask: Mask = found.to_numpy(zero_copy_only=False)
    return mask


def _longer(values: pa.Array, length: int) -> Mask:
    lengths = byte_lengths(values)
    if int(lengths.max(initial=0)) > length:
        lengths = numbers(pc.utf8_length(values)).astype(np.int64)
    longer: Mask = lengths > length
    return longer


def _room(column: Column) -> int | None:
    """Characters that surely fit; None: no limit."""
    if column.type.kind in ("varchar", "bpchar") and column.typmod >= _HEADER:
        return column.typmod - _HEADER
    return None


def _written(column: Column, most_characters: int, write: Kernel) -> Plan:
    """A plan for a source that becomes at most `most_characters` ASCII characters."""
    room = _room(column)
    if room is None or room >= most_characters:
        return exact(write)
    finish = _finish(column)
    return checked(lambda values: finish(write(values).values))


def text_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return checked(_finish(column))


def text_from_int(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return _written(column, 20, lambda values: Converted(values.cast(pa.string())))


def text_from_float(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return _written(column, 25, lambda values: Converted(float_text(values)))


def text_from_decimal(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    most = source.precision + abs(source.scale) + 3
    return _written(column, most, lambda values: Converted(decimal_text(values)))


def text_from_bool(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return _written(column, 5, lambda values: Converted(values.cast(pa.string())))


def json_from_float(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        wide = values.cast(pa.float32()) if pa.types.is_float16(values.type) else values
        odd = ~np.isfinite(numbers(wide))
        return reject(Converted(float_text(wide)), odd, "22P02", "JSON has no NaN or infinity")

    return checked(kernel)
