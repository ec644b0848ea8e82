"""COPY: no parameters; through a temporary table where rows may clash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from batchbench.drivers import Session, Statement
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.strategies import Columns, Payload, Target, Written
from batchbench.strategies.naming import naming_sql, written_by_name
from batchbench.strategies.sql import (
    absent_key,
    column_list,
    insert_into,
    on_conflict,
    read_rows,
    same_key,
    select_rows,
    table_guard,
)
from batchbench.table import TableName, quote
from batchbench.wire import CopyStream
from batchbench.wire.rows import RowEncoder, RowParts, RowStream


class CopyStrategy:
    """COPY t (...) FROM STDIN (FORMAT binary)

    With ON CONFLICT: COPY into a temporary table, then one INSERT ... SELECT ... ON CONFLICT. The
    same where a column goes as text: COPY reads a stream all binary or all text, and a text form
    of our own for every other type would be one more thing that could differ from its binary one.
    """

    name = "copy"

    def use(self, column_count: int) -> ParameterUse:
        return COPY_USE

    def plan(self, target: Target) -> CopyPlan | StagedCopyPlan:
        straight = target.key is None and not target.by_input
        return CopyPlan(target) if straight else StagedCopyPlan(target)


def copy_payload(columns: Columns) -> Payload:
    """A chunk as a COPY stream."""
    stream = CopyStream(columns.copy_rows, columns.row_count, columns.byte_count)
    return Payload(columns.row_count, stream=stream)


async def copy_into(table: TableName, target: Target, session: Session, payload: Payload) -> int:
    """COPY a chunk of the target's columns into a table; return the rows of the command tag."""
    if payload.stream is None:
        raise AssertionError("a payload for COPY was encoded as a stream")
    return await session.copy(table, [column.name for column in target.columns], payload.stream)


@dataclass(frozen=True, slots=True)
class CopyPlan:
    """See `batchbench.strategies.ChunkPlan`. Straight into the table."""

    target: Target
    streams_rows: ClassVar[bool] = True

    @property
    def use(self) -> ParameterUse:
        return COPY_USE

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        """Nothing to prepare."""

    def encode(self, columns: Columns) -> Payload:
        return copy_payload(columns)

    def encode_rows(self, encoder: RowEncoder, parts: RowParts, row_count: int) -> Payload:
        """See `batchbench.strategies.RowPlan`."""
        return Payload(row_count, stream=RowStream(encoder, parts))

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        return Written(await copy_into(self.target.table.name, self.target, session, payload))


@dataclass(frozen=True, slots=True)
class StagedCopyPlan:
    """See `batchbench.strategies.ChunkPlan`. One temporary table a session and target; where the
    session keeps no state, one a transaction.
    """

    target: Target

    @property
    def use(self) -> ParameterUse:
        return COPY_USE

    @property
    def stage(self) -> TableName:
        """The temporary table; its name tells targets of one session apart."""
        types = [(column.type_oid, column.declared_typmod) for column in self.target.columns]
        key = f"{self.target.table.sql} {self._names} {types}"
        return TableName(f"batchbench_{hashlib.sha256(key.encode()).hexdigest()[:16]}", "pg_temp")

    @property
    def rows(self) -> str:
        """The temporary table's rows as a FROM item without an alias; ctid is in them."""
        if not self.target.by_input:
            return self.stage.sql
        names = [quote(column.name) for column in self.target.columns]
        return read_rows(self.target, self.stage.sql, names, "ctid")

    @property
    def _names(self) -> str:
        return column_list(column.name for column in self.target.columns)

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        if session.keeps_state:
            await self._create(session, "DELETE ROWS")

    async def _create(self, session: Session, on_commit: str) -> None:
        columns = ", ".join(
            f"NULL::{column.type.sent.sql} AS {name}" if column.type.by_input else name
            for column in self.target.columns
            for name in (quote(column.name),)
        )
        await session.run(
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {quote(self.stage.table)}"
            f" ON COMMIT {on_commit} AS SELECT {columns} FROM {self.target.table.sql}"
            " WITH NO DATA"
        )

    def encode(self, columns: Columns) -> Payload:
        return copy_payload(columns)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        names = tuple(quote(column.name) for column in self.target.columns)
        await self.fill(session, payload)
        if self.target.tells_rows:
            return await self._name(session, alone=alone)
        # Rows of one COPY into an empty table stand in input order, so ctid grows with it.
        rows = select_rows(self.target, f"{self.rows} s", names, "ctid")
        written = await session.execute(
            Statement(f"{insert_into(self.target)} {rows}{on_conflict(self.target)}", ()), []
        )
        settled = await self.settle(session, payload, written, alone=alone)
        return settled if self.target.key is not None else Written(written)

    async def _name(self, session: Session, *, alone: bool) -> Written:
        """Write the chunk, and say which rows were left out."""
        names = tuple(f"s.{quote(column.name)}" for column in self.target.columns)
        sql = naming_sql(self.target, f"{self.rows} s", names, "s.ctid")
        named = written_by_name(self.target, (await session.fetch(sql))[0][0])
        if not alone:
            await session.run(f"TRUNCATE {self.stage.sql}")
        return named

    async def settle(
        self, session: Session, payload: Payload, written: int, *, alone: bool
    ) -> Written:
        """Tell duplicates from rows that a trigger dropped, and empty the temporary table."""
        left = payload.row_count - written
        dropped = 0
        if left and self.target.table.before_triggers:
            dropped = int((await session.fetch(self._dropped_sql))[0][0] or 0)
        if not alone:
            await session.run(f"TRUNCATE {self.stage.sql}")
        return Written(written, left - min(dropped, left))

    @property
    def _dropped_sql(self) -> str:
        """Rows of the chunk whose key the table has not."""
        key = self.target.key
        if key is None:
            return "SELECT '0'"
        names = tuple(f"s.{quote(column.name)}" for column in self.target.columns)
        same = same_key(self.target, key, "t", "s")
        absent = absent_key(self.target, key, names) or "false"
        return (
            f"SELECT count(*)::text FROM {self.rows} s WHERE NOT ({absent})"
            f" AND NOT EXISTS (SELECT FROM {self.target.table.sql} t WHERE {same})"
        )

    async def fill(self, session: Session, payload: Payload) -> None:
        """COPY a chunk into the temporary table."""
        if not session.keeps_state:
            await self._create(session, "DROP")
        await copy_into(self.stage, self.target, session, payload)
