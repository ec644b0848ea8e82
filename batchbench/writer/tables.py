"""The tables of a writer, and what rows come to that are handed over for them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import pyarrow as pa

from batchbench.batch import Batch
from batchbench.casts import Cast, Fault
from batchbench.config import chunk_variable
from batchbench.drivers import Session
from batchbench.engine.load import read_writable
from batchbench.engine.plan import CastRows, LoadOptions, ShapePlan, TablePlan, plan_table
from batchbench.engine.shapes import Rows, grouped, lacking, uncovered
from batchbench.errors import ConfigError, InputError
from batchbench.sources import SourceOptions, open_source
from batchbench.strategies import BUILT_IN, OnConflict
from batchbench.table import TableName, parse_table_name
from batchbench.writer.parts import Part, part_of
from batchbench.writer.tickets import Ticket

_MIB = 1 << 20
_FEW_ROWS = 1_000  # more of them are made into columns in a thread
_READ_ROWS = 65_536
_MOST_SHAPES = 256
_TELLS_ABSENT = SourceOptions(missing="default")


@dataclass(slots=True)
class Handed:
    """Rows for one table. faults: of those that do not fit it, with the rows' positions."""

    ticket: Ticket
    parts: list[Part] = field(default_factory=list)
    faults: list[tuple[Cast, Fault, int]] = field(default_factory=list)

    @property
    def byte_count(self) -> int:
        """Of the values of the others."""
        return sum(part.byte_count for part in self.parts)

    def add(self, shape: ShapePlan, cast: CastRows, rows: Sequence[int]) -> None:
        """Take rows of one shape. rows: their positions."""
        faulty = [fault.row for _, fault in cast.faults]
        self.faults += [(shape.casts[n], fault, rows[fault.row]) for n, fault in cast.faults]
        if len(faulty) < len(rows):
            self.parts.append(part_of(self.ticket, shape, cast.values, rows, faulty))


def all_or_none(handed: Collection[Handed]) -> None:
    """Make rows atomic: where one does not fit, none is to be sent."""
    spoilt = any(one.faults for one in handed)
    for one in handed:
        one.ticket.atomic = True
        if spoilt:
            one.parts.clear()


class Tables:
    """The tables that one writer serves, in the order in which a transaction writes them.

    plans: by the tables' full names, in that order.
    """

    def __init__(self, names: Sequence[str | TableName]) -> None:
        if not names:
            raise ConfigError("a writer needs a table: name one or more")
        self._names = [_parsed(name) for name in names]
        self._known: dict[TableName, TablePlan] = {}
        self._shapes: dict[tuple[str, pa.Schema, frozenset[str]], ShapePlan] = {}
        self.plans: dict[str, TablePlan] = {}

    @property
    def called(self) -> str:
        """Whose, in a message."""
        return f"the writer of {', '.join(map(str, self._names))}"

    @property
    def only(self) -> TableName:
        """Where rows go that name no table. Raises InputError where that cannot be told."""
        first, *others = self._names
        if others:
            raise InputError(
                f"{self.called} takes rows by table, as {{'{first}': rows}}: no row was taken"
            )
        return first

    async def read(
        self, session: Session, options: LoadOptions, returning: tuple[str, ...]
    ) -> None:
        """Read the tables. Raises TableError, ConfigError."""
        for name in self._names:
            plan = await _plan(session, name, options, returning)
            if str(plan.table.name) in self.plans:
                raise ConfigError(f"{self.called} has table {plan.table.name} twice: name it once")
            self.plans[str(plan.table.name)] = plan
            self._known |= {name: plan, plan.table.name: plan}

    async def take(self, name: str | TableName, rows: Any, columns: Sequence[str] | None) -> Handed:
        """Cast rows for one of the tables. Raises InputError where none of them can be taken."""
        plan = self._known.get(_parsed(name))
        if plan is None:
            raise InputError(
                f"{self.called} has no table {name}: no row was taken; it takes a list of rows, or"
                " rows by table"
            )
        if isinstance(rows, list | tuple | pa.RecordBatch | pa.Table) and len(rows) < _FEW_ROWS:
            batches = _batches(rows, columns)
        else:
            batches = await asyncio.to_thread(_batches, rows, columns)
        handed = Handed(Ticket(str(plan.table.name), sum(batch.row_count for batch in batches)))
        for batch in batches:
            self._cast(plan, handed, batch)
        return handed

    def _cast(self, plan: TablePlan, handed: Handed, batch: Batch) -> None:
        schema, first = batch.columns.schema, batch.location.first_row - 1
        whole = self._shape(plan, schema)
        if batch.absent is None:
            handed.add(whole, whole.cast(batch.columns), range(first, first + batch.row_count))
            return
        for group in chain.from_iterable(grouped(uncovered(batch, []), plan, whole)):
            rows = group.rows
            if isinstance(rows, Rows):
                shape = self._shape(plan, schema, group.omitted)
                cast = shape.cast(rows.columns, lacking([rows], plan, shape))
                handed.add(shape, cast, (rows.numbers - 1).tolist())

    def _shape(
        self, plan: TablePlan, schema: pa.Schema, omitted: frozenset[str] = frozenset()
    ) -> ShapePlan:
        known = str(plan.table.name), schema, omitted
        if known not in self._shapes:
            shape = plan.shape(schema, "the rows", omitted, partial=True)
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[known] = shape
        return self._shapes[known]


async def _plan(
    session: Session, name: TableName, options: LoadOptions, returning: tuple[str, ...]
) -> TablePlan:
    table = await read_writable(session, name)
    if options.adapts(table, None):
        raise ConfigError(
            "a writer's chunks are as large as its producers and limits make them, so chunk size"
            f" auto cannot work: set chunk_size, or {chunk_variable(str(table.name))}, to a number"
            " of rows"
        )
    return _telling(plan_table(table, None, options), returning)


def _parsed(table: str | TableName) -> TableName:
    return parse_table_name(table) if isinstance(table, str) else table


def _batches(rows: Any, columns: Sequence[str] | None) -> list[Batch]:
    options = _TELLS_ABSENT if _may_lack_keys(rows) else None
    source = open_source(rows, columns=columns, options=options)
    return list(source.batches(_READ_ROWS, 64 * _MIB))


def _may_lack_keys(rows: Any) -> bool:
    """Whether a row may have no key that another has: to look costs less than to be told."""
    if not isinstance(rows, list | tuple) or set(map(type, rows)) != {dict}:
        return True
    return not all(map(rows[0].keys().__eq__, map(dict.keys, rows)))


def _telling(plan: TablePlan, returning: tuple[str, ...]) -> TablePlan:
    """The plan, so that what became of each row is known. Raises ConfigError, TableError."""
    if returning and plan.options.strategy_name == "auto":
        plan = replace(plan, strategy="unnest", reason="returning needs an INSERT")
    if returning and plan.strategy not in ("values", "unnest"):
        raise ConfigError(
            f"strategy {plan.strategy} cannot answer with {', '.join(returning)}: COPY has no"
            " RETURNING; a writer with returning takes values or unnest"
        )
    named = plan.options.on_conflict is not OnConflict.ERROR
    if named and plan.strategy not in BUILT_IN:
        raise ConfigError(
            f"strategy {plan.strategy} cannot say which rows were duplicates; a writer with"
            f" on_conflict takes {', '.join(BUILT_IN)}"
        )
    plan = replace(plan, names_rows=named, returning=returning)
    if returning:
        plan.returned()
    return plan
