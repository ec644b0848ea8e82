"""The engine inside a service: many producers, one writer, every row answered for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import TracebackType
from typing import Any, Literal

import pyarrow as pa

from batchbench.accounting import LoadResult
from batchbench.config import Settings, chunk_variable
from batchbench.drivers import Session, within
from batchbench.drivers.connector import Connector, connector_for
from batchbench.drivers.lending import LentPool
from batchbench.engine.gate import open_gate
from batchbench.engine.lanes import Lanes
from batchbench.engine.lent import on_their_terms
from batchbench.engine.load import choose_ledger, read_writable
from batchbench.engine.occupancy import Occupancy
from batchbench.engine.orphans import Orphans
from batchbench.engine.plan import LoadOptions, LoadPlan, ShapePlan, TablePlan, plan_table
from batchbench.engine.surroundings import Surroundings
from batchbench.engine.writing import ChunkWriter
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.events import Event, Listener, LoadEnded, LoadStarted
from batchbench.memory import Budget
from batchbench.sources import open_source
from batchbench.strategies import BUILT_IN, OnConflict
from batchbench.table import TableName, parse_table_name
from batchbench.writer.parts import Columns, Flush, Part, Pending, flush_of, part_of
from batchbench.writer.tickets import Ticket, TicketAccounts

_MIB = 1 << 20
_FEW_ROWS = 1_000  # more of them are made into columns in a thread
_READ_ROWS = 65_536
_MOST_SHAPES = 256
_SOURCE = "writer"


class WriterFullError(BatchbenchError):
    """The memory limit is reached and the writer was told to refuse instead of waiting."""


class WriterClosedError(BatchbenchError):
    """Rows were handed to a writer that is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlushLimits:
    """When waiting rows are written: at the first limit reached.

    max_rows: None, the table's chunk size. max_bytes: of values. max_wait_ms: age of the oldest.
    """

    max_rows: int | None = None
    max_bytes: int = 8 * _MIB
    max_wait_ms: float = 20.0

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_bytes", "max_wait_ms"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} {value} cannot work: it must be over 0")


class Writer:
    """Takes rows from many producers and writes them together.

    One writer serves one table, by one connection each of `options.writers`. Rows of one `add` may
    be written by several statements, those of several by one; a bad row never fails another. A
    ticket is settled when its rows are committed: nothing is acknowledged that is not.
    dsn: as `batchbench.engine.load` takes it, or a pool of asyncpg or psycopg.
    when_full: what `add` does while the memory limit is reached.
    returning: columns of each committed row, such as an id that the server made, for the outcome;
        they are matched to the rows by a unique key that the rows bring, never by their order.

        async with Writer(dsn, "heart_rate_metrics") as writer:
            ticket = await writer.add([{"user_id": ..., "recorded_at": ...}])
            outcome = await ticket
    """

    def __init__(
        self,
        dsn: Any,
        table: str | TableName,
        options: LoadOptions | None = None,
        *,
        limits: FlushLimits | None = None,
        when_full: Literal["wait", "reject"] = "wait",
        returning: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> None:
        self._dsn = dsn
        self._returning = tuple(returning)
        self._name = parse_table_name(table) if isinstance(table, str) else table
        self._options = options or LoadOptions(settings=Settings())
        _check(self._options)
        self._limits = limits or FlushLimits()
        self._when_full = when_full
        self._emit = on_event or _ignore
        self._pending: dict[Columns, Pending] = {}
        self._shapes: dict[pa.Schema, ShapePlan] = {}
        self._budget = Budget(int(self._options.settings.memory_limit_mb * _MIB) * 2 // 5)
        self._lanes = Lanes()
        self._due: asyncio.Queue[Pending | None] = asyncio.Queue()
        self._work: asyncio.Queue[Flush | None] = asyncio.Queue(self._options.writers)
        self._tasks: list[asyncio.Task[None]] = []
        self._tickets: set[Ticket] = set()
        self._timers: dict[Columns, asyncio.TimerHandle] = {}
        self._state: Literal["new", "open", "closed"] = "new"
        self._next_row = 1
        self._connector: Connector
        self._plan: TablePlan
        self._s: Surroundings
        self._accounts: TicketAccounts
        self._occupancy: Occupancy

    # --- its life ---------------------------------------------------------------------------

    async def __aenter__(self) -> Writer:
        await self.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Connect and read the table. Raises ConfigError, TableError, ServerError, WriteError."""
        options = self._options
        self._connector = await connector_for(
            self._dsn, None, options.driver_name, options.pooler_name
        )
        if self._connector.session_limit is not None and not isinstance(self._connector, LentPool):
            raise ConfigError("a writer goes on for long: give it a pool, not a connection")
        self._options = on_their_terms(options, self._connector)
        session = await self._connector.open()
        try:
            preparing = self._prepare(session)
            await within(session, self._options.wait_limit_s, preparing)
        except BaseException:
            await session.close()
            raise
        self._state = "open"
        self._s.gate.begin()
        writers = self._options.writers
        self._emit(LoadStarted(self._s.load_id, self._options.driver_name, writers))
        self._tasks = [asyncio.create_task(self._make_chunks())]
        for number in range(writers):
            first = session if number == 0 else None
            self._tasks.append(asyncio.create_task(self._write(first)))

    async def _prepare(self, session: Session) -> None:
        options = self._options
        table = await read_writable(session, self._name)
        if options.adapts(table, None):
            raise ConfigError(
                "a writer's chunks are as large as its producers and limits make them, so chunk"
                f" size auto cannot work: set chunk_size, or {chunk_variable(str(table.name))}, to"
                " a number of rows"
            )
        self._plan = _telling(plan_table(table, None, options), self._returning)
        plan = LoadPlan(options, {None: self._plan})
        ledger, plan = await choose_ledger(session, options, plan, None)
        load_id = uuid.uuid4().hex[:12]
        epoch = await ledger.enter_load(session, load_id, "") if ledger is not None else 0
        self._accounts = TicketAccounts(LoadResult(load_id), options, self._emit)
        backends: dict[object, str] = {}
        self._s = Surroundings(
            plan=plan,
            connector=self._connector,
            load_id=load_id,
            accounts=self._accounts,
            emit=self._emit,
            ledger=ledger,
            epoch=epoch,
            gate=await open_gate(self._connector, options, self._emit, backends),
            backends=backends,
            orphans=Orphans(waits=False),
        )
        self._occupancy = Occupancy(load_id, plan, self._budget, self._emit)

    async def close(self, limit_s: float = 60.0) -> None:
        """Write what waits, then end. After the limit what is left is given up: its tickets say
        that it is not written, or not known.
        """
        if self._state != "open":
            self._state = "closed"
            return
        self._state = "closed"
        self._flush_all()
        self._due.put_nowait(None)
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._s.gate.close()
        cause = WriterClosedError(f"the writer was closed and {limit_s:g} s were not enough")
        given_up = sum(ticket.give_up(cause) for ticket in list(self._tickets))
        self._accounts.unwritten(str(self._plan.table.name), given_up)
        self._emit(LoadEnded(self._accounts.result))

    # --- rows -------------------------------------------------------------------------------

    async def add(self, rows: Any, columns: Sequence[str] | None = None) -> Ticket:
        """Take rows: dicts, tuples with `columns`, a DataFrame, an Arrow table or batch.

        Waits while the memory limit is reached, or raises WriterFullError. Raises InputError where
        the rows do not fit the table as a whole (an unknown column): then none is taken.
        """
        self._refuse_unless_open()
        if isinstance(rows, list | tuple | pa.RecordBatch | pa.Table) and len(rows) < _FEW_ROWS:
            batches = _batches(rows, columns)
        else:
            batches = await asyncio.to_thread(_batches, rows, columns)
        ticket = Ticket(sum(batch.num_rows for batch in batches))
        offsets = accumulate((batch.num_rows for batch in batches), initial=0)
        parts = [self._cast(ticket, b, o) for b, o in zip(batches, offsets, strict=False)]
        await self._hold(sum(part.byte_count for part in parts))
        if self._state != "open":
            await self._budget.release(sum(part.byte_count for part in parts))
            self._refuse_unless_open()
        self._accounts.result.counts(str(self._plan.table.name)).read += ticket.row_count
        ticket.settle(ticket.row_count - sum(len(part.rows) for part in parts))
        if not ticket.settled:
            self._tickets.add(ticket)
            ticket.on_settled(self._tickets.discard)
        for part in parts:
            self._take(part)
        return ticket

    async def flush(self) -> None:
        """Write what was added so far, and wait until all of it is settled."""
        self._flush_all()
        for ticket in list(self._tickets):
            await ticket.wait()

    def _refuse_unless_open(self) -> None:
        if self._state != "open":
            raise WriterClosedError(f"the writer of {self._name} is not open: no row was taken")

    def _cast(self, ticket: Ticket, batch: pa.RecordBatch, offset: int) -> Part:
        shape = self._shapes.get(batch.schema)
        if shape is None:
            shape = self._plan.shape(batch.schema, "the rows")
            if len(self._shapes) >= _MOST_SHAPES:
                self._shapes.clear()
            self._shapes[batch.schema] = shape
        cast = shape.cast(batch)
        table, faulty = str(self._plan.table.name), set()
        for number, fault in cast.faults:
            faulty.add(fault.row)
            self._accounts.fault(table, ticket, shape.casts[number], fault, offset + fault.row)
        return part_of(ticket, shape, cast.values, offset, faulty)

    async def _hold(self, byte_count: int) -> None:
        if self._when_full == "reject" and not self._budget.fits(byte_count):
            raise WriterFullError(
                f"the writer of {self._name} holds all that BATCH_MEMORY_LIMIT_MB allows: no row"
                " was taken; try again later"
            )
        await self._budget.acquire(byte_count)

    def _take(self, part: Part) -> None:
        """Put rows with those that wait; what fills a chunk is flushed."""
        limit, start, columns = self._most_rows(part.shape), 0, part.columns
        while start < len(part.rows):
            waiting = self._pending.get(columns)
            if waiting is None:
                waiting = self._pending[columns] = Pending(self._occupancy.waits())
                wait_s = self._limits.max_wait_ms / 1e3
                later = asyncio.get_running_loop().call_later
                self._timers[columns] = later(wait_s, self._flush, columns)
            end = min(len(part.rows), start + limit - waiting.row_count)
            waiting.add(part.slice(start, end))
            start = end
            if waiting.row_count >= limit or waiting.byte_count >= self._most_bytes:
                self._flush(columns)

    def _most_rows(self, shape: ShapePlan) -> int:
        return min(self._limits.max_rows or shape.chunk_rows, shape.chunk_rows)

    @property
    def _most_bytes(self) -> float:
        return min(self._limits.max_bytes, self._options.pace.most_chunk_bytes)

    def _flush(self, columns: Columns) -> None:
        self._timers.pop(columns).cancel()
        self._due.put_nowait(self._pending.pop(columns))

    def _flush_all(self) -> None:
        for columns in list(self._pending):
            self._flush(columns)

    # --- tasks ------------------------------------------------------------------------------

    async def _make_chunks(self) -> None:
        """Encode what is due, in order; a chunk waits for earlier ones that may share a key."""
        while (pending := await self._due.get()) is not None:
            making = asyncio.to_thread(flush_of, pending, _SOURCE, self._next_row)
            self._next_row += pending.row_count
            flush = await making
            self._accounts.shares.add(flush.shares)
            if self._options.writers > 1:  # one alone keeps the order anyway
                await self._lanes.enter(flush.chunk)
            await self._work.put(flush)
        for _ in range(self._options.writers):
            await self._work.put(None)

    async def _write(self, session: Session | None) -> None:
        writer = ChunkWriter(self._s, session)
        try:
            while (flush := await self._work.get()) is not None:
                failure = await self._write_one(writer, flush)
                if failure is not None:  # what is open is rolled back; the next chunk starts anew
                    await writer.close()
                    writer = ChunkWriter(self._s, None)
        finally:
            await writer.close()

    async def _write_one(self, writer: ChunkWriter, flush: Flush) -> BaseException | None:
        failure: BaseException | None = None
        self._occupancy.taken(flush.number)
        try:
            async with self._s.gate.turn(flush.chunk.row_count, flush.byte_count):
                await writer.write(flush.chunk)
        except BatchbenchError as error:
            failure = error
        except BaseException as error:  # cancelled by `close`, or a fault of ours
            failure = error
            raise
        finally:
            self._accounts.close(flush.chunk, flush.shares, failure)
            await self._lanes.leave(flush.chunk)
            await self._budget.release(flush.byte_count)
            self._occupancy.done()
        return failure


def _batches(rows: Any, columns: Sequence[str] | None) -> list[pa.RecordBatch]:
    source = open_source(rows, columns=columns)
    return [batch.columns for batch in source.batches(_READ_ROWS, 64 * _MIB)]


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


def _check(options: LoadOptions) -> None:
    """A writer's promises are of single rows: what concerns a load as a whole has no meaning."""
    if options.transaction != "chunk":
        raise ConfigError("a writer commits each chunk by itself; leave transaction out")
    if options.one_of_each_key is not None:
        raise ConfigError("a writer cannot deduplicate over its whole life; use on_conflict")
    if not options.skips_rejects or options.max_rejects is not None:
        raise ConfigError("a writer rejects rows one by one; leave on_reject and max_rejects out")


def _ignore(event: Event) -> None:
    """Listen to nothing."""
