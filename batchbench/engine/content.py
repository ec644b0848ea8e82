"""The rows of a chunk as they are until they are encoded: columns, or Python rows as they came."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.batch import Location, PythonRow
from batchbench.engine.keys import Hashes
from batchbench.engine.plan import ShapePlan
from batchbench.strategies import Payload

_OBJECT_BYTES = 56  # of a Python value, with the pointer to it


class Content(Protocol):
    """The rows of a chunk, in the form they have until they are encoded. Blocking."""

    @property
    def read_count(self) -> int:
        """Rows as read."""

    @property
    def row_count(self) -> int:
        """Rows that can be sent."""

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that they take."""

    def position(self, sendable: int) -> int:
        """The position, as read, of the n-th row that can be sent."""

    def only(self, sendable: int) -> Content:
        """One row that can be sent, copied out, so that the others can be freed."""

    def as_read(self, position: int, location: Location) -> pa.RecordBatch:
        """One row as it was read, by source column."""

    def hash_keys(self, shape: ShapePlan) -> Hashes | None:
        """A hash of the key of each row that can be sent; None where there is none to go by."""

    def encode(self, shape: ShapePlan, offset: int, row_count: int) -> Payload:
        """Encode some of the rows that can be sent."""


@dataclass(frozen=True, slots=True, eq=False)
class ColumnContent:
    """Rows that are columns.

    rows: as read. values: their columns in canonical form, one array a target column.
    kept: the rows that can be sent, as positions in `rows`; None means all.
    """

    rows: pa.RecordBatch
    values: tuple[pa.Array, ...]
    kept: NDArray[np.int64] | None = None

    @property
    def read_count(self) -> int:
        return len(self.rows)

    @property
    def row_count(self) -> int:
        return len(self.rows) if self.kept is None else len(self.kept)

    @property
    def held_bytes(self) -> int:
        return int(self.rows.nbytes) + sum(int(values.nbytes) for values in self.values)

    def position(self, sendable: int) -> int:
        return sendable if self.kept is None else int(self.kept[sendable])

    def only(self, sendable: int) -> ColumnContent:
        position = self.position(sendable)
        return ColumnContent(
            self.rows.take(pa.array([position])),
            tuple(values.take(pa.array([sendable])) for values in self.values),
        )

    def as_read(self, position: int, location: Location) -> pa.RecordBatch:
        return self.rows.slice(position, 1)

    def hash_keys(self, shape: ShapePlan) -> Hashes | None:
        return shape.hash_keys(self.values)

    def encode(self, shape: ShapePlan, offset: int, row_count: int) -> Payload:
        return shape.encode([values.slice(offset, row_count) for values in self.values])


@dataclass(frozen=True, slots=True, eq=False)
class RowContent:
    """Python rows that go to the wire as they are; see `batchbench.wire.rows`.

    parts: the rows as they were read together, at least one: they seldom are needed as one list.
    to_columns, value_bytes, looked_at: as of a `RowBatch`.
    """

    parts: Sequence[Sequence[PythonRow]]
    to_columns: Callable[[Sequence[PythonRow], Location], pa.RecordBatch]
    value_bytes: int
    looked_at: bool

    @property
    def rows(self) -> Sequence[PythonRow]:
        """All of them."""
        return self.parts[0] if len(self.parts) == 1 else list(chain.from_iterable(self.parts))

    @property
    def read_count(self) -> int:
        return self.row_count

    @property
    def row_count(self) -> int:
        return sum(map(len, self.parts))

    @property
    def held_bytes(self) -> int:
        """About: each value is an object."""
        return self.row_count * _OBJECT_BYTES * (1 + len(self.parts[0][0])) + self.value_bytes

    def position(self, sendable: int) -> int:
        return sendable

    def only(self, sendable: int) -> RowContent:
        return RowContent(
            [[self.rows[sendable]]], self.to_columns, 0, looked_at=True
        )  # it was sent

    def as_read(self, position: int, location: Location) -> pa.RecordBatch:
        return self.to_columns([self.rows[position]], location)

    def hash_keys(self, shape: ShapePlan) -> Hashes | None:
        """None: rows that may clash become columns."""
        return None

    def encode(self, shape: ShapePlan, offset: int, row_count: int) -> Payload:
        rows = self.rows[offset : offset + row_count]
        return shape.encode_rows([rows], row_count, looked_at=self.looked_at)
