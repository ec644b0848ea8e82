"""UNNEST: one array a column, however many rows."""

from __future__ import annotations

from dataclasses import dataclass

from batchbench.drivers import Session, Statement
from batchbench.errors import TableError
from batchbench.limits import ParameterUse, unnest_use
from batchbench.strategies import Columns, Payload, Target, Written
from batchbench.strategies.inserting import insert_rows, insert_sql
from batchbench.strategies.sql import table_guard
from batchbench.wire import array_parameter, record_array_parameter


class UnnestStrategy:
    """INSERT INTO t (...) SELECT * FROM unnest($1::int4[], $2::text[] ...)

    UNNEST flattens arrays of arrays, so a table with array columns goes as one array of the
    table's own row type.
    """

    name = "unnest"

    def use(self, column_count: int) -> ParameterUse:
        return unnest_use(column_count)

    def plan(self, target: Target) -> UnnestPlan | UnnestRecordsPlan:
        if any(column.type.kind == "array" for column in target.columns):
            return UnnestRecordsPlan(target, _records_statement(target))
        for column in target.columns:
            if not column.type.array_oid:
                raise TableError(
                    f"table {target.table.name}, column {column.name}: {column.declared} has no"
                    " array type, which UNNEST needs; use --strategy copy or values"
                )
        return UnnestPlan(target, _columns_statement(target))


@dataclass(frozen=True, slots=True)
class UnnestPlan:
    """See `batchbench.strategies.ChunkPlan`. One parameter a column."""

    target: Target
    statement: Statement

    @property
    def use(self) -> ParameterUse:
        return unnest_use(len(self.target.columns))

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        """Nothing to prepare: the statement is, when it first runs."""

    def encode(self, columns: Columns) -> Payload:
        parameters = [
            array_parameter(column, described.type)
            for column, described in zip(columns.fields(), self.target.columns, strict=True)
        ]
        return Payload(columns.row_count, parameters)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        return await insert_rows(self.target, session, self.statement, payload)


@dataclass(frozen=True, slots=True)
class UnnestRecordsPlan:
    """See `batchbench.strategies.ChunkPlan`. One parameter: an array of the table's rows."""

    target: Target
    statement: Statement

    @property
    def use(self) -> ParameterUse:
        return unnest_use(1)

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        """Nothing to prepare: the statement is, when it first runs."""

    def encode(self, columns: Columns) -> Payload:
        table = self.target.table
        described = zip(self.target.columns, columns.fields(), strict=True)
        named = {c.name: column for c, column in described}
        parameter = record_array_parameter(
            [named.get(column.name) for column in table.columns],
            [column.type_oid for column in table.columns],
            table.row_type_oid,
        )
        return Payload(columns.row_count, [parameter])

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        return await insert_rows(self.target, session, self.statement, payload)


def _columns_statement(target: Target) -> Statement:
    arrays = ", ".join(f"${i + 1}::{c.type.sql}[]" for i, c in enumerate(target.columns))
    names = tuple(f"c{i}" for i in range(len(target.columns)))
    rows = f"unnest({arrays}) WITH ORDINALITY AS u ({', '.join(names)}, n)"
    return Statement(
        insert_sql(target, rows, names), tuple(column.type.array_oid for column in target.columns)
    )


def _records_statement(target: Target) -> Statement:
    table = target.table
    positions = {column.name: f"c{i}" for i, column in enumerate(table.columns)}
    names = tuple(positions[column.name] for column in target.columns)
    rows = f"unnest($1::{table.sql}[]) WITH ORDINALITY AS u ({', '.join(positions.values())}, n)"
    return Statement(insert_sql(target, rows, names), (table.row_array_oid,))
