"""Plausible random rows for any table, made in whole columns."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.errors import TableError
from batchbench.table import Column, Table, UniqueKey

Ints = NDArray[np.int64]

NULL_SHARE = 0.1
_START_US = 1_735_689_600_000_000  # 2025-01-01 00:00:00 UTC
_YEAR_S = 31_536_000
_POOL = 1_000  # ids that repeat: users, devices
_MANY = 1 << 31
_WORDS = (
    *("north", "south", "river", "stone", "paper", "cloud", "amber", "violet", "delta", "harbour"),
    *("signal", "copper", "maple", "orbit", "winter", "summer", "silver", "garden", "market"),
)
_BASE36 = np.frombuffer(b"0123456789abcdefghijklmnopqrstuvwxyz", np.uint8)
_NUMBER_WIDTH = 8
_MAX_ARRAY = 4


def random_rows(table: Table, row_count: int, seed: int) -> pa.Table:
    """Rows for the columns that data usually bring, the same for the same arguments.

    A tenth of what may be null is, but for unique keys, which have no value twice. Enum labels,
    lengths and precisions are kept; CHECK constraints are not known, foreign keys not looked at.
    A column of a type that there is no maker for is left to its default.
    Raises TableError where such a column must have a value, where no column can be filled, and
    where a unique key has fewer different values than rows.
    """
    columns = _writable(table)
    numbers = _numbering(table, columns, row_count)
    in_keys = {name for key in table.keys for name in key.columns}
    arrays = {}
    for column in columns:
        rng = np.random.default_rng([seed, zlib.crc32(column.name.encode())])
        values = _values(_Wanted(column, rng, row_count, numbers.get(column.name)))
        if not column.not_null and column.name not in in_keys:
            nulls = pa.array(rng.random(row_count) < NULL_SHARE)
            values = pc.if_else(nulls, pa.scalar(None, values.type), values)
        arrays[column.name] = values
    return pa.table(arrays)


def _writable(table: Table) -> list[Column]:
    columns = []
    for column in table.inserted_by_default:
        if (column.type.element or column.type).kind in MAKERS:
            columns.append(column)
        elif column.required:
            raise TableError(
                f"column {column.name!r} is {column.declared}, of which no random values can be"
                " made; bring rows of your own with --source"
            )
    if not columns:
        raise TableError(
            f"table {table.name.table} has no column that random rows could fill; bring rows of"
            " your own with --source"
        )
    return columns


# --- unique keys ------------------------------------------------------------------------------


def _numbering(table: Table, columns: Sequence[Column], row_count: int) -> dict[str, Ints]:
    """Numbers from 0, shape (rows,), for the columns that make every unique key unique.

    Equal numbers make equal values, others different ones.
    """
    known = {column.name: column for column in columns}
    every_row = np.arange(row_count)
    numbers: dict[str, Ints] = {}
    for key in table.keys:
        if key.expressions:  # lower(email), say: its columns are not known, so number all
            able = [c.name for c in columns if _capacity(c) >= row_count]
            numbers |= dict.fromkeys(able, every_row)
            continue
        if any(table.column(name).server_filled for name in key.columns):
            continue
        parts = [known[name] for name in key.columns if name in known]
        if not parts or any(numbers.get(part.name) is every_row for part in parts):
            continue
        free = [part for part in parts if part.name not in numbers]
        numbers |= _distinct(table, key, free, every_row)
    return numbers


def _distinct(
    table: Table, key: UniqueKey, parts: Sequence[Column], every_row: Ints
) -> dict[str, Ints]:
    """One column with values enough is best; else several count like the digits of a number."""
    able = [part for part in parts if _capacity(part) >= len(every_row)]
    if able:
        return {min(able, key=_rank).name: every_row}
    numbers: dict[str, Ints] = {}
    rest = every_row
    for part in sorted(parts, key=_capacity, reverse=True):
        numbers[part.name] = rest % max(_capacity(part), 1)
        rest = rest // max(_capacity(part), 1)
    if rest.any():
        raise TableError(
            f"table {table.name.table}: unique key {key.name} has fewer than {len(every_row):,}"
            " different values; sweep with fewer --rows, or bring rows with --source"
        )
    return numbers


def _rank(column: Column) -> int:
    """Times of their own look most like real keys: a user has many readings."""
    order = ("timestamptz", "timestamp", "uuid", "int8", "int4")
    return order.index(column.type.kind) if column.type.kind in order else len(order)


_CAPACITIES: Mapping[str, int] = {
    "bool": 2,
    "int2": 32_000,
    "date": 30_000,
    "time": 86_400,
    "float4": 1 << 24,
    "inet": 1 << 24,
    "cidr": 1 << 24,
    "macaddr": 1 << 24,
    "json": 0,  # json and xml have no equality
    "xml": 0,
}


def _capacity(column: Column) -> int:
    """How many different values a column can be given."""
    leaf = column.type.element or column.type
    if leaf.kind == "enum":
        return len(leaf.labels)
    if leaf.kind == "numeric":
        return int(10 ** _numeric_shape(column)[0])
    if leaf.kind in ("text", "varchar", "bpchar", "name"):
        return int(36 ** min(_length(column), _NUMBER_WIDTH))
    return _CAPACITIES.get(leaf.kind, _MANY)


# --- values -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What one column needs. numbers: shape (count,), where values must follow them."""

    column: Column
    rng: np.random.Generator
    count: int
    numbers: Ints | None

    def integers(self, high: int) -> Ints:
        """The numbers, else random ones under `high`."""
        return self.rng.integers(0, high, self.count) if self.numbers is None else self.numbers


def _values(wanted: _Wanted) -> pa.Array:
    column = wanted.column
    if column.type.element is None:
        return MAKERS[column.type.kind](wanted)
    one = wanted.numbers is not None
    lengths = wanted.rng.integers(0, _MAX_ARRAY + 1, wanted.count)
    lengths = np.ones_like(lengths) if one else lengths
    offsets = np.concatenate(([0], lengths.cumsum())).astype(np.int32)
    items = replace(column, type=column.type.element)
    flat = _values(replace(wanted, column=items, count=int(offsets[-1])))
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def _integer(kind: pa.DataType, high: int) -> Callable[[_Wanted], pa.Array]:
    return lambda wanted: pa.array(wanted.integers(high)).cast(kind)


def _float(kind: pa.DataType) -> Callable[[_Wanted], pa.Array]:
    def make(wanted: _Wanted) -> pa.Array:
        if wanted.numbers is not None:
            return pa.array(wanted.numbers.astype(np.float64)).cast(kind)
        return pa.array(np.round(wanted.rng.gamma(2.0, 50.0, wanted.count), 2)).cast(kind)

    return make


def _bool(wanted: _Wanted) -> pa.Array:
    return pa.array(wanted.integers(2) == 1)


def _numeric_shape(column: Column) -> tuple[int, int]:
    """Digits used, at most 9, and the scale. Source: numeric_typmod_scale in numeric.c."""
    if column.typmod < 4:
        return 9, 2
    precision, scale = (column.typmod - 4) >> 16 & 0xFFFF, (column.typmod - 4) & 0x7FF
    return min(precision, 9), (scale ^ 1024) - 1024


def _numeric(wanted: _Wanted) -> pa.Array:
    digits, scale = _numeric_shape(wanted.column)
    text = pa.array(wanted.integers(10**digits)).cast(pa.string())
    exact = _joined(text, f"e{-scale}")
    return exact if not 0 <= scale <= 30 else exact.cast(pa.decimal128(38, scale))


def _length(column: Column) -> int:
    """Most characters."""
    if column.type.kind == "name":
        return 63
    return column.typmod - 4 if column.typmod > 4 else 1 << 30


def _text(wanted: _Wanted) -> pa.Array:
    length = _length(wanted.column)
    if wanted.numbers is not None:
        return _base36(wanted.numbers, min(length, _NUMBER_WIDTH))
    words = _joined(_words(wanted), " ", _words(wanted))
    return pc.utf8_slice_codeunits(words, 0, length) if length < 20 else words


def _words(wanted: _Wanted) -> pa.Array:
    picked = wanted.rng.integers(0, len(_WORDS), wanted.count, np.int8)
    return pa.array(_WORDS).take(pa.array(picked))


def _base36(numbers: Ints, width: int) -> pa.Array:
    """Numbers as text of one width, in lower case, so that lower() keeps them apart."""
    places = numbers[:, None] // 36 ** np.arange(width - 1, -1, -1) % 36
    letters = np.ascontiguousarray(_BASE36[places])
    buffer = pa.py_buffer(letters)
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(numbers), [None, buffer])
    return fixed.cast(pa.binary()).cast(pa.string())


def _joined(*parts: pa.Array | str) -> pa.Array:
    return pc.binary_join_element_wise(*parts, "")


def _json(wanted: _Wanted) -> pa.Array:
    number = pa.array(wanted.integers(_MANY)).cast(pa.string())
    return _joined('{"id": ', number, ', "name": "', _words(wanted), '"}')


def _xml(wanted: _Wanted) -> pa.Array:
    return _joined("<name>", _words(wanted), "</name>")


def _enum(wanted: _Wanted) -> pa.Array:
    labels = wanted.column.type.labels
    return pa.array(labels, pa.string()).take(pa.array(wanted.integers(len(labels))))


def _id_bytes(wanted: _Wanted) -> NDArray[np.uint8]:
    """16 bytes a row, shape (count, 16): of a pool of ids, or with the number at the end."""
    if wanted.numbers is None:
        pool = np.frombuffer(wanted.rng.bytes(_POOL * 16), np.uint8).reshape(_POOL, 16)
        raw: NDArray[np.uint8] = pool[wanted.integers(_POOL)]
        return raw
    raw = np.frombuffer(wanted.rng.bytes(wanted.count * 16), np.uint8).reshape(-1, 16).copy()
    raw[:, 8:] = wanted.numbers.astype(">u8")[:, None].view(np.uint8)
    return raw


def _uuid(wanted: _Wanted) -> pa.Array:
    raw = _id_bytes(wanted).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40  # version 4
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    buffer = pa.py_buffer(np.ascontiguousarray(raw))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), wanted.count, [None, buffer])


def _bytea(wanted: _Wanted) -> pa.Array:
    buffer = pa.py_buffer(np.ascontiguousarray(_id_bytes(wanted)))
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), wanted.count, [None, buffer])
    return fixed.cast(pa.binary())


def _stamp(zone: str | None) -> Callable[[_Wanted], pa.Array]:
    def make(wanted: _Wanted) -> pa.Array:
        at = _START_US + wanted.integers(_YEAR_S) * 1_000_000
        return pa.array(at).cast(pa.timestamp("us", zone))

    return make


def _date(wanted: _Wanted) -> pa.Array:
    return pa.array((10_957 + wanted.integers(10_000)).astype(np.int32)).cast(pa.date32())


def _time(wanted: _Wanted) -> pa.Array:
    return pa.array(wanted.integers(86_400) * 1_000_000).cast(pa.time64("us"))


def _interval(wanted: _Wanted) -> pa.Array:
    return pa.array(wanted.integers(86_400) * 1_000_000).cast(pa.duration("us"))


def _bytes_of_number(wanted: _Wanted, written: str, between: str) -> list[Any]:
    """Three bytes of a number as texts, with what stands between them."""
    numbers = wanted.integers(1 << 24)
    parts: list[Any] = []
    for shift in (16, 8, 0):
        texts = pa.array([format(value, written) for value in range(256)])
        parts += [between, texts.take(pa.array(numbers >> shift & 255))]
    return parts


def _inet(wanted: _Wanted) -> pa.Array:
    return _joined("10", *_bytes_of_number(wanted, "d", "."))


def _macaddr(wanted: _Wanted) -> pa.Array:
    return _joined("08:00:2b", *_bytes_of_number(wanted, "02x", ":"))


MAKERS: Mapping[str, Callable[[_Wanted], pa.Array]] = {
    "bool": _bool,
    "int2": _integer(pa.int16(), 1_000),
    "int4": _integer(pa.int32(), 10_000),
    "int8": _integer(pa.int64(), 1_000_000_000),
    "oid": _integer(pa.uint32(), 1_000_000),
    "float4": _float(pa.float32()),
    "float8": _float(pa.float64()),
    "numeric": _numeric,
    **dict.fromkeys(("text", "varchar", "bpchar", "name"), _text),
    **dict.fromkeys(("json", "jsonb"), _json),
    "xml": _xml,
    "enum": _enum,
    "bytea": _bytea,
    "uuid": _uuid,
    "date": _date,
    "time": _time,
    "timestamp": _stamp(None),
    "timestamptz": _stamp("UTC"),
    "interval": _interval,
    **dict.fromkeys(("inet", "cidr"), _inet),
    "macaddr": _macaddr,
}
"""By kind of type: every one of `table.ENCODED`; arrays are made of these."""
