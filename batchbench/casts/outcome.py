"""What a cast hands back, and the few tools that casts are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.errors import InputError
from batchbench.table import Column

Mask = NDArray[np.bool_]

HALF_A_PAIR = "half a surrogate pair is no character"


class Exactness(StrEnum):
    """Whether rows can fail.

    EXACT: no value can be a fault, but for a null in a NOT NULL column and a time or a span
        beyond PostgreSQL's calendar.
    CHECKED: some values may be faults.
    """

    EXACT = "exact"
    CHECKED = "checked"


@dataclass(frozen=True, slots=True)
class CastOptions:
    """assume_timezone: zone for naive times into timestamptz, and for the way back."""

    assume_timezone: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """A row that cannot be converted.

    row: index into the array given to `Cast.apply`.
    sqlstate: what the server would have said.
    reason: why, in words; never the value.
    """

    row: int
    sqlstate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Converted:
    """values: canonical, null at faulty rows. faults: by ascending row, one a row."""

    values: pa.Array
    faults: tuple[Fault, ...] = ()


Kernel = Callable[[pa.Array], Converted]


@dataclass(frozen=True, slots=True)
class Plan:
    """One pair of types, decided: can rows fail, and what converts them."""

    exactness: Exactness
    kernel: Kernel


Builder = Callable[[pa.DataType, Column, CastOptions], Plan]


def exact(kernel: Kernel) -> Plan:
    """A plan whose rows cannot fail."""
    return Plan(Exactness.EXACT, kernel)


def checked(kernel: Kernel) -> Plan:
    """A plan whose rows may fail."""
    return Plan(Exactness.CHECKED, kernel)


def unchanged(values: pa.Array) -> Converted:
    """The kernel of a source that is canonical already."""
    return Converted(values)


def refuse(source: pa.DataType, column: Column, advice: str) -> NoReturn:
    """Raise InputError for a pair of types that cannot be converted."""
    raise InputError(
        f"column {column.name!r}: {source} in the source cannot become {column.declared} without "
        f"altering values; {advice}"
    )


class UnfitError(ValueError):
    """One value cannot be converted. Stays inside this package: it becomes a Fault."""

    def __init__(self, sqlstate: str, reason: str) -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate
        self.reason = reason


# ------------------------------------------------------------------ Arrow <-> numpy


def valid_mask(values: pa.Array) -> Mask:
    """Shape (rows,): true where there is a value."""
    if values.null_count == 0:
        return np.ones(len(values), np.bool_)
    mask: Mask = values.is_valid().to_numpy(zero_copy_only=False)
    return mask


def numbers(values: pa.Array) -> NDArray[Any]:
    """The numbers of an int, uint or float array as numpy has them, 0 under nulls."""
    filled = pc.fill_null(values, pa.scalar(0, values.type)) if values.null_count else values
    found: NDArray[Any] = filled.to_numpy(zero_copy_only=True)
    return found


def arrow(found: NDArray[Any], arrow_type: pa.DataType, valid: Mask | None = None) -> pa.Array:
    """Numbers back into Arrow; null where not valid. NaN stays a value (from_pandas is off)."""
    mask = None if valid is None or bool(valid.all()) else ~valid
    return pa.array(found, arrow_type, mask=mask, from_pandas=False)


def fixed_binary(rows: NDArray[np.uint8], valid: Mask | None = None) -> pa.Array:
    """rows: shape (rows, width), made into fixed_size_binary(width)."""
    data = pa.py_buffer(np.ascontiguousarray(rows))
    bitmap = None
    if valid is not None and not bool(valid.all()):
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
    return pa.Array.from_buffers(pa.binary(rows.shape[1]), len(rows), [bitmap, data])


def text_bytes(values: pa.Array) -> NDArray[np.uint8]:
    """All bytes of a string or binary array, value after value, without a copy.

    What stands under nulls may be among them.
    """
    _, offsets, data = values.buffers()
    if data is None or len(values) == 0:
        return np.zeros(0, np.uint8)
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    ends = np.frombuffer(offsets, np.int64 if wide else np.int32)
    return np.frombuffer(data, np.uint8)[ends[values.offset] : ends[values.offset + len(values)]]


def byte_lengths(values: pa.Array) -> NDArray[np.int64]:
    """Bytes of each string, 0 for nulls."""
    return numbers(pc.binary_length(values)).astype(np.int64)


# ------------------------------------------------------------------ finding guilty rows


def reject(done: Converted, bad: Mask, sqlstate: str, reason: str) -> Converted:
    """Make faults of the rows that `bad` marks, except those that are null or faulty already."""
    if not bool(bad.any()):
        return done
    bad = bad & valid_mask(done.values)
    rows = np.flatnonzero(bad).tolist()
    if not rows:
        return done
    emptied = pc.if_else(pa.array(~bad), done.values, pa.scalar(None, done.values.type))
    return Converted(emptied, in_order(done.faults, [Fault(r, sqlstate, reason) for r in rows]))


def in_order(*groups: Iterable[Fault]) -> tuple[Fault, ...]:
    """Faults of several checks as one tuple, by row."""
    return tuple(sorted((f for group in groups for f in group), key=lambda fault: fault.row))


_LEAF_ROWS = 16


def salvage(values: pa.Array, fast: Callable[[pa.Array], pa.Array], slow: Kernel) -> Converted:
    """Convert by `fast`; where it raises, halve until the guilty rows stand in a few, for `slow`.

    fast: raises ArrowInvalid or UnfitError where any value does not fit.
    k guilty rows of n cost O(k log n) calls of `fast`.
    """
    pieces: list[pa.Array] = []
    faults: list[Fault] = []
    pending = [(0, len(values))]
    while pending:
        start, stop = pending.pop()
        part = values.slice(start, stop - start)
        try:
            pieces.append(fast(part))
        except (pa.ArrowInvalid, UnfitError):
            if stop - start > _LEAF_ROWS:
                middle = (start + stop) // 2
                pending += [(middle, stop), (start, middle)]
                continue
            done = slow(part)
            pieces.append(done.values)
            faults += [Fault(start + f.row, f.sqlstate, f.reason) for f in done.faults]
    return Converted(pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces), tuple(faults))


def each(convert: Callable[[Any], Any], arrow_type: pa.DataType) -> Kernel:
    """A kernel that converts value by value: for the few rows that no vector call takes.

    convert: raises UnfitError for a value that does not fit.
    """

    def kernel(values: pa.Array) -> Converted:
        results: list[Any] = []
        faults: list[Fault] = []
        for row, value in enumerate(values.to_pylist()):
            try:
                results.append(None if value is None else convert(value))
            except UnfitError as unfit:
                results.append(None)
                faults.append(Fault(row, unfit.sqlstate, unfit.reason))
        return Converted(pa.array(results, arrow_type), tuple(faults))

    return kernel


def each_distinct(convert: Callable[[Any], Any], arrow_type: pa.DataType) -> Kernel:
    """As `each`, but a value that comes again is not converted again."""
    kernel = each(convert, arrow_type)
    return lambda values: through_dictionary(values.dictionary_encode(), kernel)


def through_dictionary(values: pa.DictionaryArray, kernel: Kernel) -> Converted:
    """Convert a dictionary's values, then spread them over the rows."""
    inner = kernel(values.dictionary)
    spread = inner.values.take(values.indices)
    if not inner.faults:
        return Converted(spread)
    by_entry = {fault.row: fault for fault in inner.faults}
    entries = np.where(valid_mask(values), numbers(values.indices).astype(np.int64), -1)
    rows = np.flatnonzero(np.isin(entries, list(by_entry)))
    found = ((int(row), by_entry[int(entries[row])]) for row in rows)
    return Converted(spread, tuple(Fault(row, f.sqlstate, f.reason) for row, f in found))


def patch(done: Converted, odd: Mask, values: pa.Array, kernel: Kernel) -> Converted:
    """Convert the rows of `values` that `odd` marks by `kernel` and put them into `done`."""
    rows = np.flatnonzero(odd)
    if not len(rows):
        return done
    if len(rows) == len(values):
        return kernel(values)
    part = kernel(values.filter(pa.array(odd)))
    order = np.arange(len(values))
    order[rows] = len(values) + np.arange(len(rows))
    merged = pa.concat_arrays([done.values, part.values]).take(pa.array(order))
    moved = [Fault(int(rows[f.row]), f.sqlstate, f.reason) for f in part.faults]
    return Converted(merged, in_order(done.faults, moved))


@dataclass(frozen=True, slots=True)
class Reader:
    """How text of one shape is read, whole columns at a time.

    shape: a regular expression (RE2) that nearly all the text that `fast` takes matches.
    fast: raises ArrowInvalid or UnfitError where any value does not fit.
    slow: for those values.
    """

    shape: str
    fast: Callable[[pa.Array], pa.Array]
    slow: Kernel

    def fitting(self, values: pa.Array) -> Mask:
        """Which values have the shape."""
        matched = pc.fill_null(pc.match_substring_regex(values, self.shape), False)
        mask: Mask = matched.to_numpy(zero_copy_only=False)
        return mask

    def read(self, values: pa.Array) -> Converted:
        """Convert values that have the shape."""
        return salvage(values, self.fast, self.slow)


def parsed(
    values: pa.Array, reader: Reader, tidy: Callable[[pa.Array], pa.Array] | None = None
) -> Converted:
    """Text by `reader.fast`; where that raises, tidied (by default: blanks around it cut off).

    What then has not the reader's shape goes to `reader.slow` without further attempts.
    """
    tidied = values
    for attempt in (lambda text: text, tidy or pc.ascii_trim_whitespace):
        tidied = attempt(tidied)
        try:
            # A cast that fails in every row takes Arrow 40 times as long, so a few rows first.
            reader.fast(tidied.slice(0, _LEAF_ROWS))
            return Converted(reader.fast(tidied))
        except (pa.ArrowInvalid, UnfitError):
            continue
    odd = ~reader.fitting(tidied) & valid_mask(tidied)
    even = pc.if_else(pa.array(odd), pa.scalar(None, tidied.type), tidied)
    return patch(reader.read(even), odd, tidied, reader.slow)
