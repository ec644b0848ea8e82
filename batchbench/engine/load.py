"""Run a load: one thread reads and encodes, writers send, every row is accounted for."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from batchbench.accounting import LoadResult
from batchbench.drivers import Session, connect, read_table
from batchbench.engine.chunks import Chunk, encoded_chunks
from batchbench.engine.plan import LoadOptions, LoadPlan, ShapePlan, plan_table
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import ChunkWritten, Event, Listener, LoadEnded, LoadStarted, Notice
from batchbench.memory import Budget
from batchbench.sources import Source
from batchbench.strategies import OnConflict
from batchbench.table import TableName

_MIB = 1 << 20


async def plan_load(
    session: Session,
    source: Source,
    tables: Mapping[str | None, TableName],
    options: LoadOptions,
) -> LoadPlan:
    """Read the tables and check all that can be checked before the first row.

    tables: where the rows of each target go; a source of one table has the target None.
    Raises TableError, InputError, ConfigError.
    """
    plans = {
        metric: plan_table(await read_table(session, name), metric, options)
        for metric, name in tables.items()
    }
    plan = LoadPlan(options, plans)
    schema = source.schema()
    if schema is not None and None in plans:
        plans[None].shape(schema, source.name)
    if options.writers < (options.parallelism or options.settings.writers):
        plan = plan.noting("one writer: " + options.one_writer_reason)
    for table_plan in plans.values():
        if table_plan.table.unlogged:
            plan = plan.noting(
                f"table {table_plan.table.name} is UNLOGGED: a crash of the server empties it"
            )
    return plan


async def load(
    source: Source,
    tables: Mapping[str | None, TableName],
    dsn: str,
    options: LoadOptions,
    *,
    on_event: Listener | None = None,
) -> LoadResult:
    """Load every row of a source.

    Transactions: as `options.transaction` says; a failure stops the load, rolls back what is
    open and leaves what is committed.
    Raises ConfigError, InputError, TableError, ServerError or WriteError where nothing was sent
    yet, LoadError after that. On cancellation the chunks in flight are finished first.
    """
    session = await connect(options.driver_name, dsn)
    try:
        plan = await plan_load(session, source, tables, options)
        run = _Run(source, plan, dsn, session, on_event or _ignore)
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


def _ignore(event: Event) -> None:
    """Listen to nothing."""


@dataclass(slots=True)
class _Written:
    """A chunk that the server took, in a transaction that is still open."""

    chunk: Chunk
    written: int


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


class _Run:
    """One load under way."""

    def __init__(
        self, source: Source, plan: LoadPlan, dsn: str, session: Session, emit: Listener
    ) -> None:
        self._source, self._plan, self._dsn, self._emit = source, plan, dsn, emit
        self._first_session = session
        self._result = LoadResult(uuid.uuid4().hex[:12])
        for table_plan in plan.tables.values():
            self._result.counts(str(table_plan.table.name))
        limit_bytes = int(plan.options.settings.memory_limit_mb * _MIB)
        self._max_read_bytes = max(limit_bytes // 16, 1)
        self._budget = Budget(limit_bytes // 2)
        self._queue: asyncio.Queue[Chunk | None] = asyncio.Queue(plan.options.writers)
        self._stopping = False
        self._failure: BatchbenchError | None = None
        self._sent = False

    async def run(self) -> LoadResult:
        """Read, write, account; see `load`."""
        options, result = self._plan.options, self._result
        started = time.perf_counter()
        self._emit(LoadStarted(result.load_id, options.driver_name, options.writers))
        for text in self._plan.notices:
            self._emit(Notice(text))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._produce())
            for number in range(options.writers):
                tasks.create_task(self._writer(self._first_session if number == 0 else None))
        result.seconds = time.perf_counter() - started
        for counts in result.tables.values():
            counts.unwritten += counts.read - counts.accounted
        self._emit(LoadEnded(result))
        if self._failure is None:
            return result
        if self._sent:
            raise LoadError(self._failure, result) from self._failure
        raise self._failure

    def stop(self, failure: BatchbenchError | None) -> None:
        """Let the chunks in flight finish, then end; the first failure counts."""
        self._failure = self._failure or failure
        self._stopping = True

    async def _produce(self) -> None:
        """Encode in a thread, hand over within the budget, then tell each writer the end."""
        loop = asyncio.get_running_loop()

        def notice(text: str) -> None:
            loop.call_soon_threadsafe(self._emit, Notice(text))

        chunks = encoded_chunks(
            self._source, self._plan, self._result, notice, self._max_read_bytes
        )
        try:
            while not self._stopping:
                chunk = await asyncio.to_thread(next, chunks, None)
                if chunk is None:
                    break
                await self._budget.acquire(_held(chunk))
                await self._queue.put(chunk)
        except BatchbenchError as error:
            # What was read before the failure is good: the writers go on to the end of it.
            self._failure = self._failure or error
        for _ in range(self._plan.options.writers):
            await self._queue.put(None)

    async def _writer(self, session: Session | None) -> None:
        """Write chunks until the end; once the load is stopping, only take them off the queue."""
        try:
            session = session or await connect(self._plan.options.driver_name, self._dsn)
        except BatchbenchError as error:
            self.stop(error)
        open_chunks: list[_Written] = []
        prepared: set[ShapePlan] = set()
        while (chunk := await self._queue.get()) is not None:
            try:
                if session is not None and not self._stopping:
                    await self._write(session, chunk, open_chunks, prepared)
            except BatchbenchError as error:
                self.stop(error)
            await self._budget.release(_held(chunk))
        if session is not None:
            await self._finish(session, open_chunks)

    async def _finish(self, session: Session, open_chunks: list[_Written]) -> None:
        """Commit what a whole load left open; a load that failed or is stopping rolls it back."""
        try:
            if open_chunks and self._failure is None and not self._stopping:
                await self._commit(session, open_chunks)
            await session.rollback()
        except BatchbenchError as error:
            self.stop(error)
            session.abort()
        await session.close()

    async def _write(
        self,
        session: Session,
        chunk: Chunk,
        open_chunks: list[_Written],
        prepared: set[ShapePlan],
    ) -> None:
        started = time.perf_counter()
        plan, row_count = chunk.shape.chunk_plan, chunk.payload.row_count
        try:
            if not open_chunks and chunk.shape not in prepared:
                await plan.prepare(session)
                prepared.add(chunk.shape)
            if not open_chunks:
                await session.begin()
            self._sent = True
            written = await plan.write(session, chunk.payload, full=chunk.full)
            open_chunks.append(_Written(chunk, written))
            if self._transaction_is_full(open_chunks):
                await self._commit(session, open_chunks)
        except WriteError as error:
            error.add_place(str(chunk.location))
            raise
        seconds = time.perf_counter() - started
        self._result.chunk_seconds.append(seconds)
        self._result.byte_count += chunk.payload.byte_count
        self._emit(
            ChunkWritten(
                chunk.table,
                chunk.location,
                row_count,
                written,
                chunk.payload.byte_count,
                seconds,
            )
        )

    def _transaction_is_full(self, open_chunks: Sequence[_Written]) -> bool:
        transaction = self._plan.options.transaction
        if isinstance(transaction, int):
            return len(open_chunks) >= transaction
        return transaction == "chunk"

    async def _commit(self, session: Session, open_chunks: list[_Written]) -> None:
        await session.commit()
        for done in open_chunks:
            counts = self._result.counts(done.chunk.table)
            counts.committed += done.written
            left = done.chunk.payload.row_count - done.written
            if self._plan.options.on_conflict is OnConflict.ERROR:
                counts.skipped_by_server += left
            else:
                counts.duplicates += left
        open_chunks.clear()


def _held(chunk: Chunk) -> int:
    """Bytes that a chunk holds while in flight: what was read, and what it became."""
    return 2 * chunk.payload.byte_count
