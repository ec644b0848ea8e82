"""Multi-row VALUES: one parameter a value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import ClassVar

from batchbench.drivers import Session, Statement
from batchbench.limits import ParameterUse, values_use
from batchbench.strategies import Columns, Payload, Target, Written
from batchbench.strategies.inserting import insert_rows, insert_sql
from batchbench.strategies.sql import insert_into, read, table_guard
from batchbench.wire import scalar_parameters
from batchbench.wire.rows import RowEncoder, RowParts


class ValuesStrategy:
    """INSERT INTO t (...) VALUES ($1, $2), ($3, $4) ..."""

    name = "values"

    def use(self, column_count: int) -> ParameterUse:
        return values_use(column_count)

    def plan(self, target: Target) -> ValuesPlan:
        return ValuesPlan(target)


@dataclass(frozen=True)
class ValuesPlan:
    """See `batchbench.strategies.ChunkPlan`."""

    target: Target
    streams_rows: ClassVar[bool] = False

    @property
    def use(self) -> ParameterUse:
        return values_use(len(self.target.columns))

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        """Nothing to prepare: the statement is, when it first runs."""

    def encode(self, columns: Columns) -> Payload:
        fields = columns.fields()
        parameters: list[bytes | None] = [None] * (columns.row_count * len(fields))
        for position, column in enumerate(fields):
            parameters[position :: len(fields)] = scalar_parameters(column)
        return Payload(columns.row_count, parameters)

    def encode_rows(self, encoder: RowEncoder, parts: RowParts, row_count: int) -> Payload:
        """See `batchbench.strategies.RowPlan`."""
        return Payload(row_count, encoder.parameters(chain.from_iterable(parts)))

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        statement = _statement(self.target, payload.row_count, full)
        return await insert_rows(self.target, session, statement, payload)


@lru_cache(maxsize=64)
def _statement(target: Target, row_count: int, reused: bool) -> Statement:
    width = len(target.columns)
    if target.key is not None or target.tells_rows:
        oids = tuple(column.type.sent.oid for column in target.columns)
        sql = _numbered_rows(target, row_count)
    else:  # the server infers what the columns were declared with, domains included
        oids = tuple(
            column.type.sent.oid if column.type.by_input else column.type_oid
            for column in target.columns
        )
        sql = f"{insert_into(target)} VALUES " + ", ".join(
            "("
            + ", ".join(read(c, f"${row * width + i + 1}") for i, c in enumerate(target.columns))
            + ")"
            for row in range(row_count)
        )
    return Statement(sql, oids * row_count, reused)


def _numbered_rows(target: Target, row_count: int) -> str:
    """Insert the rows with their input order, for their order and the choice of one a key."""
    width = len(target.columns)
    casts = [f"::{column.type.sent.sql}" for column in target.columns]
    rows = ", ".join(
        "("
        + ", ".join(f"${row * width + i + 1}{casts[i] if row == 0 else ''}" for i in range(width))
        + f", {row})"
        for row in range(row_count)
    )
    names = tuple(f"c{i}" for i in range(width))
    return insert_sql(target, f"(VALUES {rows}) AS v ({', '.join(names)}, n)", names)
