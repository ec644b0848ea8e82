"""The engine inside a service: many producers, one writer, every row answered for."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, overload

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.drivers import Session, within
from batchbench.drivers.connector import Connector, connector_for
from batchbench.drivers.lending import LentPool
from batchbench.engine.gate import open_gate
from batchbench.engine.guilt import failure_to_say
from batchbench.engine.lanes import Lanes
from batchbench.engine.lent import on_their_terms
from batchbench.engine.load import choose_ledger
from batchbench.engine.occupancy import Occupancy
from batchbench.engine.orphans import Orphans
from batchbench.engine.plan import LoadOptions, LoadPlan, ShapePlan
from batchbench.engine.surroundings import Surroundings
from batchbench.engine.writing import ChunkWriter
from batchbench.errors import BatchbenchError, ConfigError, WriteError
from batchbench.events import Event, Listener, LoadEnded, LoadStarted
from batchbench.memory import Budget
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from batchbench.writer.parts import Flush, Form, Forms, Part, Pending, flush_of, give_up
from batchbench.writer.tables import Handed, Tables, all_or_none
from batchbench.writer.tickets import AtomicError, PayloadTicket, Ticket, TicketAccounts

_MIB = 1 << 20
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

    One writer serves one table or several, by one connection each of `options.writers`. Rows of one
    `add` may be written by several statements, those of several by one; a bad row never fails
    another. A ticket is settled when its rows are committed: nothing is acknowledged that is not.
    dsn: as `batchbench.engine.load` takes it, or a pool of asyncpg or psycopg.
    tables: in the order in which a transaction writes them: name those first that others refer to,
    and keep to one order in all programs, so that none waits for another in a ring.
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
        tables: str | TableName | Sequence[str | TableName],
        options: LoadOptions | None = None,
        *,
        limits: FlushLimits | None = None,
        when_full: Literal["wait", "reject"] = "wait",
        returning: Sequence[str] = (),
        on_event: Listener | None = None,
    ) -> None:
        self._dsn = dsn
        self._returning = tuple(returning)
        self._tables = Tables([tables] if isinstance(tables, str | TableName) else tables)
        self._options = options or LoadOptions(settings=Settings())
        _check(self._options)
        self._limits = limits or FlushLimits()
        self._when_full = when_full
        self._emit = on_event or _ignore
        self._pending: dict[Forms, Pending] = {}
        self._budget = Budget(int(self._options.settings.memory_limit_mb * _MIB) * 2 // 5)
        self._lanes = Lanes()
        self._due: asyncio.Queue[Pending | None] = asyncio.Queue()
        self._work: asyncio.Queue[Flush | None] = asyncio.Queue(self._options.writers)
        self._tasks: list[asyncio.Task[None]] = []
        self._tickets: set[Ticket] = set()
        self._timers: dict[Forms, asyncio.TimerHandle] = {}
        self._state: Literal["new", "open", "closed"] = "new"
        self._next_row = 1
        self._at_work = 0
        self._connector: Connector
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
        """Connect and read the tables. Raises ConfigError, TableError, ServerError, WriteError."""
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
        self._at_work = writers
        for number in range(writers):
            first = session if number == 0 else None
            self._tasks.append(asyncio.create_task(self._write(first)))

    async def _prepare(self, session: Session) -> None:
        options = self._options
        await self._tables.read(session, options, self._returning)
        plan = LoadPlan(options, {name: self._tables.plans[name] for name in self._tables.plans})
        ledger, plan = await choose_ledger(session, options, plan, None)
        load_id = uuid.uuid4().hex[:12]
        backends: dict[object, str] = {}
        # Before the ledger: what it refuses was never begun.
        gate = await open_gate(self._connector, options, self._emit, backends)
        try:
            epoch = await ledger.enter_load(session, load_id, "") if ledger is not None else 0
        except BaseException:
            await gate.close()
            raise
        self._accounts = TicketAccounts(LoadResult(load_id), options, self._emit)
        self._s = Surroundings(
            plan=plan,
            connector=self._connector,
            load_id=load_id,
            accounts=self._accounts,
            emit=self._emit,
            ledger=ledger,
            epoch=epoch,
            gate=gate,
            backends=backends,
            orphans=Orphans(waits=False),
        )
        self._occupancy = Occupancy(load_id, plan, self._budget, self._emit)

    @property
    def is_open(self) -> bool:
        """Whether it takes rows."""
        return self._state == "open"

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
        for ticket in list(self._tickets):
            self._accounts.unwritten(ticket.table, ticket.give_up(cause))
        self._emit(LoadEnded(self._accounts.result))

    # --- rows -------------------------------------------------------------------------------

    @overload
    async def add(self, rows: Mapping[str, Any], *, atomic: bool = False) -> PayloadTicket: ...

    @overload
    async def add(
        self, rows: Any, columns: Sequence[str] | None = None, *, atomic: bool = False
    ) -> Ticket: ...

    async def add(
        self, rows: Any, columns: Sequence[str] | None = None, *, atomic: bool = False
    ) -> Ticket | PayloadTicket:
        """Take rows: dicts, tuples with `columns`, a DataFrame, an Arrow table or batch.

        By table, {"heart_rate_metrics": rows, "sleep_metrics": rows}: all of them are committed in
        one transaction (which may have rows of other producers), but for those that are rejected.
        atomic: they have a transaction of their own, and where one is rejected none is written; the
        ticket then raises UnwrittenError, with the rows that do not fit their columns, or else the
        first that the server refused.
        Waits while the memory limit is reached, or raises WriterFullError. Raises InputError where
        the rows do not fit a table as a whole (an unknown column), or the writer has no such table,
        and WriterClosedError: then none is taken.
        """
        self._refuse_unless_open()
        by_table: Mapping[Any, Any] = (
            rows if isinstance(rows, Mapping) else {self._tables.only: rows}
        )
        handed = {
            name: await self._tables.take(name, of_table, columns)
            for name, of_table in by_table.items()
        }
        if atomic:
            all_or_none(handed.values())
        byte_count = sum(one.byte_count for one in handed.values())
        await self._hold(byte_count)
        if self._state != "open":
            await self._budget.release(byte_count)
            self._refuse_unless_open()
        for one in handed.values():
            self._count(one)
        parts = [part for one in handed.values() for part in one.parts]
        if by_table is rows or atomic:
            self._take(parts, atomic=atomic)
        else:
            for some in self._spread(parts):
                self._take(some)
        tickets = {name: one.ticket for name, one in handed.items()}
        return PayloadTicket(tickets) if by_table is rows else next(iter(tickets.values()))

    async def flush(self) -> None:
        """Write what was added so far, and wait until all of it is settled."""
        self._flush_all()
        for ticket in list(self._tickets):
            await ticket.wait()

    def _refuse_unless_open(self) -> None:
        if self._state != "open":
            raise WriterClosedError(f"{self._tables.called} is not open: no row was taken")

    def _count(self, handed: Handed) -> None:
        """The rows are taken: the faulty ones are settled at once."""
        ticket = handed.ticket
        self._accounts.result.counts(ticket.table).read += ticket.row_count
        for cast, fault, row in handed.faults:
            self._accounts.fault(ticket, cast, fault, row)
        ticket.settle(len(handed.faults))
        if not handed.parts:  # also not of good rows, where all or none are to be written
            self._accounts.unwritten(ticket.table, ticket.give_up(AtomicError()))
        if not ticket.settled:
            self._tickets.add(ticket)
            ticket.on_settled(self._tickets.discard)

    async def _hold(self, byte_count: int) -> None:
        if self._when_full == "reject" and not self._budget.fits(byte_count):
            raise WriterFullError(
                f"{self._tables.called} holds all that BATCH_MEMORY_LIMIT_MB allows: no row"
                " was taken; try again later"
            )
        await self._budget.acquire(byte_count)

    def _spread(self, parts: list[Part]) -> Iterator[list[Part]]:
        """Rows that need not stay together, in pieces that fill up what waits."""
        for part in parts:
            start, limit = 0, self._most_rows(part.shape)
            while start < len(part.rows):
                waiting = self._pending.get((part.form,))
                room = limit - (waiting.rows[part.form] if waiting is not None else 0)
                end = min(len(part.rows), start + room)
                yield [part.slice(start, end)]
                start = end

    def _take(self, parts: list[Part], *, atomic: bool = False) -> None:
        """Put rows that stay together with those that wait; what fills a chunk is flushed."""
        if not parts:
            return
        rows: dict[Form, int] = {}
        for part in parts:
            rows[part.form] = rows.get(part.form, 0) + len(part.rows)
        most = {part.form: self._most_rows(part.shape) for part in parts}
        forms = tuple(sorted(rows))
        for before in self._to_be_before(forms):
            self._flush(before)
        waiting = self._pending.get(forms)
        if waiting is not None and (atomic or waiting.would_pass(rows, most)):
            self._flush(forms)
            waiting = None
        waiting = waiting or self._wait(forms)
        waiting.add(parts, rows)
        if atomic or waiting.reaches(most) or waiting.byte_count >= self._most_bytes:
            self._flush(forms)

    def _to_be_before(self, forms: Forms) -> list[Forms]:
        """What waits apart, and may have a row that one of these is to replace."""
        if self._options.on_conflict is not OnConflict.UPDATE:
            return []
        tables = {form.table for form in forms}
        return [
            before
            for before in self._pending
            if before != forms and any(form.table in tables for form in before)
        ]

    def _wait(self, forms: Forms) -> Pending:
        waiting = self._pending[forms] = Pending(self._occupancy.waits())
        wait_s, later = self._limits.max_wait_ms / 1e3, asyncio.get_running_loop().call_later
        self._timers[forms] = later(wait_s, self._flush, forms)
        return waiting

    def _most_rows(self, shape: ShapePlan) -> int:
        return min(self._limits.max_rows or shape.chunk_rows, shape.chunk_rows)

    @property
    def _most_bytes(self) -> float:
        return min(self._limits.max_bytes, self._options.pace.most_chunk_bytes)

    def _flush(self, forms: Forms) -> None:
        self._timers.pop(forms).cancel()
        self._due.put_nowait(self._pending.pop(forms))

    def _flush_all(self) -> None:
        for forms in list(self._pending):
            self._flush(forms)

    # --- tasks ------------------------------------------------------------------------------

    async def _make_chunks(self) -> None:
        """Encode what is due, in order; chunks wait for earlier ones that may share a key."""
        while (pending := await self._due.get()) is not None:
            try:
                flush = await self._made(pending)
            except Exception as error:  # noqa: BLE001 - a fault of ours still owes its accounts
                give_up(pending, self._accounts, failure_to_say(error))
                self._occupancy.taken(pending.number)
                await self._budget.release(pending.byte_count)
                self._occupancy.done()
            else:
                await self._work.put(flush)
        for _ in range(self._options.writers):
            await self._work.put(None)

    async def _made(self, pending: Pending) -> Flush:
        first_row, tables = self._next_row, list(self._tables.plans)
        self._next_row += pending.rows.total()
        flush = await asyncio.to_thread(flush_of, pending, _SOURCE, first_row, tables)
        if self._options.writers > 1:  # one alone keeps the order anyway
            await self._lanes.enter(*flush.chunks)
        for shares in flush.shares:
            self._accounts.shares.add(shares)
        return flush

    async def _write(self, session: Session | None) -> None:
        writer = ChunkWriter(self._s, session)
        try:
            while (flush := await self._work.get()) is not None:
                failure = await self._write_one(writer, flush)
                if isinstance(failure, AtomicError):
                    await writer.undo()
                elif failure is not None:  # what is open is rolled back; the next starts anew
                    await writer.close()
                    writer = ChunkWriter(self._s, None)
            await self._enter_end(writer)
        finally:
            await writer.close()

    async def _enter_end(self, writer: ChunkWriter) -> None:
        """The last of the writers tells the ledger, which then does not take this for killed."""
        self._at_work -= 1
        ledger, session = self._s.ledger, writer.idle_session
        if self._at_work or ledger is None or session is None:
            return
        entering = ledger.close_load(session, self._s.load_id, "done")
        with contextlib.suppress(WriteError):  # every row is settled without it
            await within(session, self._options.wait_limit_s, entering)

    async def _write_one(self, writer: ChunkWriter, flush: Flush) -> BaseException | None:
        failure: BaseException | None = None
        self._occupancy.taken(flush.number)
        try:
            async with self._s.gate.turn(flush.row_count, flush.byte_count):
                await writer.write_together(flush.chunks)
        except Exception as error:  # noqa: BLE001 - the same as in _make_chunks
            failure = failure_to_say(error)
        except BaseException as error:  # cancelled by `close`
            failure = error
            raise
        finally:
            for chunk, shares in zip(flush.chunks, flush.shares, strict=True):
                self._accounts.close(chunk, shares, failure)
            await self._lanes.leave(*flush.chunks)
            await self._budget.release(flush.byte_count)
            self._occupancy.done()
        return failure


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
