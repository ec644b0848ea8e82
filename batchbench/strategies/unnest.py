"""UNNEST: one array a column, however many rows."""

from __future__ import annotations

from dataclasses import dataclass

from batchbench.drivers import Session, Statement
from batchbench.errors import TableError
from batchbench.limits import ParameterUse, unnest_use
from batchbench.strategies import Columns, Payload, Target, Written
from batchbench.strategies.inserting import insert_rows, insert_sql
from batchbench.strategies.sql import table_guard
from batchbench.table import TEXT
from batchbench.wire import array_parameter, record_array_parameter


class UnnestStrategy:
    """INSERT INTO t (...) SELECT * FROM unnest($1::int4[], $2::text[] ...)

    UNNEST flattens arrays of arrays, so a table with array columns goes as one array of the
    table's own row type; columns that go as text stand beside it, each an array of its own.
    """

    name = "unnest"

    def use(self, column_count: int) -> ParameterUse:
        return unnest_use(column_count)

    def plan(self, target: Target) -> UnnestPlan | UnnestRecordsPlan:
        if any(column.type.kind == "array" for column in target.columns):
            return UnnestRecordsPlan(target, _records_statement(target))
        for column in target.columns:
            if not column.type.sent.array_oid:
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
            array_parameter(column, described.type.sent)
            for column, described in zip(columns.fields(), self.target.columns, strict=True)
        ]
        return Payload(columns.row_count, parameters)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        return await insert_rows(self.target, session, self.statement, payload)


@dataclass(frozen=True, slots=True)
class UnnestRecordsPlan:
    """See `batchbench.strategies.ChunkPlan`. An array of the table's rows, and one more for each
    column that goes as text.
    """

    target: Target
    statement: Statement

    @property
    def use(self) -> ParameterUse:
        return unnest_use(1 + len(self.target.by_input))

    @property
    def guard(self) -> str:
        return table_guard(self.target)

    async def prepare(self, session: Session) -> None:
        """Nothing to prepare: the statement is, when it first runs."""

    def encode(self, columns: Columns) -> Payload:
        table = self.target.table
        described = list(zip(self.target.columns, columns.fields(), strict=True))
        named = {c.name: column for c, column in described if not c.type.by_input}
        records = record_array_parameter(
            [named.get(column.name) for column in table.columns],
            [column.type_oid for column in table.columns],
            table.row_type_oid,
            columns.row_count,
        )
        beside = [array_parameter(column, TEXT) for c, column in described if c.type.by_input]
        return Payload(columns.row_count, [records, *beside])

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        return await insert_rows(self.target, session, self.statement, payload)


def _columns_statement(target: Target) -> Statement:
    arrays = ", ".join(f"${i + 1}::{c.type.sent.sql}[]" for i, c in enumerate(target.columns))
    names = tuple(f"c{i}" for i in range(len(target.columns)))
    rows = f"unnest({arrays}) WITH ORDINALITY AS u ({', '.join(names)}, n)"
    oids = tuple(column.type.sent.array_oid for column in target.columns)
    return Statement(insert_sql(target, rows, names), oids)


def _records_statement(target: Target) -> Statement:
    table = target.table
    of_record = {column.name: f"c{i}" for i, column in enumerate(table.columns)}
    beside = {column.name: f"t{i}" for i, column in enumerate(target.by_input)}
    arrays = [f"$1::{table.sql}[]", *(f"${i + 2}::{TEXT.sql}[]" for i in range(len(beside)))]
    listed = ", ".join([*of_record.values(), *beside.values(), "n"])
    rows = f"unnest({', '.join(arrays)}) WITH ORDINALITY AS u ({listed})"
    names = tuple((of_record | beside)[column.name] for column in target.columns)
    oids = (table.row_array_oid, *[TEXT.array_oid] * len(beside))
    return Statement(insert_sql(target, rows, names), oids)
