"""A value as a source carries it, and what is right to become of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

Fate = Literal["held", "free", "refused"]
Family = Literal["text", "python", "arrow", "frame", "json"]


@dataclass(frozen=True, slots=True)
class Given:
    """One value of one column.

    value: as the source has it. text: the same as text that the server is asked to read;
    None: `check` decides.
    via: the type the text is read as first; "": the column's type without its limits. What the
        column makes of that must equal it, else the row must be refused.
    fate: "held": must be stored where the server can hold it; "free": may be refused all the
        same (a spelling that only the server knows); "refused": whatever the server says, storing
        it would alter it.
    rounds: reading into the column may round (decimal text into a float).
    by_value: numerics are compared by value, not by their display scale.
    missing: the source calls it null.
    """

    value: Any
    text: str | None = None
    via: str = ""
    fate: Fate = "held"
    rounds: bool = False
    by_value: bool = False
    missing: bool = False
    check: Callable[[str], bool] | None = None


@dataclass(frozen=True, slots=True)
class Carrier:
    """One way in which sources carry values of a column.

    family: which sources do. build: list of values (None for null) -> what the source takes:
    Arrow arrays for "arrow", Series for "frame", Python values else (JSON tokens for "json").
    lossy_in_parquet: Parquet itself cannot keep such values.
    """

    name: str
    family: Family
    given: st.SearchStrategy[Given] = field(repr=False)
    build: Callable[[list[Any]], Any] = field(default=list, repr=False)
    lossy_in_parquet: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """A column type. sql: as declared; base: without limits of length, precision and range."""

    sql: str
    base: str
    carriers: tuple[Carrier, ...] = field(repr=False)


def texts(*pools: st.SearchStrategy[Given]) -> Carrier:
    """Text, which every source carries."""
    return Carrier("text", "text", st.one_of(*pools))


def python(name: str, given: st.SearchStrategy[Given]) -> Carrier:
    """Python objects, in rows and in object columns of a frame."""
    return Carrier(name, "python", given)


def json_tokens(name: str, given: st.SearchStrategy[Given]) -> Carrier:
    """What stands in a line of JSON, as it stands there."""
    return Carrier(name, "json", given)


def arrow(
    kind: pa.DataType, given: st.SearchStrategy[Given], *, lossy_in_parquet: bool = False
) -> Carrier:
    """Values of an Arrow type, as Python has them."""
    return Carrier(str(kind), "arrow", given, lambda vs: pa.array(vs, kind), lossy_in_parquet)


def arrow_raw(
    kind: pa.DataType, given: st.SearchStrategy[Given], *, lossy_in_parquet: bool = False
) -> Carrier:
    """Values of an Arrow type as the integers behind it, which go further than Python's own."""
    storage = pa.int32() if kind.bit_width == 32 else pa.int64()

    def build(values: list[Any]) -> pa.Array:
        return pa.array(values, storage).view(kind)

    return Carrier(str(kind), "arrow", given, build, lossy_in_parquet)


def frame(dtype: str, given: st.SearchStrategy[Given]) -> Carrier:
    """A column of a DataFrame."""
    return Carrier(dtype, "frame", given, lambda vs: pd.Series(vs, dtype=dtype))


def words(text: str) -> list[str]:
    """The words of a line."""
    return text.split()


def late(make: Callable[[], list[Any]]) -> st.SearchStrategy[Any]:
    """One of values so long that Hypothesis had better not show them."""
    made = cache(make)
    return st.deferred(lambda: st.sampled_from(range(len(made())))).map(lambda at: made()[at])


def literal(*spellings: str, fate: Fate = "held") -> st.SearchStrategy[Given]:
    """Spellings that the server reads, or does not."""
    return st.sampled_from(spellings).map(lambda text: Given(text, text, fate=fate))


def same_decimal(value: Decimal) -> Callable[[str], bool]:
    """Whether stored text is that number."""
    if value.is_nan():
        return lambda stored: Decimal(stored).is_nan()
    return lambda stored: Decimal(stored) == value
