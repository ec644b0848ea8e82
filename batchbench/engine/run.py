"""A load under way: one task reads and encodes in a thread, writers send, all is accounted for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from batchbench.accounting import LoadResult
from batchbench.deadletter import DeadLetter
from batchbench.drivers import Session, within
from batchbench.engine.blocking import until
from batchbench.engine.chunks import Chunk
from batchbench.engine.fate import look
from batchbench.engine.guilt import failure_to_say
from batchbench.engine.lanes import Lanes
from batchbench.engine.occupancy import Occupancy
from batchbench.engine.reading import Step, encoded_steps, in_memory
from batchbench.engine.sizes import Sizes
from batchbench.engine.surroundings import Surroundings, reconnect
from batchbench.engine.writing import ChunkWriter
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import LoadEnded, LoadStarted, Notice
from batchbench.ledger import Ledger
from batchbench.memory import Budget
from batchbench.sources import Source
from batchbench.strategies.once import drop_keys_sql
from batchbench.wire.rows import RowStream

_MIB = 1 << 20

Spans = dict[tuple[str, str], list[tuple[int, int]]]


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


@dataclass(slots=True)
class _Held:
    """A chunk in the queue, and the bytes it holds of the budget. number: see `Occupancy`."""

    chunk: Chunk
    byte_count: int
    number: int


class Run:
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
        self._budget = Budget(limit_bytes * 3 // 10)
        self._queue: asyncio.Queue[_Held | None] = asyncio.Queue()
        self._room = asyncio.Semaphore(self._options.writers - 1)
        self._lanes = Lanes()
        self._sizes = Sizes(self._options.writers, self._budget.limit_bytes, surroundings.emit)
        self._occupancy = Occupancy(
            surroundings.load_id, surroundings.plan, self._budget, surroundings.emit
        )
        self._last: RowStream | None = None
        self._pressed = False
        self._idle: set[ChunkWriter] = set()
        self._kept_bytes: dict[ChunkWriter, int] = {}  # of chunks whose transaction is open
        self._said: set[str] = set()
        self._stopping, self._stopped = False, asyncio.Event()
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
            started = time.perf_counter()
            self._s.gate.begin()
            async with asyncio.TaskGroup() as tasks:
                # Each writer's first question is sent before the encoder keeps Python busy.
                connecting = asyncio.gather(
                    *(writer.connect() for writer in self._writers), return_exceptions=True
                )
                tasks.create_task(self._produce())
                self._see_connected(await connecting)
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
            await self._s.gate.close()
            self._dead_letter.close()
        return self._end()

    def _see_connected(self, outcomes: Sequence[BaseException | None]) -> None:
        """Where a connection cannot be had, the load is stopped at its start."""
        for outcome in outcomes:
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
        self._stopped.set()
        self._s.gate.stop()

    def _end(self) -> LoadResult:
        # Who was left in the middle of a read goes on to count, but not into this.
        tables = {table: replace(of) for table, of in list(self._result.tables.items())}
        result = replace(self._result, tables=tables)
        if not self._dead_letter.empty:
            result.dead_letter = self._dead_letter.path
        for table, counts in result.tables.items():
            unwritten = counts.read - counts.accounted
            counts.unwritten += unwritten
            self._s.accounts.settled(table, "unwritten", unwritten)
        result.chunk_sizes = self._sizes.ended()
        self._s.accounts.settled("", "not_loaded", result.total.not_loaded)
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

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        """Read and encode: in a thread; Python rows, which keep the interpreter to themselves, here
        between two looks at the network, as long as that takes short steps.
        """
        loop = asyncio.get_running_loop()

        def notice(text: str) -> None:
            loop.call_soon_threadsafe(self._s.emit, Notice(text))

        steps = encoded_steps(
            self._source,
            self._s.plan,
            self._result,
            notice,
            self._max_read_bytes,
            lambda table, source: self._covered.get((table, source), []),
            self._sizes.of,
        )
        if in_memory(self._source):
            for step in steps:
                if step is Step.LONG:
                    break
                if isinstance(step, Chunk):
                    yield step
                else:
                    await asyncio.sleep(0)
            else:
                return
        chunks = (step for step in steps if isinstance(step, Chunk))
        async with aclosing(until(self._stopped, chunks)) as ready:
            async for chunk in ready:
                yield chunk

    async def _produce(self) -> None:
        """Hand chunks over within the budget, then tell each writer the end."""
        try:
            async with aclosing(self._chunks()) as ready:
                async for chunk in ready:
                    if self._stopping:
                        break
                    await self._hand_over(chunk)
                    del chunk
                    # Before the next is taken, which may be ready: one more would wait in memory.
                    await self._room.acquire()
        except Exception as error:  # noqa: BLE001 - the same as in _write
            # What was read before the failure is good: the writers go on to the end of it.
            self._failure = self._failure or failure_to_say(error)
        for _ in self._writers:
            await self._queue.put(None)

    async def _hand_over(self, chunk: Chunk) -> None:
        """Queue a chunk once it may go and fits into memory."""
        number = self._occupancy.waits()
        self._sizes.hold(chunk)
        if self._options.writers > 1:  # one alone keeps the order anyway
            await self._lanes.enter(chunk)
        held_bytes = chunk.held_bytes
        if isinstance(self._options.transaction, int):
            await self._make_room(held_bytes)
        await self._budget.acquire(held_bytes)
        self._tell_before(chunk)
        await self._queue.put(_Held(chunk, held_bytes, number))

    def _tell_before(self, chunk: Chunk) -> None:
        """Let the rows that were handed over before this chunk's know what is sent after them."""
        stream = chunk.payload.stream if chunk.payload is not None else None
        before, self._last = self._last, stream if isinstance(stream, RowStream) else None
        if before is not None:
            before.following = self._last

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
        except Exception as error:  # noqa: BLE001 - a fault of ours still owes its accounts
            self.stop(failure_to_say(error))
        kept_bytes = self._kept_bytes.pop(writer, 0) + byte_count
        if writer.keeps_rows and not self._stopping:
            self._kept_bytes[writer], kept_bytes = kept_bytes, 0
        await self._budget.release(kept_bytes)

    async def _write(self, writer: ChunkWriter) -> None:
        """Write chunks until the end; once the load is stopping, only take them off the queue."""
        while (held := await self._next(writer)) is not None:
            self._occupancy.taken(held.number)
            await self._settle(writer, self._write_one(writer, held.chunk), held.byte_count)
            self._occupancy.done()
            await self._lanes.leave(held.chunk)
        # Not later: what is open here holds locks that other writers may wait for.
        if self._options.transaction != "batch":
            await self._finish(writer)

    async def _next(self, writer: ChunkWriter) -> _Held | None:
        self._idle.add(writer)
        held = await self._queue.get()
        self._room.release()
        self._idle.discard(writer)
        return held

    async def _write_one(self, writer: ChunkWriter, chunk: Chunk) -> None:
        if not self._stopping:
            async with self._s.gate.turn(chunk.row_count, chunk.content.held_bytes):
                if not self._stopping:
                    await writer.write(chunk)
                    self._sizes.wrote(chunk, writer.times.seconds)
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
        session = self._writers[0].idle_session
        if session is not None:
            # That it still answers proves that the server has not gone through recovery since.
            # Through a pooler another server may have taken over behind it: that is asked.
            try:
                evidence = self._writers[0].last_evidence
                if not session.owns_backend:
                    seen = await within(session, self._options.wait_limit_s, look(session))
                    evidence = seen.evidence
                await self._enter_end(ledger, session, evidence)
                return
            except WriteError as error:
                if not error.fate_unknown:
                    self._failure = self._failure or error
                    return
        try:
            session = await reconnect(self._s)
        except BatchbenchError as error:
            self._failure = self._failure or error
            return
        try:
            now = await within(session, self._options.wait_limit_s, look(session))
            await self._enter_end(ledger, session, now.evidence)
        except WriteError as error:
            self._failure = self._failure or error
        finally:
            await session.close()

    async def _enter_end(self, ledger: Ledger, session: Session, now: str | None) -> None:
        """now: the evidence that the server shows on this session."""
        limit_s = self._options.wait_limit_s
        seen = {writer.last_evidence for writer in self._writers} - {None}
        if any(writer.recovered for writer in self._writers) or seen - {now}:
            await within(session, limit_s, self._look_again(ledger, session))
        state = "done" if self._ends_well else "stopped"
        if state == "done":
            for once in filter(None, (p.once for p in self._s.plan.tables.values())):
                await within(session, limit_s, session.run(drop_keys_sql(once)))
        ending = ledger.close_load(session, self._s.load_id, state)
        await within(session, limit_s, ending)

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
