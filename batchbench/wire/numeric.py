"""numeric as the wire has it: base-10,000 digits.

Source of the format: numeric_recv in PostgreSQL's numeric.c: uint16 digit count, int16 weight of
the first digit (in powers of 10,000), uint16 sign, uint16 display scale, then the digits. The
server drops leading and trailing zero digits, so every value of a column may carry as many.
"""

from __future__ import annotations

import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_GROUP = 10_000
_SIGNS = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}
_NEGATIVE = 0x4000
_INT64_DIGITS = 18


def numeric_values(values: pa.Array) -> Any:
    """Encode canonical numerics: decimal128 of one display scale, or plain decimal text.

    Returns a numpy array of fixed width where every value fits 18 digits, else a
    LargeBinaryArray. What stands under nulls is of no meaning.
    """
    if pa.types.is_decimal(values.type):
        unscaled = _unscaled_int64(values)
        if unscaled is not None:
            scales = np.full(len(values), values.type.scale, np.int64)
            return _encode_int64(unscaled, values.type.scale, scales)
        return _encode_each(values.cast(pa.large_string()))
    parsed = _parse_text(values)
    return _encode_each(values) if parsed is None else _encode_int64(*parsed)


def _unscaled_int64(values: pa.Array) -> NDArray[np.int64] | None:
    """The unscaled integers of a decimal128 array, or None where one needs over 18 digits."""
    words = np.frombuffer(values.buffers()[1], np.int64).reshape(-1, 2)
    words = words[values.offset : values.offset + len(values)]
    valid = values.is_valid().to_numpy(zero_copy_only=False)
    low = np.where(valid, words[:, 0], 0)
    high = np.where(valid, words[:, 1], 0)
    # Not by np.abs: that of the smallest int64 is negative.
    fits = (high == (low >> 63)) & (low < 10**_INT64_DIGITS) & (low > -(10**_INT64_DIGITS))
    return low if bool(fits.all()) else None


def _parse_text(
    values: pa.Array,
) -> tuple[NDArray[np.int64], int, NDArray[np.int64]] | None:
    """Text as unscaled integers of one common scale, with each value's own display scale.

    None where a value is not finite or the whole needs over 18 digits.
    """
    dots = pc.find_substring(values, ".")
    lengths = pc.utf8_length(values)
    shown = pc.if_else(pc.equal(dots, -1), 0, pc.subtract(pc.subtract(lengths, dots), 1))
    scales = pc.fill_null(shown, 0).to_numpy(zero_copy_only=False).astype(np.int64)
    common = int(scales.max(initial=0))
    longest = pc.max(lengths).as_py() or 0
    if longest + common > _INT64_DIGITS:
        return None
    digits = pc.fill_null(pc.replace_substring(values, ".", ""), "0")
    try:
        unscaled = pc.cast(digits, pa.int64()).to_numpy().astype(np.int64)
    except pa.ArrowInvalid:  # NaN and the infinities
        return None
    return unscaled * 10 ** (common - scales), common, scales


def _encode_int64(
    unscaled: NDArray[np.int64], scale: int, display_scales: NDArray[np.int64]
) -> NDArray[Any]:
    """Split integers of a common scale into base-10,000 digits, whole columns at a time."""
    fraction_groups = -(-scale // 4)
    pad = 10 ** (fraction_groups * 4 - scale)
    magnitude = np.abs(unscaled)
    # The last group alone takes the padding, so that nothing leaves 64 bits.
    groups = [(magnitude % (_GROUP // pad)) * pad] if pad > 1 else []
    magnitude = magnitude // (_GROUP // pad) if pad > 1 else magnitude
    while len(groups) < fraction_groups + 1 or bool((magnitude > 0).any()):
        groups.append(magnitude % _GROUP)
        magnitude = magnitude // _GROUP
    count = len(groups)
    encoded = np.empty(len(unscaled), [("head", ">i2", 4), ("digits", ">i2", count)])
    encoded["head"][:, 0] = count
    encoded["head"][:, 1] = count - fraction_groups - 1
    encoded["head"][:, 2] = np.where(unscaled < 0, _NEGATIVE, 0)
    encoded["head"][:, 3] = display_scales
    for place, group in enumerate(reversed(groups)):
        encoded["digits"][:, place] = group
    return encoded.view(f"V{encoded.dtype.itemsize}")


def _encode_each(values: pa.Array) -> pa.Array:
    """The long and the special, value by value."""
    encoded = [b"" if text is None else _encode_one(text) for text in values.to_pylist()]
    return pa.array(encoded, pa.large_binary())


def _encode_one(text: str) -> bytes:
    if text in _SIGNS:
        return struct.pack(">hhHh", 0, 0, _SIGNS[text], 0)
    sign, digits, exponent = Decimal(text).as_tuple()
    exponent = int(exponent)  # a letter only for what _SIGNS has
    scale = max(-exponent, 0)
    whole = "".join(map(str, digits)) + "0" * max(exponent, 0)
    whole = whole.rjust(scale + 1, "0")
    integer, fraction = whole[: len(whole) - scale], whole[len(whole) - scale :]
    integer = integer.rjust(-(-len(integer) // 4) * 4, "0")
    fraction = fraction.ljust(-(-len(fraction) // 4) * 4, "0")
    groups = [int((integer + fraction)[i : i + 4]) for i in range(0, len(integer + fraction), 4)]
    weight = len(integer) // 4 - 1
    head = struct.pack(">HhHh", len(groups), weight, _NEGATIVE if sign else 0, scale)
    return head + struct.pack(f">{len(groups)}h", *groups)
