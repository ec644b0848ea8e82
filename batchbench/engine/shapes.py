"""Rows on their way into chunks: where they stand, which keys they have not, and who goes together.

A row whose key is absent leaves its column out of the INSERT, so that the column's DEFAULT stays in
force (and an upsert leaves the column as it is). Rows that leave out the same columns are written
together, however they alternate in the source; what would come out the same with a NULL is sent
as one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.batch import Batch, Location, RowBatch
from batchbench.casts import Fault
from batchbench.engine.plan import ShapePlan, TablePlan
from batchbench.strategies import OnConflict
from batchbench.table import Column

Ints = NDArray[np.int64]

_NOT_ALLOWED = "22004"  # null_value_not_allowed


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one source. numbers: theirs in it, ascending. absent, refuses: see `Batch.absent`."""

    columns: pa.RecordBatch
    source: str
    numbers: Ints
    absent: pa.Array | None = None
    refuses: bool = False

    @property
    def row_count(self) -> int:
        return len(self.numbers)

    @property
    def may_leave_out(self) -> bool:
        """Whether a key that a row has not leaves its column out."""
        return self.absent is not None and not self.refuses

    @property
    def row_bytes(self) -> int:
        """Bytes of memory that a row takes, on average; at least 1."""
        return max(1, int(self.columns.nbytes) // max(1, self.row_count))

    def part(self, offset: int, row_count: int) -> Rows:
        """A slice that shares memory with these rows."""
        end = offset + row_count
        absent = None if self.absent is None else self.absent.slice(offset, row_count)
        columns = self.columns.slice(offset, row_count)
        return Rows(columns, self.source, self.numbers[offset:end], absent, self.refuses)

    def take(self, places: Ints) -> Rows:
        """The rows at these places, ascending, copied out unless that is all of them."""
        if len(places) == self.row_count:
            return self
        chosen = pa.array(places)
        absent = None if self.absent is None else self.absent.take(chosen)
        columns = self.columns.take(chosen)
        return Rows(columns, self.source, self.numbers[places], absent, self.refuses)


def merged(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans, (first row, row count), sorted, with those in one that overlap or touch."""
    disjoint: list[tuple[int, int]] = []
    for first, count in sorted(spans):
        start, length = disjoint[-1] if disjoint else (first, 0)
        if first <= start + length:
            disjoint[-1:] = [(start, max(length, first + count - start))]
        else:
            disjoint.append((first, count))
    return disjoint


def uncovered(batch: Batch, spans: Sequence[tuple[int, int]]) -> Rows:
    """The rows of a batch that no span covers. spans: as `merged` makes them."""
    first, count = batch.location.first_row, batch.row_count
    left = np.ones(count, np.bool_)
    for place in range(max(0, bisect_right(spans, (first, 0)) - 1), len(spans)):
        start, length = spans[place]
        if start >= first + count:
            break
        left[max(0, start - first) : max(0, start + length - first)] = False
    rows = Rows(
        batch.columns,
        batch.location.source,
        np.arange(first, first + count),
        batch.absent,
        batch.absent_is_error,
    )
    return rows if left.all() else rows.take(np.flatnonzero(left))


def locations_of(parts: Sequence[Rows]) -> tuple[Location, ...]:
    """Where rows stand, as runs of neighbours."""
    found = []
    for source, group in groupby(parts, lambda part: part.source):
        held = [part.numbers for part in group]
        numbers = held[0] if len(held) == 1 else np.concatenate(held)
        if numbers[-1] - numbers[0] == len(numbers) - 1:  # they ascend, so they are neighbours
            found.append(Location(source, int(numbers[0]), len(numbers)))
            continue
        breaks = (np.flatnonzero(np.diff(numbers) != 1) + 1).tolist()
        found += [
            Location(source, int(numbers[start]), end - start)
            for start, end in pairwise([0, *breaks, len(numbers)])
        ]
    return tuple(found)


def absent_of(parts: Sequence[Rows]) -> pa.Array | None:
    """`Rows.absent` of all of them; None where no row lacks a key."""
    if all(part.absent is None for part in parts):
        return None
    nothing = pa.scalar(b"", pa.binary())
    return pa.concat_arrays(
        [
            pa.repeat(nothing, part.row_count) if part.absent is None else part.absent
            for part in parts
        ]
    )


# --- which rows go together ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that leave out the same columns. Python rows that are no columns leave out none."""

    omitted: frozenset[str]
    rows: Rows | RowBatch


def grouped(rows: Rows, plan: TablePlan, shape: ShapePlan) -> Iterator[list[Group]]:
    """Rows by what they leave out, in levels.

    Where the order of a key's rows matters, those of one key are never in two groups of a level,
    and their order is that of the levels; else there is one level. shape: of all columns.
    """
    codes, sets = _codes(rows, plan)
    if len(sets) == 1:
        yield [Group(sets[0], rows)]
        return
    levels = np.zeros(rows.row_count, np.int64)
    if plan.key is not None:
        levels = key_levels(shape.hash_rows(rows.columns, plan.key), codes)
    order = np.lexsort((codes, levels))
    steps = np.diff(levels[order]) | np.diff(codes[order])
    edges = [0, *(np.flatnonzero(steps) + 1).tolist(), rows.row_count]
    parts = (order[start:end] for start, end in pairwise(edges))
    for _, places in groupby(parts, lambda part: int(levels[part[0]])):
        yield [Group(sets[int(codes[part[0]])], rows.take(part)) for part in places]


def _codes(rows: Rows, plan: TablePlan) -> tuple[Ints, list[frozenset[str]]]:
    """Which of the sets each row leaves out."""
    nothing: frozenset[str] = frozenset()
    if rows.absent is None or not rows.may_leave_out or not rows.row_count:
        return np.zeros(rows.row_count, np.int64), [nothing]
    encoded = rows.absent.dictionary_encode()
    names = rows.columns.schema.names
    found = [_omitted(plan, _names(bits, names), names) for bits in encoded.dictionary.to_pylist()]
    sets = list(dict.fromkeys(found))
    entries = np.array([sets.index(omitted) for omitted in found])
    return entries[encoded.indices.to_numpy()], sets


def _names(bits: bytes, names: Sequence[str]) -> list[str]:
    """The columns that the bits of `Batch.absent` mean."""
    mask = np.unpackbits(np.frombuffer(bits, np.uint8), bitorder="little")
    return [names[place] for place in np.flatnonzero(mask).tolist()]


def key_levels(hashes: NDArray[np.uint64] | None, codes: Ints) -> Ints:
    """How often the code has changed among the rows of a row's key so far. hashes: None where the
    keys cannot be told apart.
    """
    if hashes is None:
        return np.concatenate(([0], np.cumsum(codes[1:] != codes[:-1])))
    order = np.argsort(hashes, kind="stable")
    same = hashes[order][1:] == hashes[order][:-1]
    changed = same & (codes[order][1:] != codes[order][:-1])
    changes = np.concatenate(([0], np.cumsum(changed)))
    begins = np.concatenate(([0], np.where(same, 0, np.arange(1, len(codes)))))
    levels = np.empty(len(codes), np.int64)
    levels[order] = changes - changes[np.maximum.accumulate(begins)]
    return levels


# --- what a row must have -----------------------------------------------------------------------


def lacking(parts: Sequence[Rows], plan: TablePlan, shape: ShapePlan) -> list[tuple[int, Fault]]:
    """Rows that lack a key which they must have, with the position of its cast; see `CastRows`."""
    absent = absent_of(parts)
    if absent is None:
        return []
    encoded = absent.dictionary_encode()
    names, refuses = parts[0].columns.schema.names, parts[0].refuses
    missed = [
        _missed(plan, _names(bits, names), names, refuses=refuses)
        for bits in encoded.dictionary.to_pylist()
    ]
    if not any(missed):
        return []
    indices = encoded.indices.to_numpy()
    guilty = np.flatnonzero(np.isin(indices, [i for i, name in enumerate(missed) if name]))
    numbers = {cast.column.name: number for number, cast in enumerate(shape.casts)}
    return [
        (numbers[missed[indices[row]]], Fault(int(row), _NOT_ALLOWED, "the row has no such key"))
        for row in guilty
    ]


def present(row: dict[str, object], absent: bytes) -> dict[str, object]:
    """A row without the columns of which it has no key."""
    without = set(_names(absent, list(row)))
    return {name: value for name, value in row.items() if name not in without}


# --- what comes to the same ---------------------------------------------------------------------


def _omitted(plan: TablePlan, absent: Sequence[str], names: Sequence[str]) -> frozenset[str]:
    """The columns that a row's INSERT leaves out, of those of which it has no key: where a NULL
    would not come to the same. names: all columns of the source. Empty also where no column would
    be left; see `_missed`.
    """
    loaded = _loaded(plan, names)
    left_out = frozenset(n for n in absent if n in loaded and _leaves_out(plan, loaded[n]))
    return left_out if len(left_out) < len(loaded) else frozenset()


def _missed(
    plan: TablePlan, absent: Sequence[str], names: Sequence[str], *, refuses: bool
) -> str | None:
    """A column whose key a row must have and has not. refuses: whether it must have all."""
    loaded = _loaded(plan, names)
    lost = [loaded[name] for name in absent if name in loaded]
    if not refuses and sum(_leaves_out(plan, column) for column in lost) < len(loaded):
        lost = [column for column in lost if _decides(plan, column) and _is_filled(column)]
    return lost[0].name if lost else None


def _loaded(plan: TablePlan, names: Sequence[str]) -> dict[str, Column]:
    known, ignored = {c.name: c for c in plan.table.columns}, plan.options.ignore_columns
    return {name: known[name] for name in names if name in known and name not in ignored}


def _leaves_out(plan: TablePlan, column: Column) -> bool:
    if _decides(plan, column):
        return False
    updates = plan.options.on_conflict is OnConflict.UPDATE or (plan.once and plan.once.last)
    return not column.required if updates else _is_filled(column)


def _decides(plan: TablePlan, column: Column) -> bool:
    """Whether what becomes of a row that is there depends on the column."""
    if plan.key is None:
        return False
    return column.name in {*plan.key.columns, *plan.key.uses, plan.options.newer_by}


def _is_filled(column: Column) -> bool:
    """Whether a column that is left out may become anything but NULL."""
    of_a_domain = column.type_oid != column.type.oid  # which may have a default of its own
    return column.default is not None or bool(column.identity) or of_a_domain
