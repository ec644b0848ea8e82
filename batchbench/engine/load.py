"""Run a load: one thread reads and encodes, writers send, every row is accounted for."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from pathlib import Path

from batchbench.accounting import LoadResult
from batchbench.deadletter import DeadLetter
from batchbench.drivers import Session, connect, read_table, within
from batchbench.engine.accounts import Accounts
from batchbench.engine.chunks import Chunk, encoded_chunks
from batchbench.engine.fate import evidence
from batchbench.engine.lanes import Lanes
from batchbench.engine.plan import LoadOptions, LoadPlan, order_notice, plan_table
from batchbench.engine.writing import ChunkWriter, Surroundings, reconnect
from batchbench.errors import BatchbenchError, ConfigError, TableError, WriteError
from batchbench.events import Event, Listener, LoadEnded, LoadStarted, Notice
from batchbench.ledger import Ledger, Part
from batchbench.memory import Budget
from batchbench.preflight import sequence_notices, table_notices
from batchbench.retry import retry_policy
from batchbench.sources import Source
from batchbench.strategies.once import create_keys_sql, drop_keys_sql
from batchbench.table import TableName

_MIB = 1 << 20

LOADS_FOLDER = Path("results") / "loads"
"""Each load has a folder in it, made when there is something to put there."""


class LoadError(BatchbenchError):
    """A load ended early, after rows had been sent. `result` says what happened to every row;
    `cause` says why.
    """

    def __init__(self, cause: BaseException, result: LoadResult) -> None:
        total = result.total
        super().__init__(
            f"{cause}. The load stopped: {total.committed:,} rows are committed, "
            f"{total.unwritten:,} that were read are not written"
        )
        self.cause = cause
        self.result = result


async def plan_load(
    session: Session,
    source: Source,
    tables: Mapping[str | None, TableName],
    options: LoadOptions,
    load_id: str = "",
) -> LoadPlan:
    """Read the tables and check all that can be checked before the first row.

    tables: where the rows of each target go; a source of one table has the target None.
    load_id: of the load that is planned, where it will be run.
    Raises TableError, InputError, ConfigError.
    """
    plans = {}
    for metric, name in tables.items():
        table = await read_table(session, name)
        if not table.may_insert:
            raise TableError(
                f"this role may not insert into table {table.name}; GRANT INSERT ON it first"
            )
        plans[metric] = plan_table(table, metric, options, load_id)
    plan = LoadPlan(options, plans)
    schema = source.schema()
    if schema is not None and None in plans:
        plans[None].shape(schema, source.name)
    if options.writers < (options.parallelism or options.settings.writers):
        plan = plan.noting("one writer: " + options.one_writer_reason)
    for table_plan in plans.values():
        plan = plan.noting(*table_notices(table_plan.table))
        plan = plan.noting(*await sequence_notices(session, table_plan.table))
        if (turns := order_notice(table_plan)) is not None:
            plan = plan.noting(turns)
    return plan


async def load(
    source: Source,
    tables: Mapping[str | None, TableName],
    dsn: str,
    options: LoadOptions,
    *,
    resume: str | None = None,
    on_event: Listener | None = None,
) -> LoadResult:
    """Load every row of a source; see `LoadOptions` for transactions, rejects and retries.

    resume: the id of an earlier load of the same source, to go on with; its counts are in the
    result. Needs the ledger.
    Raises ConfigError, InputError, TableError, ServerError or WriteError where nothing was sent
    yet, LoadError after that. On cancellation the chunks in flight are finished first.
    """
    session = await connect(options.driver_name, dsn)
    try:
        preparing = _prepare(session, source, tables, dsn, options, resume, on_event or _ignore)
        run = await within(session, options.wait_limit_s, preparing)
    except BaseException:
        await session.close()
        raise
    running = asyncio.create_task(run.run())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        run.stop(None)
        await running
        raise


def _fault(error: Exception) -> BatchbenchError:
    """What should never have happened, said so that the load still ends with its accounts."""
    failure = BatchbenchError(
        f"an unexpected {type(error).__name__} stopped the load: this is a bug of batchbench,"
        " please report it"
    )
    failure.__cause__ = error
    return failure


def _ignore(event: Event) -> None:
    """Listen to nothing."""


async def _prepare(
    session: Session,
    source: Source,
    tables: Mapping[str | None, TableName],
    dsn: str,
    options: LoadOptions,
    resume: str | None,
    emit: Listener,
) -> _Run:
    load_id = resume or uuid.uuid4().hex[:12]
    plan = await plan_load(session, source, tables, options, load_id)
    ledger, plan = await _choose_ledger(session, options, plan, resume)
    result = LoadResult(load_id)
    for table_plan in plan.tables.values():
        result.counts(str(table_plan.table.name))
    path = options.dead_letter or LOADS_FOLDER / load_id / "rejects.ndjson"
    dead_letter = DeadLetter(path, load_id)
    accounts = Accounts(result, options, dead_letter, emit)
    parts: list[Part] = []
    epoch = 0
    if ledger is not None:
        fingerprint = source.fingerprint()
        if resume is not None and not fingerprint:
            raise ConfigError(f"{source.name} cannot be read again, so no load of it can resume")
        if resume is not None and not await ledger.known(session, resume):
            raise ConfigError(f"the ledger knows no load {resume}; check the id")
        epoch = await ledger.open_load(session, load_id, fingerprint)
        for table_plan in plan.tables.values():
            if table_plan.once is not None:
                await session.run(create_keys_sql(table_plan.once, table_plan.table))
        parts = await ledger.parts(session, load_id)
        accounts.committed(parts)
    if resume is not None:
        for table, row_count in dead_letter.read_known().items():
            result.counts(table).rejected += row_count
        _check_dead_letter(parts, result, dead_letter)
    surroundings = Surroundings(
        plan=plan,
        dsn=dsn,
        load_id=load_id,
        accounts=accounts,
        policy=retry_policy(options.settings),
        emit=emit,
        ledger=ledger,
        epoch=epoch,
        asks_status=ledger is None and options.exactly_once in ("auto", "status"),
        rng=random.Random(),  # noqa: S311 - jitter
    )
    return _Run(source, surroundings, session, dead_letter, _covered(parts, dead_letter))


async def _choose_ledger(
    session: Session, options: LoadOptions, plan: LoadPlan, resume: str | None
) -> tuple[Ledger | None, LoadPlan]:
    """The ledger, made where it is missing, or None."""
    ledger = Ledger(options.ledger_schema)
    once = options.one_of_each_key is not None
    wanted = options.exactly_once == "ledger" or resume is not None or once
    if not wanted and options.exactly_once != "auto":
        return None, plan
    if await ledger.exists(session):
        return ledger, plan
    if not await ledger.may_create(session):
        if not wanted:
            return None, plan
        raise ConfigError(
            f"this role may not create the ledger in schema {options.ledger_schema}: let someone"
            " who may run a load once and GRANT ALL ON it"
            + (" (dedup keeps its keys there)" if once else ", or use --exactly-once status")
        )
    await ledger.create(session)
    made = f"made the ledger: schema {options.ledger_schema}, tables loads and parts"
    return ledger, plan.noting(made)


def _check_dead_letter(parts: list[Part], result: LoadResult, dead_letter: DeadLetter) -> None:
    """The ledger's spans hold rejected rows too, which only the dead letter names."""
    for table, counts in result.tables.items():
        covered = sum(
            location.row_count for p in parts if p.table == table for location in p.locations
        )
        settled = sum(part.row_count for part in parts if part.table == table)
        if covered - settled > counts.rejected:
            raise ConfigError(
                f"the load rejected {covered - settled:,} rows of table {table} before, and"
                f" {dead_letter.path} has {counts.rejected:,} of them: name its dead letter with"
                " --dead-letter"
            )


Spans = dict[tuple[str, str], list[tuple[int, int]]]


def _covered(parts: list[Part], dead_letter: DeadLetter) -> Spans:
    """(table, source) -> sorted (first row, row count) of what an earlier start has settled."""
    spans: Spans = {}
    for part in parts:
        for location in part.locations:
            span = (location.first_row, location.row_count)
            spans.setdefault((part.table, location.source), []).append(span)
    for table, source, row in dead_letter.known:
        spans.setdefault((table, source), []).append((row, 1))
    for of_source in spans.values():
        of_source.sort()
    return spans


@dataclass(slots=True)
class _Held:
    """A chunk in the queue, and the bytes it holds of the budget."""

    chunk: Chunk
    byte_count: int


class _Run:
    """One load under way."""

    def __init__(
        self,
        source: Source,
        surroundings: Surroundings,
        session: Session,
        dead_letter: DeadLetter,
        covered: Spans,
    ) -> None:
        self._source, self._s, self._covered = source, surroundings, covered
        self._dead_letter = dead_letter
        self._options = surroundings.plan.options
        self._result = surroundings.accounts.result
        limit_bytes = int(self._options.settings.memory_limit_mb * _MIB)
        self._max_read_bytes = max(limit_bytes // 16, 1)
        self._budget = Budget(limit_bytes * 2 // 5)
        self._queue: asyncio.Queue[_Held | None] = asyncio.Queue(self._options.writers)
        self._lanes = Lanes()
        self._pressed = False
        self._idle: set[ChunkWriter] = set()
        self._kept_bytes: dict[ChunkWriter, int] = {}  # of chunks whose transaction is open
        self._said: set[str] = set()
        self._stopping = False
        self._failure: BatchbenchError | None = None
        self._writers = [
            ChunkWriter(surroundings, session if number == 0 else None)
            for number in range(self._options.writers)
        ]

    async def run(self) -> LoadResult:
        """Read, write, account; see `load`."""
        self._s.emit(LoadStarted(self._s.load_id, self._options.driver_name, self._options.writers))
        for text in self._s.plan.notices:
            self._s.emit(Notice(text))
        try:
            await self._connect()
            started = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._produce())
                for writer in self._writers:
                    tasks.create_task(self._write(writer))
            await self._retry_orphans()
            for writer in self._writers:
                await self._finish(writer)
            self._result.seconds = time.perf_counter() - started
            await self._close_ledger()
        finally:
            for writer in self._writers:
                await writer.close()
            self._dead_letter.close()
        return self._end()

    async def _connect(self) -> None:
        """Open all connections; where one cannot be had, the load is stopped at its start."""
        connecting = (writer.connect() for writer in self._writers)
        for outcome in await asyncio.gather(*connecting, return_exceptions=True):
            if isinstance(outcome, BatchbenchError):
                self.stop(outcome)
            elif isinstance(outcome, BaseException):
                raise outcome

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._s.emit(Notice(text))

    def stop(self, failure: BatchbenchError | None) -> None:
        """Let the chunks in flight finish, then end; the first failure counts."""
        self._failure = self._failure or failure
        self._stopping = True

    def _end(self) -> LoadResult:
        result = self._result
        if not self._dead_letter.empty:
            result.dead_letter = self._dead_letter.path
        for counts in result.tables.values():
            counts.unwritten += counts.read - counts.accounted
        if self._ends_well and result.total.unwritten:
            self._failure = BatchbenchError(
                f"{result.total.unwritten:,} rows that were read are in no state: look for the"
                " dead letter of the load that was resumed"
            )
        self._s.emit(LoadEnded(result))
        if self._failure is None:
            return result
        if any(writer.sent for writer in self._writers):
            raise LoadError(self._failure, result) from self._failure
        raise self._failure

    async def _produce(self) -> None:
        """Encode in a thread, hand over within the budget, then tell each writer the end."""
        loop = asyncio.get_running_loop()

        def notice(text: str) -> None:
            loop.call_soon_threadsafe(self._s.emit, Notice(text))

        chunks = encoded_chunks(
            self._source,
            self._s.plan,
            self._result,
            notice,
            self._max_read_bytes,
            lambda table, source: self._covered.get((table, source), []),
        )
        try:
            while not self._stopping:
                chunk = await asyncio.to_thread(next, chunks, None)
                if chunk is None:
                    break
                await self._lanes.enter(chunk)
                if isinstance(self._options.transaction, int):
                    await self._make_room(chunk.held_bytes)
                await self._budget.acquire(chunk.held_bytes)
                await self._queue.put(_Held(chunk, chunk.held_bytes))
        except Exception as error:  # noqa: BLE001 - the same as in _write
            failure = error if isinstance(error, BatchbenchError) else _fault(error)
            # What was read before the failure is good: the writers go on to the end of it.
            self._failure = self._failure or failure
        for _ in self._writers:
            await self._queue.put(None)

    async def _make_room(self, byte_count: int) -> None:
        """Where memory is short, have transactions of several chunks, which keep them to be
        written again, committed early: a writer at work does so next, an idle one here.
        """
        while not self._budget.fits(byte_count):
            self._pressed = True
            idle = [w for w in self._idle if w.keeps_rows] if self._queue.empty() else []
            for writer in idle:
                await self._settle(writer, self._commit_early(writer))
            if not idle:
                await self._budget.changed(byte_count)
        self._pressed = False

    async def _commit_early(self, writer: ChunkWriter) -> None:
        self._say_once("a transaction took fewer chunks: the memory limit was reached")
        await writer.commit()

    async def _settle(
        self, writer: ChunkWriter, step: Awaitable[None], byte_count: int = 0
    ) -> None:
        """Take a step; where it fails, stop. Then give back what the writer no longer keeps."""
        try:
            await step
        except BatchbenchError as error:
            self.stop(error)
        except Exception as error:  # noqa: BLE001 - a fault of ours still owes its accounts
            self.stop(_fault(error))
        kept_bytes = self._kept_bytes.pop(writer, 0) + byte_count
        if writer.keeps_rows and not self._stopping:
            self._kept_bytes[writer], kept_bytes = kept_bytes, 0
        await self._budget.release(kept_bytes)

    async def _write(self, writer: ChunkWriter) -> None:
        """Write chunks until the end; once the load is stopping, only take them off the queue."""
        while (held := await self._next(writer)) is not None:
            await self._settle(writer, self._write_one(writer, held.chunk), held.byte_count)
            await self._lanes.leave(held.chunk)
        # Not later: what is open here holds locks that other writers may wait for.
        if self._options.transaction != "batch":
            await self._finish(writer)

    async def _next(self, writer: ChunkWriter) -> _Held | None:
        self._idle.add(writer)
        held = await self._queue.get()
        self._idle.discard(writer)
        return held

    async def _write_one(self, writer: ChunkWriter, chunk: Chunk) -> None:
        if not self._stopping:
            await writer.write(chunk)
        if not self._stopping and self._pressed and writer.keeps_rows:
            await self._commit_early(writer)

    @property
    def _ends_well(self) -> bool:
        return self._failure is None and not self._stopping

    async def _finish(self, writer: ChunkWriter) -> None:
        """Commit what a whole load left open; one that failed or is stopping rolls it back."""
        if self._ends_well:
            try:
                await writer.commit()
            except BatchbenchError as error:
                self.stop(error)

    async def _retry_orphans(self) -> None:
        """Write rows whose parent was missing as long as that settles some; reject the others."""
        before, writer = -1, self._writers[0]
        while self._ends_well and (count := len(self._s.orphans)):
            try:
                await writer.retry_orphans(last_chance=count == before)
            except BatchbenchError as error:
                self.stop(error)
            if self._options.transaction != "batch":
                await self._finish(writer)
            before = count

    async def _close_ledger(self) -> None:
        """Enter the end; after a recovery or failover, look first whether all is still there."""
        ledger = self._s.ledger
        if ledger is None:
            return
        try:
            session = await reconnect(self._s)
        except BatchbenchError as error:
            self._failure = self._failure or error
            return
        try:
            limit_s = self._options.wait_limit_s
            now = await within(session, limit_s, evidence(session))
            seen = {writer.last_evidence for writer in self._writers} - {None}
            if any(writer.recovered for writer in self._writers) or seen - {now}:
                await within(session, limit_s, self._look_again(ledger, session))
            state = "done" if self._ends_well else "stopped"
            if state == "done":
                for once in filter(None, (p.once for p in self._s.plan.tables.values())):
                    await within(session, limit_s, session.run(drop_keys_sql(once)))
            ending = ledger.close_load(session, self._s.load_id, state)
            await within(session, self._options.wait_limit_s, ending)
        except WriteError as error:
            self._failure = self._failure or error
        finally:
            await session.close()

    async def _look_again(self, ledger: Ledger, session: Session) -> None:
        there = {part.key for part in await ledger.parts(session, self._s.load_id)}
        gone = [part for part in self._s.accounts.acknowledged if part.key not in there]
        if gone:
            self._s.accounts.gone(gone)
            places = "; ".join(str(location) for part in gone for location in part.locations)
            self.stop(
                BatchbenchError(
                    f"the server lost {sum(part.row_count for part in gone):,} rows that it had"
                    f" acknowledged (a failover?): {places}; resume the load to write them again"
                )
            )
