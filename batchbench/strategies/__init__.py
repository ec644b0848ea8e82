"""Strategies: how one chunk of rows becomes statements.

A strategy compiles a `Target` once into a `ChunkPlan`; the plan encodes chunks (in a thread) and
writes them (on a session). Third-party strategies register through the entry-point group
"batchbench.strategies"; the entry point's name is the strategy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as default
from enum import StrEnum
from importlib.metadata import entry_points
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from batchbench.drivers import Session
from batchbench.errors import ConfigError
from batchbench.limits import ParameterUse
from batchbench.table import Column, PgType, Table, UniqueKey
from batchbench.wire import CopyStream, Field, copy_rows, field
from batchbench.wire.rows import RowEncoder, RowParts, RowStream

# A parameter is a bytes object in a list: its header and the list's slot.
_OBJECT_BYTES = 48


class OnConflict(StrEnum):
    """What to do with a row whose unique key is in the table already."""

    ERROR = "error"
    NOTHING = "nothing"
    UPDATE = "update"


@dataclass(frozen=True, slots=True)
class Upsert:
    """Under OnConflict.UPDATE: what of a row that is there is replaced, and when.

    columns: that are set; () means: all that the rows bring, but the key's.
    newer_by: only by a row whose value in this column is greater. NULL is older than any value;
        among equals the row that is there stays, within a chunk the first.
    skip_unchanged: only where a column that is set would change, as the server stores it.
    """

    columns: tuple[str, ...] = ()
    newer_by: str | None = None
    skip_unchanged: bool = False

    @property
    def conditional(self) -> bool:
        """Whether a row that is there may stay as it is."""
        return self.newer_by is not None or self.skip_unchanged


@dataclass(frozen=True, slots=True)
class Returning:
    """Columns of the rows that were written, to be answered with. key: of columns without NULL;
    it tells which row of the chunk an answer is of.
    """

    columns: tuple[str, ...]
    key: UniqueKey


@dataclass(frozen=True, slots=True)
class Target:
    """Where and how rows are written.

    columns: those that the rows bring, in the rows' order.
    key: the unique key that ON CONFLICT names; None under OnConflict.ERROR.
    names_rows: whether the rows that are left out for their key must be named, not only counted.
    upsert: means something under OnConflict.UPDATE only.
    returning: of values and unnest only; None: nothing is answered.
    """

    table: Table
    columns: tuple[Column, ...]
    on_conflict: OnConflict = OnConflict.ERROR
    key: UniqueKey | None = None
    names_rows: bool = False
    upsert: Upsert = Upsert()
    returning: Returning | None = None

    @property
    def tells_rows(self) -> bool:
        """Whether what became of each row has to be told, not only of how many."""
        return self.returning is not None or (self.names_rows and self.key is not None)

    @property
    def by_input(self) -> tuple[Column, ...]:
        """The columns that go as text, of which COPY's binary format has none."""
        return tuple(column for column in self.columns if column.type.by_input)


@dataclass(frozen=True, slots=True)
class Columns:
    """A chunk's columns in canonical form (see `batchbench.casts`), to be encoded.

    values: of equal length, one array a column of the target; types: theirs on the wire.
    order: the places of the rows that go, in the order in which they go; None: all, as they stand.
    """

    values: Sequence[pa.Array]
    types: Sequence[PgType]
    order: NDArray[np.int64] | None = None

    @property
    def row_count(self) -> int:
        """Rows that go."""
        return len(self.values[0]) if self.order is None else len(self.order)

    @property
    def byte_count(self) -> int:
        """Bytes that the values of the rows that go take here, about what they take on the wire."""
        there = sum(int(values.nbytes) for values in self.values)
        return there * self.row_count // max(1, len(self.values[0]))

    def only(self, numbers: Sequence[int]) -> Columns:
        """Some of the columns."""
        values = [self.values[number] for number in numbers]
        return replace(self, values=values, types=[self.types[number] for number in numbers])

    def without(self, places: NDArray[np.int64]) -> Columns:
        """The rows that do not stand at these places."""
        goes = np.ones(len(self.values[0]), bool)
        goes[places] = False
        order = np.flatnonzero(goes) if self.order is None else self.order[goes[self.order]]
        return replace(self, order=order)

    def fields(self) -> list[Field]:
        """Each column as the wire has it."""
        going = self._going(0, self.row_count)
        return [field(values, kind) for values, kind in zip(going, self.types, strict=True)]

    def copy_rows(self, offset: int, row_count: int) -> bytes | memoryview:
        """Some of the rows that go, as a COPY stream has them."""
        return copy_rows(self._going(offset, row_count), self.types)

    def _going(self, offset: int, row_count: int) -> list[pa.Array]:
        if self.order is None:
            return [values.slice(offset, row_count) for values in self.values]
        places = pa.array(self.order[offset : offset + row_count])
        return [values.take(places) for values in self.values]


@dataclass(frozen=True, slots=True)
class Payload:
    """An encoded chunk: parameters of a statement, a COPY stream, or both.

    columns: what it was encoded from, where the plan may have to write a part of it.
    """

    row_count: int
    parameters: Sequence[bytes | None] = ()
    stream: CopyStream | RowStream | None = None
    columns: Columns | None = None
    _parameter_bytes: int = default(init=False)

    def __post_init__(self) -> None:
        # Once: VALUES has tens of thousands of parameters, and what they take is asked for often.
        count = sum(map(len, filter(None, self.parameters)))
        object.__setattr__(self, "_parameter_bytes", count)

    @property
    def byte_count(self) -> int:
        """Bytes of it on the wire; of a stream, what was sent of it the last time."""
        return self._parameter_bytes + (0 if self.stream is None else self.stream.byte_count)

    @property
    def sent_rows(self) -> int:
        """Rows that went when it was sent the last time; see `RowStream`."""
        return self.stream.sent_rows if isinstance(self.stream, RowStream) else self.row_count

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it takes at most."""
        held = 0 if self.stream is None else self.stream.held_bytes
        if self.columns is not None and self.columns.order is not None:
            held += self.columns.order.nbytes
        return held + self._parameter_bytes + _OBJECT_BYTES * len(self.parameters)


@dataclass(frozen=True, slots=True)
class Written:
    """What the server made of a chunk. row_count: rows written, by the command tag. duplicates:
    rows left out for their key, or because the row that is there is newer or equal; places: theirs
    in the chunk, where the target asks for them. The chunk's other rows it dropped without an
    error, as a BEFORE trigger may. returned: by place, what the target asks of rows written.
    """

    row_count: int
    duplicates: int = 0
    places: tuple[int, ...] = ()
    returned: Mapping[int, tuple[object, ...]] = default(default_factory=dict)


class ChunkPlan(Protocol):
    """A compiled target, shared by all writers: what is stored depends on no state of it."""

    @property
    def use(self) -> ParameterUse:
        """Parameters that a statement spends."""

    @property
    def guard(self) -> str:
        """A statement to run before the COMMIT, which fails with 42704 where the table is no
        longer what the plan was compiled for; "" where its own statements would fail.
        """

    async def prepare(self, session: Session) -> None:
        """Called once a session, outside a transaction, before the first chunk."""

    def encode(self, columns: Columns) -> Payload:
        """Encode a chunk, one column a column of the target. Pure; runs in a thread."""

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        """Write a chunk inside the open transaction.

        full: whether more chunks of this row count are likely (worth preparing).
        alone: whether nothing else is written in this transaction.
        Raises WriteError.
        """


@runtime_checkable
class RowPlan(Protocol):
    """A ChunkPlan that takes Python rows too. Optional.

    streams_rows: whether it sends them as a COPY stream, which can look at them on their way.
    """

    streams_rows: ClassVar[bool]

    def encode_rows(self, encoder: RowEncoder, parts: RowParts, row_count: int) -> Payload:
        """Encode a chunk, as `encode` does. parts: its rows. encoder: one that looks only where the
        plan streams rows.

        Raises WriteError where a value has no form on the wire.
        """


class Strategy(Protocol):
    """A way to write chunks."""

    @property
    def name(self) -> str:
        """As in --strategy."""

    def use(self, column_count: int) -> ParameterUse:
        """Parameters that a statement of so many columns spends."""

    def plan(self, target: Target) -> ChunkPlan:
        """Compile a target. Raises TableError where the strategy cannot serve it."""


BUILT_IN = ("values", "unnest", "copy", "optimistic", "probe")

THROUGH_COPY = ("copy", "optimistic", "probe")
"""Those whose rows go through COPY, which dedup over a whole load can take the place of."""

_GROUP = "batchbench.strategies"


def strategy_names() -> tuple[str, ...]:
    """All strategies that can be named, built in first."""
    return BUILT_IN + tuple(sorted(point.name for point in entry_points(group=_GROUP)))


def find_strategy(name: str) -> Strategy:
    """The strategy of that name. Raises ConfigError where there is none."""
    from batchbench.strategies.copy import CopyStrategy
    from batchbench.strategies.optimistic import OptimisticStrategy
    from batchbench.strategies.probe import ProbeStrategy
    from batchbench.strategies.unnest import UnnestStrategy
    from batchbench.strategies.values import ValuesStrategy

    known = (
        ValuesStrategy(),
        UnnestStrategy(),
        CopyStrategy(),
        OptimisticStrategy(),
        ProbeStrategy(),
    )
    built_in: dict[str, Strategy] = {strategy.name: strategy for strategy in known}
    if name in built_in:
        return built_in[name]
    for point in entry_points(group=_GROUP, name=name):
        loaded: Strategy = point.load()()
        return loaded
    raise ConfigError(f"strategy {name!r} is unknown; known: {', '.join(strategy_names())}")


def in_key_order(strategy: str) -> bool:
    """Whether a strategy's statements write in the order of the key, so that two of them wait for
    each other and never deadlock. A COPY into the table writes in about that order.
    """
    return strategy in ("values", "unnest", "copy")


def choose_strategy(
    table: Table, on_conflict: OnConflict, upsert: Upsert, key: UniqueKey | None
) -> tuple[str, str]:
    """What `auto` takes for a table, and why. key: that rows may clash on, None under ERROR.

    COPY was the fastest way on both drivers; where rows may clash, trying it first was faster than
    a temporary table as long as most chunks do not (design.md, "Facts"). But where a sequence
    fills a column, each row that was tried has taken a number for good: then only new rows are
    sent, or, where others are to be updated, each row is sent once.
    """
    from batchbench.strategies.probe import unanswerable

    if table.row_security:
        return "unnest", f"{table.name} has row security, which COPY refuses"
    if key is None:
        return "copy", "COPY binds no parameters and costs the server least"
    numbered = [c.name for c in table.columns if c.numbered and c.name not in key.columns]
    if numbered:
        spares = f"a row that is tried takes a number of {numbered[0]}"
        if unanswerable(Target(table, table.columns, on_conflict, key), key) is None:
            return "probe", f"{spares}: only rows that are new are"
        return "copy", f"{spares}: each is once, through a temporary table"
    if upsert.conditional:
        return "copy", "rows that are there already are expected: through a temporary table"
    return "optimistic", "COPY first; where rows are there already, without them"
