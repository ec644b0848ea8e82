"""Column types of numbers, and values at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import (
    Carrier,
    Fate,
    Given,
    Kind,
    arrow,
    frame,
    json_tokens,
    literal,
    python,
    same_decimal,
    texts,
)
from tests.edges.number_values import (
    BESIDE_INTEGERS,
    DECIMAL_TEXT,
    DECIMALS,
    FLOATS,
    HALVES,
    HUGE_INTEGERS,
    INTEGER_TEXT,
    INTEGERS,
    JSON_NUMBERS,
    ODD_DECIMALS,
    SHORT_INTEGER,
    SINGLES,
    Values,
    fitting,
    of_type,
    spelled,
)

Make = Callable[[Any], Given]

# ------------------------------------------------------------------ how each kind takes a number


def _whole(value: Any) -> Given:
    """Into integers: the number itself, read as numeric, or the row is refused."""
    if isinstance(value, float) and not value.is_integer():
        return Given(value, spelled(value), via="numeric")
    return Given(value, str(Decimal(value)), via="numeric")


def _into_float(single: bool) -> Make:
    def make(value: Any) -> Given:
        if isinstance(value, float):
            return Given(value, spelled(value), via="float8", rounds=True)
        if isinstance(value, int):
            return Given(value, str(Decimal(value)), rounds=True, fate=_fate(value, single))
        held = _kept_digits(value, single)
        fate: Fate = "held" if held else "free"
        return Given(value, str(value), rounds=True, fate=fate, by_value=True)

    return make


def _nearest(value: int | Decimal, single: bool) -> Any:
    try:
        wide = float(value)
    except (OverflowError, ValueError):
        return math.nan
    with np.errstate(over="ignore"):
        return np.float32(wide) if single else wide


def _kept(value: int, single: bool) -> bool:
    nearest = _nearest(value, single)
    return bool(np.isfinite(nearest)) and int(nearest) == value


def _fate(value: int, single: bool) -> Fate:
    """Exact; or the same digits when printed, as for decimals; or altered."""
    if _kept(value, single):
        return "held"
    return "free" if _kept_digits(Decimal(value), single) else "refused"


def _kept_digits(value: Decimal, single: bool) -> bool:
    if not value.is_finite():
        return not value.is_snan()
    nearest = _nearest(value, single)
    if not np.isfinite(nearest):
        return False
    return Decimal(float(nearest)) == value or Decimal(str(nearest)) == value


def _into_numeric(value: Any) -> Given:
    text = spelled(value) if isinstance(value, float) else str(Decimal(value))
    return Given(value, text, by_value=True)


def _single_into_numeric(value: float) -> Given:
    return Given(value, single_digits(value), by_value=True)


def single_digits(value: float) -> str:
    """The shortest digits that tell a float4 from its neighbours."""
    return str(np.float32(value)) if math.isfinite(value) else spelled(value)


def _into_text(value: Any) -> Given:
    """Any spelling of the same number."""
    number = Decimal(spelled(value)) if isinstance(value, float) else Decimal(value)
    return Given(value, check=same_decimal(number))


def _single_into_text(value: float) -> Given:
    return Given(value, check=same_decimal(Decimal(single_digits(value))))


def _missing_nan(make: Make) -> Make:
    """As pandas has it: NaN is a missing value."""

    def wrapped(value: Any) -> Given:
        is_nan = value != value
        return Given(value, missing=True) if is_nan else make(value)

    return wrapped


# ------------------------------------------------------------------ carriers


def number_carriers(
    make: Make, single: Make | None = None, mixed: Make | None = None
) -> list[Carrier]:
    """Everything but text that carries numbers.

    single: for floats of 32 bits and fewer; mixed: for integers that become floats among floats.
    """
    single = single or make
    carriers = [
        python("int", (INTEGERS | HUGE_INTEGERS).map(make)),
        python("float", FLOATS.map(make)),
        python("Decimal", DECIMALS.map(make)),
        python("odd Decimal", (DECIMALS | ODD_DECIMALS).map(make)),
        python("int and float", (INTEGERS | BESIDE_INTEGERS).map(mixed or make)),
        python("int and Decimal", (INTEGERS | DECIMALS).map(make)),
        python("numpy", of_type(pa.uint64()).map(lambda v: _as_numpy(make(v)))),
        json_tokens("number", JSON_NUMBERS.map(lambda t: _token(t, mixed or make))),
        frame("Int64", of_type(pa.int64()).map(make)),
        frame("uint64[pyarrow]", of_type(pa.uint64()).map(make)),
        frame("float64", FLOATS.map(_missing_nan(make))),
        frame("float32", SINGLES.map(_missing_nan(single))),
        arrow(pa.float64(), FLOATS.map(make)),
        arrow(pa.float32(), SINGLES.map(single)),
        arrow(pa.float16(), HALVES.map(single)),
        arrow(pa.dictionary(pa.int8(), pa.int64()), of_type(pa.int64()).map(make)),
    ]
    for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"):
        kind = getattr(pa, name)()
        carriers.append(arrow(kind, of_type(kind).map(make)))
    for kind in (
        pa.decimal128(5, 2),
        pa.decimal128(38, 4),
        pa.decimal128(38, 38),
        pa.decimal128(10, -3),
        pa.decimal256(76, 10),
        pa.decimal256(76, 76),
        pa.decimal256(76, -10),
        pa.decimal256(5, 50),
        pa.decimal128(5, -35),
    ):
        odd = not 0 <= kind.scale <= kind.precision
        carriers.append(
            Carrier(
                str(kind), "arrow", fitting(kind).map(make), _builder(kind), lossy_in_parquet=odd
            )
        )
    return carriers


def _builder(kind: pa.DataType) -> Callable[[list[Any]], pa.Array]:
    """Of decimals by their digits: pyarrow makes none of a negative scale."""
    digits = pa.decimal256(76, 0) if kind.bit_width == 256 else pa.decimal128(38, 0)

    def build(values: list[Decimal | None]) -> pa.Array:
        unscaled = [None if v is None else Decimal((*v.as_tuple()[:2], 0)) for v in values]
        plain = pa.array(unscaled, digits)
        return pa.Array.from_buffers(kind, len(plain), plain.buffers())

    return build


def _as_numpy(given: Given) -> Given:
    return replace(given, value=np.uint64(given.value))


def _token(token: str, make: Make) -> Given:
    """A number of JSON: exactly what its digits say."""
    given = make(int(token) if SHORT_INTEGER.fullmatch(token) else Decimal(token))
    return replace(given, value=token)


# ------------------------------------------------------------------ text

_ODD_NUMBERS = literal(
    "", " ", "-", "+", ".", "e5", "1e", "--5", "5-", "1,000", "1 000", "٣", "½", "five", "0x",
    "1e5.5",
    "nan5", "infinit", "1.2.3", "5\n6", "$5", "1e99999999999", "- 5", "null", "True", "1f", "1d",
)  # fmt: skip
_ONLY_SERVER = literal(
    "0x1F", "0X1f", "-0x10", "0o17", "0b101", "1_000", "1_000.5", "1e1_0", "0x1p3", "0x1.8p1",
    "nan(5)", "-nan", "0e999999999", "+nan", fate="free",
)  # fmt: skip


def _read(values: Values, **more: Any) -> st.SearchStrategy[Given]:
    return values.map(lambda text: Given(text, text, **more))


def _integers(name: str) -> Kind:
    given = _read(INTEGER_TEXT)
    if name == "oid":  # the server wraps what is negative or over 64 bits
        given = given.map(lambda g: replace(g, fate="held" if len(g.text or "") < 9 else "free"))
        given = given.filter(lambda g: "-" not in g.value)
    carriers = [texts(given, _ODD_NUMBERS, _ONLY_SERVER)]
    return Kind(name, name, (*carriers, *number_carriers(_whole_into(name))))


def _whole_into(name: str) -> Make:
    return _oid if name == "oid" else _whole


def _oid(value: Any) -> Given:
    """numeric has no cast to oid, and the server's own wraps negative numbers."""
    odd = isinstance(value, Decimal) and not value.is_finite()
    if not odd and 0 <= value < 2**32 and value == int(value):  # false for NaN
        return Given(value, str(int(value)))
    return Given(value, "0", fate="refused")


def _floats(name: str) -> Kind:
    single = name == "real"
    make = _into_float(single)

    def mixed(value: Any) -> Given:
        given = make(value)
        return replace(given, fate="free") if single else given

    def read(text: str) -> Given:
        fate = _fate(int(text), single) if SHORT_INTEGER.fullmatch(text) else "held"
        return Given(text, text, fate=fate)

    carriers = [
        texts(DECIMAL_TEXT.map(read), _ODD_NUMBERS, _ONLY_SERVER),
        *number_carriers(make, mixed=mixed),
    ]
    return Kind(name, name, tuple(carriers))


def _numeric(sql: str) -> Kind:
    carriers = [
        texts(_read(DECIMAL_TEXT), _ODD_NUMBERS, _ONLY_SERVER),
        *number_carriers(_into_numeric, _single_into_numeric),
    ]
    return Kind(sql, "numeric", tuple(carriers))


NUMBER_KINDS = (
    *map(_integers, ("smallint", "integer", "bigint", "oid")),
    *map(_floats, ("real", "double precision")),
    *map(_numeric, ("numeric", "numeric(6,2)", "numeric(4,-2)", "numeric(3,5)", "numeric(38,10)")),
    Kind("positive", "integer", (texts(_read(INTEGER_TEXT)), *number_carriers(_whole))),
)
NUMBERS_AS_TEXT = tuple(number_carriers(_into_text, _single_into_text))
