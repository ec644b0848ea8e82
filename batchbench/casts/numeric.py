"""Into numeric: decimal128(38, s) from integers and decimals, plain decimal text from the rest.

Source of the rules: numeric_in and apply_typmod in PostgreSQL's numeric.c; but where those
round, a value is a fault here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts.numbers import bounds, roomy
from batchbench.casts.outcome import (
    CastOptions,
    Converted,
    Kernel,
    Plan,
    UnfitError,
    byte_lengths,
    checked,
    each_distinct,
    exact,
    numbers,
    patch,
    reject,
    valid_mask,
)
from batchbench.casts.text import decimal_text, float_text
from batchbench.table import Column

_MOST_WHOLE_DIGITS = 131_072
_MOST_FRACTION_DIGITS = 16_383
_DECIMAL128_DIGITS = 38
_ROUNDED = "would be rounded"


@dataclass(frozen=True, slots=True)
class Limits:
    """numeric(precision, scale): digits in all, digits of the fraction (may be negative)."""

    precision: int
    scale: int

    @property
    def whole_digits(self) -> int:
        """Digits before the point; where negative, that many zeros must follow it."""
        return self.precision - self.scale


def limits_of(typmod: int) -> Limits | None:
    """Read a numeric's typmod; None where it has no limits. Source: numeric.c."""
    if typmod < 4:
        return None
    scale = (typmod - 4) & 0x7FF
    return Limits(((typmod - 4) >> 16) & 0xFFFF, (scale ^ 1024) - 1024)


def _too_large(column: Column) -> str:
    return f"too many digits before the point for {column.declared}"


def numeric_from_int(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    limits = limits_of(column.typmod)
    target = pa.decimal128(_DECIMAL128_DIGITS, 0)
    if limits is None:
        return exact(lambda values: Converted(values.cast(target)))
    too_large = 10 ** max(limits.whole_digits, 0)
    step = 10 ** max(-limits.scale, 0)
    low, high = bounds(source)

    def kernel(values: pa.Array) -> Converted:
        found = numbers(values)
        done = Converted(values.cast(target))
        outside = (found >= too_large) | (found <= -too_large)
        done = reject(done, outside, "22003", _too_large(column))
        # A step beyond the type's range leaves 0 alone, which is no multiple in numpy's eyes.
        uneven = found != 0 if step > high else found % step != 0
        return reject(done, uneven, "22003", _ROUNDED)

    fits = high < too_large and -too_large < low and step == 1
    return exact(kernel) if fits else checked(kernel)


def numeric_from_decimal(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    limits = limits_of(column.typmod)
    widen = _widening(source)
    if limits is None:
        return exact(lambda values: Converted(widen(values)))
    if source.scale <= limits.scale and source.precision - source.scale <= limits.whole_digits:
        return exact(lambda values: Converted(widen(values)))
    if not roomy(source):
        by_text = _text_kernel(column, pa.string())
        return checked(lambda values: by_text(decimal_text(values)))
    wide = pa.decimal256(76, max(source.scale, 0))
    top = limits.whole_digits if limits.whole_digits + wide.scale <= 75 else None

    def kernel(values: pa.Array) -> Converted:
        found = pc.fill_null(values.cast(wide), pa.scalar(Decimal(0), wide))
        done = Converted(widen(values))
        if top is not None:
            # Below the last digit of the source's scale, any value but 0 is too large.
            too_large = pa.scalar(Decimal(1).scaleb(max(top, -wide.scale)), wide)
            outside = pc.greater_equal(pc.abs(found), too_large)
            done = reject(done, outside.to_numpy(zero_copy_only=False), "22003", _too_large(column))
        if limits.scale < wide.scale:
            last = max(limits.scale, wide.scale - 75)
            cut = pc.round(found, last, "towards_zero")
            uneven = pc.not_equal(cut, found).to_numpy(zero_copy_only=False)
            done = reject(done, uneven, "22003", _ROUNDED)
        return done

    return checked(kernel)


def _widening(source: pa.DataType) -> Any:
    """Into decimal128(38, s) where every value of the type fits, else into plain text."""
    scale = max(source.scale, 0)
    if source.precision - source.scale + scale <= _DECIMAL128_DIGITS:
        target = pa.decimal128(_DECIMAL128_DIGITS, scale)
        return lambda values: values.cast(target)
    return decimal_text


def numeric_from_float(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    kernel = _text_kernel(column, pa.string())
    plan = exact if column.typmod < 4 else checked
    return plan(lambda values: kernel(float_text(values)))


def numeric_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return checked(_text_kernel(column, source))


_PLAIN = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?$"
_NEGATIVE_ZERO = r"^-0(\.0+)?$"
_PLAIN_LENGTH = 1_000


def _text_kernel(column: Column, text_type: pa.DataType) -> Kernel:
    limits = limits_of(column.typmod)
    slow = each_distinct(lambda text: plain_numeric(text, limits, column), text_type)

    def kernel(values: pa.Array) -> Converted:
        plain = pc.fill_null(pc.match_substring_regex(values, _PLAIN), True)
        good = plain.to_numpy(zero_copy_only=False)
        negative = pc.fill_null(pc.starts_with(values, "-"), False)
        if pc.any(negative).as_py():  # numeric has no negative zero
            zero = pc.fill_null(pc.match_substring_regex(values, _NEGATIVE_ZERO), False)
            good = good & ~zero.to_numpy(zero_copy_only=False)
        lengths = byte_lengths(values)
        dots = numbers(pc.find_substring(values, "."))
        whole = np.where(dots < 0, lengths, dots) - negative.to_numpy(zero_copy_only=False)
        fraction = np.where(dots < 0, 0, lengths - dots - 1)
        good = good & (lengths <= _PLAIN_LENGTH)
        if limits is not None:
            good = good & (whole <= limits.whole_digits) & (fraction <= limits.scale)
        return patch(Converted(values), ~good & valid_mask(values), values, slow)

    return kernel


_NUMERIC = re.compile(r"([+-]?)(?=\.?\d)(\d*)(?:\.(\d*))?(?:e([+-]?\d{1,9}))?", re.I | re.ASCII)
_SPECIAL = {"nan": "NaN"} | {
    sign + word: ("-" if sign == "-" else "") + "Infinity"
    for sign in ("", "+", "-")
    for word in ("inf", "infinity")
}


def plain_numeric(text: str, limits: Limits | None, column: Column) -> str:
    """Any spelling of a numeric as plain text of the same value and display scale.

    Raises UnfitError where the text is no number, or does not fit `limits` without rounding.
    """
    text = text.strip(" \t\n\v\f\r")
    special = _SPECIAL.get(text.lower())
    if special is not None:
        if limits is not None and special != "NaN":
            raise UnfitError("22003", f"{column.declared} cannot hold an infinite value")
        return special
    match = _NUMERIC.fullmatch(text)
    if match is None:
        raise UnfitError("22P02", "not a number")
    whole, fraction = _shifted(match[2], match[3] or "", int(match[4] or 0))
    if limits is not None:
        fraction = _limited(whole, fraction, limits, column)
    sign = "-" if match[1] == "-" and (whole + fraction).strip("0") else ""
    return f"{sign}{whole or '0'}{'.' if fraction else ''}{fraction}"


def _shifted(whole: str, fraction: str, exponent: int) -> tuple[str, str]:
    """Move the point `exponent` places to the right; no leading zeros remain before it."""
    if abs(exponent) > _MOST_WHOLE_DIGITS + _MOST_FRACTION_DIGITS:
        raise UnfitError("22003", "out of range for numeric")
    if exponent >= 0:
        fraction = fraction.ljust(exponent, "0")
        whole, fraction = whole + fraction[:exponent], fraction[exponent:]
    else:
        whole = whole.rjust(-exponent, "0")
        whole, fraction = whole[:exponent], whole[exponent:] + fraction
    whole = whole.lstrip("0")
    if len(whole) > _MOST_WHOLE_DIGITS or len(fraction) > _MOST_FRACTION_DIGITS:
        raise UnfitError("22003", "out of range for numeric")
    return whole, fraction


def _limited(whole: str, fraction: str, limits: Limits, column: Column) -> str:
    """The fraction without the zeros that numeric(p,s) has no room for."""
    needed_zeros = fraction[: max(-limits.whole_digits, 0)]
    if len(whole) > max(limits.whole_digits, 0) or needed_zeros.strip("0"):
        raise UnfitError("22003", _too_large(column))
    excess = fraction[max(limits.scale, 0) :]
    dropped = whole[limits.scale :] if limits.scale < 0 else ""
    if excess.strip("0") or dropped.strip("0"):
        raise UnfitError("22003", _ROUNDED)
    return fraction[: max(limits.scale, 0)]
