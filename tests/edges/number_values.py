"""Numbers at the edges of every type, as Python values and as text."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import late, words

Values = st.SearchStrategy[Any]

_POWERS = [
    *(2**n for n in (7, 8, 15, 16, 24, 31, 32, 53, 63, 64, 127)),
    *(10**n for n in (2, 3, 4, 5, 18, 19, 38, 76)),
]
NEAR_POWERS = st.builds(
    lambda power, step, sign: sign * (power + step),
    st.sampled_from(_POWERS),
    st.integers(-2, 2),
    st.sampled_from([1, -1]),
)
INTEGERS = NEAR_POWERS | st.integers(-10, 10) | st.integers(-(2**70), 2**70)
# Python shows no integer of over 4,300 digits.
HUGE_INTEGERS = late(lambda: [7 - 10**n for n in (80, 1_000, 5_000)])
FLOATS = (
    st.floats()
    | st.integers(-300, 70_000).map(float)
    | st.sampled_from(
        words("0 -0.0 0.1 5e-324 -2.2250738585072014e-308 1.7976931348623157e308 1e-45 7e-46 1e39")
        + words("3.4028234663852886e38 3.4028235677973366e38 -9223372036854775808 9007199254740992")
        + words("9223372036854775808 1e22 1e23 32767 32768 2147483647 2147483648 0.5 2.5 99.995")
        + words("nan inf -inf")
    ).map(float)
)
SINGLES = st.floats(width=32) | st.integers(-300, 300).map(float)
HALVES = st.floats(width=16)
DECIMALS = (
    st.decimals(allow_nan=False, allow_infinity=False)
    | st.decimals(-10_000, 10_000, places=3)
    | st.decimals(-100, 100, places=2)
    | INTEGERS.map(Decimal)
    | st.sampled_from(words("0.1 0.10 -0.00 1E+3 1E-7 9999.99 9999.995 1E-20 1E+38 99999.5")).map(
        Decimal
    )
)
ODD_DECIMALS = st.sampled_from(
    words("NaN Infinity -Infinity 1E-16383 1E-16384 1E+131071 1E+131072 1E+999999")
).map(Decimal)


def of_type(kind: pa.DataType) -> Values:
    """Integers that an Arrow type holds, most of them at its ends."""
    info = np.iinfo(kind.to_pandas_dtype())
    low, high = int(info.min), int(info.max)
    inside = NEAR_POWERS.filter(lambda v: low <= v <= high)
    return st.integers(low, high) | inside | st.sampled_from([low, low + 1, high - 1, high, 0])


def fitting(kind: pa.DataType) -> Values:
    """Decimals that an Arrow type holds."""
    top = 10**kind.precision - 1
    unscaled = st.integers(-top, top) | st.integers(-1000, 1000) | st.sampled_from([top, -top])
    return unscaled.map(lambda v: _scaled(v, kind.scale))


def _scaled(unscaled: int, scale: int) -> Decimal:
    digits = tuple(map(int, str(abs(unscaled))))
    return Decimal((int(unscaled < 0), digits, -scale))


def spelled(value: float) -> str:
    """A float as the server spells it."""
    if math.isnan(value):
        return "NaN"
    return repr(value) if math.isfinite(value) else f"{'-' if value < 0 else ''}Infinity"


# Where floats meet numbers that no Arrow type holds, large ones are told by their exact digits,
# not by the shortest ones.
BESIDE_INTEGERS = FLOATS.filter(
    lambda v: (
        abs(v) != 3.4028235677973366e38  # halfway between floats of 32 bits, its digits are not
        and (not 2**53 <= abs(v) <= 2**63 or Decimal(repr(v)) == Decimal(v))
    )
)


SHORT_INTEGER = re.compile(r"-?\d{1,999}")
JSON_NUMBERS = (
    INTEGERS.map(str)
    | FLOATS.filter(math.isfinite).map(repr)
    | st.sampled_from(
        words("1.0 -0 -0.0 1E5 1e+2 1.50 0.1e1 1e400 1e-400 9007199254740993 9007199254740993.0")
        + words("123456789012345678901234567890 0.1234567890123456789012345678901234567890")
        + words("1e22 1e23 5e-324 4e-324 1e131071 2.973656573033501e+16")
        + ["9" * 5000, "0." + "3" * 100]
    )
)


INTEGER_TEXT = INTEGERS.map(str) | st.sampled_from(
    [*words("+5 -0 007 -007 +0 5.0 1e3 2.5 NaN Infinity"), " 5", "5 ", "\t5\n", "0" * 40, "9" * 30]
)
DECIMAL_TEXT = (
    DECIMALS.map(str)
    | FLOATS.map(spelled)
    | INTEGERS.map(str)
    | st.sampled_from(
        words("0 -0 -0.0 +1 1. .5 -.5 +.5e1 1e5 1E+5 1.e2 00.10 1e-3 NaN nan Infinity inf -inf")
        + words("+Infinity -Infinity +inf INFINITY NAN iNf")
        + words("1e400 1e-400 -1e400 3.4028235e38 3.40282357e38 1e-45 1e-46 0e-20000")
        + words("2.4703282292062327e-324 2.4703282292062329e-324 1.000000059604644775390625")
        + words("1.00000005960464477539062500000000001 12345678901234567890.12345678901234567890")
        + words("1e-16383 1e-16384 1e131071 1e131072")
    )
    | st.sampled_from(["0.1" + "0" * 40 + "1", "9" * 1001, "0." + "1" * 1001, "1" + "0" * 200])
    | st.sampled_from([" 1.5", "1.5 ", "\t-2.50\n"])
)
