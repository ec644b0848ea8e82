"""Into bool, int2, int4, int8, oid, float4 and float8."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.casts.outcome import (
    CastOptions,
    Converted,
    Exactness,
    Kernel,
    Mask,
    Plan,
    Reader,
    UnfitError,
    arrow,
    checked,
    each,
    each_distinct,
    exact,
    numbers,
    parsed,
    patch,
    reject,
    text_bytes,
    unchanged,
    valid_mask,
)
from batchbench.table import Column

INTEGERS: dict[str, pa.DataType] = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "oid": pa.uint32(),
}
FLOATS: dict[str, pa.DataType] = {"float4": pa.float32(), "float8": pa.float64()}

_DIGITS_ALWAYS_KEPT = {"float4": 6, "float8": 15}


def bounds(integer: pa.DataType) -> tuple[int, int]:
    """Smallest and largest value of an Arrow integer type."""
    limits = np.iinfo(integer.to_pandas_dtype())
    return int(limits.min), int(limits.max)


# ------------------------------------------------------------------ into integers


def int_from_int(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    target = INTEGERS[column.type.kind]
    low, high = bounds(source)
    if target == source:
        return exact(unchanged)
    fits = bounds(target)[0] <= low and high <= bounds(target)[1]
    return Plan(Exactness.EXACT if fits else Exactness.CHECKED, _narrowing(target, column))


def _narrowing(target: pa.DataType, column: Column) -> Kernel:
    low, high = bounds(target)
    reason = f"out of range for {column.declared}"

    def kernel(values: pa.Array) -> Converted:
        found = numbers(values)
        narrow = arrow(found.astype(target.to_pandas_dtype()), target, valid_mask(values))
        return reject(Converted(narrow), (found < low) | (found > high), "22003", reason)

    return kernel


def int_from_float(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    target = INTEGERS[column.type.kind]
    low, high = bounds(target)

    def kernel(values: pa.Array) -> Converted:
        found = numbers(values).astype(np.float64)
        # high + 1 is a power of two, so a float has it exactly; high of int8 it has not.
        inside = (found >= float(low)) & (found < float(high + 1))  # false for NaN
        whole = ~inside | (found == np.trunc(found))
        fit = inside & whole
        ints = np.where(fit, found, 0).astype(target.to_pandas_dtype())
        done = Converted(arrow(ints, target, valid_mask(values)))
        done = reject(done, ~inside, "22003", f"out of range for {column.declared}")
        return reject(done, ~whole, "22P02", f"has a fraction, {column.declared} has none")

    return checked(kernel)


def int_from_decimal(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    target = INTEGERS[column.type.kind]
    low, high = (Decimal(bound) for bound in bounds(target))
    if not roomy(source):
        from_text = int_from_text(pa.string(), column, options).kernel
        return checked(lambda values: from_text(whole_text(values)))
    wide = pa.decimal256(76, max(source.scale, 0))

    def kernel(values: pa.Array) -> Converted:
        found = pc.fill_null(values.cast(wide), pa.scalar(Decimal(0), wide))
        whole = _mask(pc.equal(pc.round(found, 0, "towards_zero"), found))
        inside = _mask(pc.and_(pc.greater_equal(found, low), pc.less_equal(found, high)))
        usable = pa.array(whole & inside & valid_mask(values))
        done = Converted(pc.if_else(usable, found, pa.scalar(Decimal(0), wide)).cast(target))
        done = Converted(pc.if_else(values.is_valid(), done.values, pa.scalar(None, target)))
        done = reject(done, ~inside, "22003", f"out of range for {column.declared}")
        return reject(done, ~whole, "22P02", f"has a fraction, {column.declared} has none")

    return checked(kernel)


def roomy(source: pa.DataType) -> bool:
    """Whether decimal256 has room for all values of a decimal type, and to hold them against an
    int8 of 19 digits.
    """
    return bool(source.precision - min(source.scale, 0) <= 76 and source.scale + 19 <= 76)


def whole_text(values: pa.Array) -> pa.Array:
    """Any decimals as plain text, whole ones without a fraction."""
    return each(_whole, pa.string())(values).values


def _whole(value: Decimal) -> str:
    plain = format(value, "f")
    whole, _, fraction = plain.partition(".")
    return plain if fraction.strip("0") else whole


def _mask(values: pa.Array) -> Mask:
    mask: Mask = values.to_numpy(zero_copy_only=False)
    return mask


_INTEGER = re.compile(r"[+-]?0*(\d+)", re.ASCII)
_INT64_TEXT = 20


def int_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Decimal digits with a sign. Not the 0x1F and 1_000 of PostgreSQL 16: 15 refuses them."""
    narrow = _narrowing(INTEGERS[column.type.kind], column)
    out_of_range = f"out of range for {column.declared}"

    def fast(values: pa.Array) -> pa.Array:
        # Arrow reads 0xFFFFFFFFFFFFFFFF as -1.
        if bool(((text_bytes(values) | 0x20) == ord("x")).any()):
            raise UnfitError("22P02", "hexadecimal")
        return values.cast(pa.int64())

    def slow(text: str) -> int:
        match = _INTEGER.fullmatch(text)
        if match is None:
            raise UnfitError("22P02", "not an integer")
        if len(match[1]) > _INT64_TEXT or not -(2**63) <= int(text) < 2**63:
            raise UnfitError("22003", out_of_range)
        return int(text)

    reader = Reader(r"^-?[0-9]{1,18}$", fast, each_distinct(slow, pa.int64()))

    def kernel(values: pa.Array) -> Converted:
        wide = parsed(values, reader)
        done = narrow(wide.values)
        return Converted(done.values, _joined(wide, done))

    return checked(kernel)


def _joined(first: Converted, second: Converted) -> tuple[Any, ...]:
    return tuple(sorted(first.faults + second.faults, key=lambda fault: fault.row))


# ------------------------------------------------------------------ into floats


def float_from_int(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    target = FLOATS[column.type.kind]
    mantissa_bits = 24 if column.type.kind == "float4" else 53
    if source.bit_width < mantissa_bits:
        return exact(lambda values: Converted(values.cast(target)))
    _, high = bounds(source)

    def kernel(values: pa.Array) -> Converted:
        found = numbers(values)
        floats = found.astype(target.to_pandas_dtype())
        wide = floats.astype(np.float64)
        inside = wide < float(high + 1)  # rounding up may leave the integers altogether
        back = np.where(inside, wide, 0).astype(found.dtype)
        done = Converted(arrow(floats, target, valid_mask(values)))
        lost = f"has more digits than {column.declared} keeps"
        return reject(done, ~inside | (back != found), "22003", lost)

    return checked(kernel)


def float_from_float(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    target = FLOATS[column.type.kind]
    if source == target:
        return exact(unchanged)
    if source.bit_width < target.bit_width:
        return exact(lambda values: Converted(values.cast(target)))

    def kernel(values: pa.Array) -> Converted:
        found = numbers(values)
        with np.errstate(over="ignore", under="ignore"):
            floats = found.astype(np.float32)
        lost = (np.isinf(floats) & np.isfinite(found)) | ((floats == 0) & (found != 0))
        done = Converted(arrow(floats, target, valid_mask(values)))
        return reject(done, lost, "22003", f"out of range for {column.declared}")

    return checked(kernel)


def float_from_decimal(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Only decimals that the float equals, or that its shortest text gives back."""
    target = FLOATS[column.type.kind]
    slow = each(lambda value: _nearest(value, target, column), target)
    if not roomy(source):
        return checked(slow)
    kept = _DIGITS_ALWAYS_KEPT[column.type.kind]
    smallest = float(np.finfo(target.to_pandas_dtype()).tiny)
    few = source.precision <= kept
    if few and abs(source.scale) + source.precision < -math.log10(smallest):
        return exact(lambda values: Converted(_by_text(values, target)))
    wide = pa.decimal256(76, max(source.scale, 0))
    long = Decimal(10**kept).scaleb(-max(source.scale, 0))

    def kernel(values: pa.Array) -> Converted:
        magnitude = pc.abs(pc.fill_null(values.cast(wide), pa.scalar(Decimal(0), wide)))
        found = _by_text(values, target)
        odd = _mask(pc.greater_equal(magnitude, long))
        # Below its normal numbers a float has fewer digits, and then none.
        odd |= (np.abs(numbers(found)) < smallest) & _mask(pc.greater(magnitude, Decimal(0)))
        return patch(Converted(found), odd, values, slow)

    return checked(kernel)


def _by_text(values: pa.Array, target: pa.DataType) -> pa.Array:
    return values.cast(pa.string()).cast(target)  # by text, because that rounds correctly


def _nearest(value: Decimal, target: pa.DataType, column: Column) -> float:
    """The float of a decimal or an integer. Raises UnfitError where it says something else."""
    single = pa.array([str(value)]).cast(target)
    found: float = single[0].as_py()
    exact_or_shortest = (Decimal(found), Decimal(single.cast(pa.string())[0].as_py()))
    if value not in exact_or_shortest:
        raise UnfitError("22003", f"has more digits than {column.declared} keeps")
    return found


_FLOAT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|[+-]?inf(inity)?", re.I | re.ASCII)
_FLOAT_SHAPE = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_INFINITE = r"^[+-]?[iI]"
_ZERO = r"^[+-]?[0.]+([eE].*)?$"
_WHOLE = r"^[+-]?[0-9]+$"


def float_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """The nearest float, as the server reads it; but an integer keeps its digits or is refused."""
    target = FLOATS[column.type.kind]
    integers_end = 2.0 ** (24 if column.type.kind == "float4" else 53)

    def fast(values: pa.Array) -> pa.Array:
        return values.cast(target)

    def slow(text: str) -> Any:
        if _FLOAT.fullmatch(text) is None:
            raise UnfitError("22P02", "not a number")
        return fast(pa.array([text.lstrip("+")]))[0].as_py()

    reader = Reader(_FLOAT_SHAPE, fast, each_distinct(slow, target))
    kept = each_distinct(lambda text: _nearest(Decimal(text.strip()), target, column), target)

    def kernel(values: pa.Array) -> Converted:
        done = parsed(values, reader)
        found = numbers(done.values)
        # Arrow reads 1e400 as infinity and 1e-400 as 0.
        lost = _unless(np.isinf(found), values, _INFINITE)
        lost |= _unless((found == 0) & valid_mask(done.values), values, _ZERO)
        done = reject(done, lost, "22003", f"out of range for {column.declared}")
        large = np.isfinite(found) & (np.abs(found) >= integers_end)
        return patch(done, large & ~_unless(large, values, _WHOLE), values, kept)

    return checked(kernel)


def _unless(suspects: Mask, values: pa.Array, pattern: str) -> NDArray[np.bool_]:
    """The suspects whose text does not match."""
    guilty = suspects.copy()
    if bool(suspects.any()):
        texts = pc.ascii_trim_whitespace(values.filter(pa.array(suspects)))
        guilty[suspects] = ~_mask(pc.match_substring_regex(texts, pattern))
    return guilty


# ------------------------------------------------------------------ into bool

_TRUE = ["t", "tr", "tru", "true", "y", "ye", "yes", "on", "1"]
_FALSE = ["f", "fa", "fal", "fals", "false", "n", "no", "of", "off", "0"]


def bool_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    words = pa.array(_TRUE + _FALSE, source)

    def kernel(values: pa.Array) -> Converted:
        lowered = pc.ascii_lower(pc.ascii_trim_whitespace(values))
        place = pc.index_in(lowered, value_set=words)
        unknown = valid_mask(values) & ~valid_mask(place)
        truth = pc.less(pc.fill_null(place, 0), len(_TRUE))
        done = Converted(pc.if_else(values.is_valid(), truth, pa.scalar(None, pa.bool_())))
        return reject(done, unknown, "22P02", "neither true nor false")

    return checked(kernel)


def bool_from_bool(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return exact(unchanged)
