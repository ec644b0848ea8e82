"""Probe: ask which keys the table has, and COPY the other rows straight into it.

Looking keys up costs the server less than writing rows only to find that they are there; what is
new then goes the shortest way. The index still decides: where another's rows came in between, or
a key comes twice in a chunk, the COPY fails with 23505 and the chunk goes through the temporary
table, where ON CONFLICT names its target.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from batchbench.drivers import Session, Statement
from batchbench.errors import TableError, WriteError
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.strategies import ChunkPlan, Columns, OnConflict, Payload, Target, Written
from batchbench.strategies.copy import CopyPlan, CopyStrategy, StagedCopyPlan
from batchbench.strategies.neighbours import by_key, key_numbers
from batchbench.strategies.sql import column_list, same_key
from batchbench.table import Column, UniqueKey, literal
from batchbench.wire import CopyStream, array_parameter

UNIQUE_VIOLATION = "23505"

_SAVEPOINT = "batchbench_direct"
_LARGE = 4  # times a chunk: measured, keys in an index of uuid and timestamptz
_ROW_BYTES = 28  # of a row in the table, besides its values

Places = NDArray[np.int64]


class ProbeStrategy:
    """SELECT the keys that are there; COPY t (...) FROM STDIN the other rows."""

    name = "probe"

    def use(self, column_count: int) -> ParameterUse:
        return COPY_USE

    def plan(self, target: Target) -> ChunkPlan:
        if target.key is None:
            return CopyStrategy().plan(target)
        if (reason := unanswerable(target, target.key)) is not None:
            raise TableError(
                f"table {target.table.name}: {reason}, so strategy probe cannot serve"
                f" on_conflict={target.on_conflict}; use optimistic or copy"
            )
        return ProbePlan(CopyPlan(target), StagedCopyPlan(target))


def unanswerable(target: Target, key: UniqueKey) -> str | None:
    """Why asking which keys are there would not do; None where it does."""
    if target.on_conflict is not OnConflict.NOTHING:
        return "the rows that are there are to be written too"
    if target.by_input:
        return f"{target.by_input[0].declared} goes as text, which COPY's binary has not"
    if target.table.before_triggers:
        return f"the trigger {target.table.before_triggers[0]!r} may change a row's key"
    if not key.plain:
        return f"{key.name} is partial or over an expression"
    if key.nulls_equal:
        return f"NULLs clash in {key.name}, and an index is no help in looking them up"
    if any(not column.type.array_oid for column in _key_columns(target, key)):
        return f"a column of {key.name} has no array type"
    return None


@dataclass(frozen=True, slots=True)
class DirectOrStaged:
    """What plans share that COPY straight into the table, and where the index refuses that go
    through the temporary table.
    """

    direct: CopyPlan
    staged: StagedCopyPlan

    @property
    def use(self) -> ParameterUse:
        return COPY_USE

    @property
    def guard(self) -> str:
        return self.direct.guard

    async def prepare(self, session: Session) -> None:
        await self.staged.prepare(session)

    async def write_staged(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        """Let ON CONFLICT settle a chunk, whose rows go in input order then."""
        stream, columns = payload.stream, payload.columns
        if stream is not None and columns is not None and columns.order is not None:
            payload = Payload(payload.row_count, stream=unsent(replace(columns, order=None)))
        written = await self.staged.write(session, payload, full=full, alone=alone)
        if stream is not None and payload.stream is not None:
            stream.byte_count = payload.stream.byte_count
        return written


@dataclass(slots=True)
class Extent:
    """How large the table was when it was last asked, in bytes; None: not known."""

    byte_count: int | None = None

    def dwarfs(self, columns: Columns) -> bool:
        """Whether looking a chunk's keys up one by one costs less than reading the whole table."""
        if self.byte_count is None:
            return True  # or it costs a little more, once
        chunk_bytes = columns.byte_count + _ROW_BYTES * columns.row_count
        return self.byte_count > _LARGE * chunk_bytes


@dataclass(frozen=True, slots=True)
class ProbePlan(DirectOrStaged):
    """See `batchbench.strategies.ChunkPlan`. For OnConflict.NOTHING. What is stored does not depend
    on `extent`.

    parameters of a payload: the keys, one array a column; empty until they are needed.
    """

    extent: Extent = field(default_factory=Extent, compare=False)

    def encode(self, columns: Columns) -> Payload:
        columns = by_key(self.direct.target, columns)
        return Payload(columns.row_count, self._keys(columns), unsent(columns), columns)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        written = await self.write_rest(session, payload, full=full, alone=alone)
        if written is None:  # only ON CONFLICT can settle it
            return await self.write_staged(session, payload, full=full, alone=alone)
        return written

    async def write_rest(
        self,
        session: Session,
        payload: Payload,
        *,
        full: bool,
        alone: bool,
        refused: bool = False,
    ) -> Written | None:
        """Write the rows whose key is not there; None, and nothing written, where the index still
        refuses one. refused: whether it has refused the whole chunk before.
        """
        columns, stream = payload.columns, payload.stream
        if columns is None or stream is None:
            raise AssertionError("a payload to probe with keeps its columns")
        keys = payload.parameters or await asyncio.to_thread(self._keys, columns)
        one_by_one = self.extent.dwarfs(columns)
        places = self._there(columns, await session.ask(self._statement(one_by_one), keys))
        names = tuple(places.tolist()) if self.direct.target.names_rows else ()
        if refused and not len(places):  # a key comes twice in the chunk
            return None
        if len(places) == columns.row_count:
            stream.byte_count = 0
            return Written(0, len(places), names)
        rest = await asyncio.to_thread(columns.without, places) if len(places) else columns
        coming = Payload(rest.row_count, stream=stream if rest is columns else unsent(rest))
        written = await copy_or_none(self.direct, session, coming, full=full, alone=alone)
        if written is None:
            return None
        stream.byte_count = coming.byte_count
        return Written(written.row_count, len(places), names)

    def _there(self, columns: Columns, answer: str | None) -> Places:
        """Places of the rows whose key the table has."""
        byte_count, _, listed = (answer or "").partition("{")
        if not self.direct.target.table.partitioned:  # which has no bytes of its own
            self.extent.byte_count = int(byte_count or 0)
        sent = np.fromstring(listed.removesuffix("}"), np.int64, sep=",") - 1
        return np.sort(sent if columns.order is None else columns.order[sent])

    def _keys(self, columns: Columns) -> list[bytes]:
        keys = columns.only(key_numbers(self.direct.target)).fields()
        return [
            array_parameter(key, column.type)
            for key, column in zip(keys, self._key_columns, strict=True)
        ]

    @property
    def _key_columns(self) -> list[Column]:
        key = self.direct.target.key
        return [] if key is None else _key_columns(self.direct.target, key)

    def _statement(self, one_by_one: bool) -> Statement:
        """Text: the table's bytes, then in braces the numbers, from 1, of the keys that it has.

        one_by_one: by the key's index, whatever the planner makes of the table: of one that was
        not analysed yet it would read all for every chunk. It is planned each time: a plan of
        an earlier size could do so for ever.
        """
        target = self.direct.target
        key = target.key
        if key is None:
            raise AssertionError("only rows with a key can be looked up")
        arrays = ", ".join(f"${i + 1}::{c.type.sql}[]" for i, c in enumerate(self._key_columns))
        names = column_list(c.name for c in self._key_columns)
        found = f"FROM {target.table.sql} t WHERE {same_key(target, key, 't', 'u')}"
        is_there = f"(SELECT true {found} LIMIT 1)" if one_by_one else f"EXISTS (SELECT {found})"
        return Statement(
            f"SELECT pg_catalog.concat(pg_catalog.pg_relation_size({literal(target.table.sql)}),"
            " pg_catalog.array_agg(batchbench_place))"
            f" FROM unnest({arrays}) WITH ORDINALITY AS u ({names}, batchbench_place)"
            f" WHERE {is_there}",
            tuple(c.type.array_oid for c in self._key_columns),
            reused=False,
        )


def unsent(columns: Columns) -> CopyStream:
    """A chunk as a COPY stream of which nothing is encoded yet."""
    return CopyStream(columns.copy_rows, columns.row_count, columns.byte_count, begun=False)


async def copy_or_none(
    plan: CopyPlan, session: Session, payload: Payload, *, full: bool, alone: bool
) -> Written | None:
    """COPY straight into the table; None, and nothing written, where a unique key is there already.

    Raises WriteError for any other failure.
    """
    await session.run(f"SAVEPOINT {_SAVEPOINT}")
    try:
        written = await plan.write(session, payload, full=full, alone=alone)
    except WriteError as error:
        if error.sqlstate != UNIQUE_VIOLATION:
            raise
        await session.run(f"ROLLBACK TO {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
        return None
    await session.run(f"RELEASE SAVEPOINT {_SAVEPOINT}")
    return written


def _key_columns(target: Target, key: UniqueKey) -> list[Column]:
    by_name = {column.name: column for column in target.columns}
    return [by_name[name] for name in key.columns]
