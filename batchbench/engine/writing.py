"""One writer: a connection, its transactions, and what to do when they fail.

A chunk is written in spans, at first one. A span that fails for its own sake (a row, its size) is
split until the guilty rows stand alone, between savepoints, so that a chunk's good rows are still
committed together. A transaction that fails for another's sake is written again on a fresh
connection. A COMMIT whose answer was lost is settled before anything is sent again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Sequence
from typing import TypeVar

from batchbench.drivers import Session, read_table, within
from batchbench.engine.accounts import Span
from batchbench.engine.chunks import Chunk
from batchbench.engine.fate import Backend, Fate, fence, look, look_inside, transaction_status
from batchbench.engine.guilt import failure_of
from batchbench.engine.plan import ShapePlan
from batchbench.engine.surroundings import Surroundings, reconnect, tell_slow_commit
from batchbench.engine.times import ChunkTimes
from batchbench.errors import BatchbenchError, Failure, TableError, WriteError
from batchbench.events import ChunkRetried, ChunkSplit, ChunkWritten
from batchbench.ledger import Part

T = TypeVar("T")

_PARTS = 8
"""Into how many a failed span is split: one bad row of n then sends about n/7 rows again beside
the n of the first failure; halves would send another n."""

_DEATHS = 2
"""A span whose connection died so often is taken for too big: a message of 1 GiB closes it."""

_FATE_TRIES = 3
_FOREIGN_KEY = "23503"
_PROTOCOL = "08P01"
_SAVEPOINT = "batchbench_span"
_WEAK_MODES = ("off", "local", "remote_write")
_ASK_CONSTRAINTS_SQL = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; "
_STRONG_SQL = (
    "SELECT pg_catalog.set_config('synchronous_commit', 'on', true) WHERE"
    f" pg_catalog.current_setting('synchronous_commit') IN {_WEAK_MODES}"
)


class ChunkWriter:
    """Writes chunks; used by one task at a time.

    Where a method raises, the load has to stop: nothing is half-committed, and `close` rolls back
    what is open.
    """

    def __init__(self, surroundings: Surroundings, session: Session | None) -> None:
        self._s = surroundings
        self._options = surroundings.plan.options
        self._session = session
        self._backend: Backend | None = None
        self._begin_sql = ""
        self._xid = ""
        self._in_transaction = False
        self._has_turn = False  # see turns
        self._at_savepoint = False  # of the span under way
        self._last_seen: Backend | None = None
        self._suspect: Backend | None = None
        self._parts: list[Part] = []  # of the open transaction
        self._guards: dict[ShapePlan, str] = {}  # the same: statements to run ahead of its COMMIT
        self._replay: list[Span] = []  # the same, where they can be written again
        self._chunks_open = 0
        self._together: Sequence[Chunk] = ()  # where the caller says what one transaction takes
        self._prepared: set[ShapePlan] = set()
        self._retries = self._deaths = 0
        self._written = 0  # rows that are committed, or in the open transaction
        self.times = ChunkTimes()
        self._stale = self._careful = self.recovered = self.sent = False

    async def connect(self) -> None:
        """Open the connection ahead of the first chunk."""
        await self._connected()

    async def write(self, chunk: Chunk) -> None:
        """Write a chunk's rows and settle what became of them; commit a full transaction."""
        started, before = time.perf_counter(), self._written
        await self._s.accounts.take(chunk)
        for orphan in self._s.orphans.overtaken_by(chunk):
            await self._s.accounts.reject(orphan.span, orphan.error)
        if chunk.row_count:
            await self._write_all(deque([Span(chunk, 0, chunk.row_count)]))
        byte_count = chunk.payload.byte_count if chunk.payload is not None else 0
        self._chunks_open += 1
        written_s = committed_s = time.perf_counter()
        if self._chunks_open >= self._chunks_together:
            await self.commit()
            committed_s = time.perf_counter()
        seconds = committed_s - started
        self.times.take(started, written_s, committed_s, self._chunks_together)
        self._s.accounts.took(seconds, byte_count)
        written = self._written - before
        self._s.emit(
            ChunkWritten(
                *(chunk.table, chunk.location, chunk.read_count, written, byte_count, seconds),
                chunk_rows=chunk.chunk_rows,
            )
        )

    async def write_together(self, chunks: Sequence[Chunk]) -> None:
        """Write chunks of one or more tables in a transaction of their own, and commit it; no
        other's may be open. Writers that take tables in the same order wait for each other's rows,
        and never in a ring.
        """
        self._together = chunks
        for chunk in chunks:
            await self.write(chunk)
        self._together = ()

    @property
    def idle_session(self) -> Session | None:
        """The connection, where there is one with no transaction open."""
        return None if self._in_transaction else self._session

    @property
    def last_evidence(self) -> str | None:
        """What the server showed of itself when the connection began; see `fate.evidence`."""
        return self._last_seen.evidence if self._last_seen is not None else None

    @property
    def keeps_rows(self) -> bool:
        """Whether chunks of the open transaction are kept, to be written again if it fails."""
        return bool(self._replay)

    async def retry_orphans(self, *, last_chance: bool) -> None:
        """Try the rows whose parent was missing once more; those that fail stay orphans, or are
        rejected at their last chance. To be called when all writers have committed: the parents
        may be theirs.
        """
        orphans = deque(orphan.span for orphan in self._s.orphans.take())
        await self._write_all(orphans, last_chance=last_chance)

    async def commit(self) -> None:
        """Commit the open transaction, if any; write it again where that failed."""
        while self._in_transaction:
            try:
                await self._commit()
            except WriteError as error:
                if self._uses_savepoints and error.failure is Failure.ROW:
                    raise  # every span was asked for its constraints: whose it is cannot be told
                todo: deque[Span] = deque()
                await self._recover(error, todo)
                await self._write_all(todo)
        self._chunks_open = 0
        self._careful = False

    async def undo(self) -> None:
        """Roll back what is open; the next chunk begins anew."""
        await self._reset(broken=False)
        self._chunks_open, self._together, self._careful = 0, (), False

    async def close(self) -> None:
        """Roll back what is open, and close the connection."""
        await self._reset(broken=False)
        self._s.backends.pop(self, None)
        if self._session is not None:
            await self._session.close()

    # --- spans and transactions -----------------------------------------------------------

    async def _write_all(self, todo: deque[Span], *, last_chance: bool = False) -> None:
        while todo:
            try:
                rest = await self._write_span(todo[0])
                todo.popleft()
                todo.extendleft(reversed(rest))
            except WriteError as error:
                await self._recover(error, todo, last_chance=last_chance)

    async def _write_span(self, span: Span) -> list[Span]:
        """Write what can be sent as it is; give back the rest, ready to be written."""
        session = await self._ready(span.chunk.shape)
        if not self._in_transaction:
            await self._begin(session)
        if self._uses_savepoints:
            await self._within(session.run(f"SAVEPOINT {_SAVEPOINT}"))
            self._at_savepoint = True
        payload = span.chunk.payload
        if payload is None or span.row_count < span.chunk.row_count:  # may fail, as a row does
            payload = await asyncio.to_thread(span.chunk.encode, span.offset, span.row_count)
        plan, full = span.chunk.shape.chunk_plan, span.row_count == span.chunk.chunk_rows
        self.sent = True
        alone = not (self._chunks_together > 1 or self._uses_savepoints or session.nested)
        written = await self._within(plan.write(session, payload, full=full, alone=alone))
        if not 0 <= written.row_count <= span.row_count:  # the accounts would be wrong
            raise BatchbenchError(
                f"table {span.chunk.table}: the server says that it wrote {written.row_count:,} of"
                f" {span.row_count:,}; nothing of this transaction was committed"
            )
        if self._uses_savepoints:  # a constraint that waits for the COMMIT would fail all spans
            asked = "" if session.nested else _ASK_CONSTRAINTS_SQL  # theirs may wait for more
            await self._within(session.run(f"{asked}RELEASE SAVEPOINT {_SAVEPOINT}"))
            self._at_savepoint = False
        span, rest = span.cut(payload.sent_rows)
        if span.row_count:
            self._written += written.row_count
            self._s.accounts.wrote(span, written)
            if span.chunk.shape not in self._guards:
                self._guards[span.chunk.shape] = plan.guard
            self._parts.append(span.part(written))
            if self._options.transaction != "batch":
                self._replay.append(span)
        return [] if rest is None else await self._s.accounts.look_at(rest)

    @property
    def _chunks_together(self) -> float:
        """Chunks that one transaction takes."""
        if self._together:
            return len(self._together)
        transaction = self._options.transaction
        if isinstance(transaction, int):
            return transaction
        return 1 if transaction == "chunk" else float("inf")

    @property
    def _uses_savepoints(self) -> bool:
        return self._careful or (self._options.skips_rejects and self._chunks_together > 1)

    async def _begin(self, session: Session) -> None:
        if self._options.newer_by is not None:  # else chunks that share keys are kept apart
            again = len(self._together) > len({chunk.table for chunk in self._together})
            await self._s.turns.enter(alone=self._careful or again)
            self._has_turn = True
        await self._within(session.begin(self._begin_sql))
        self._in_transaction = True
        if session.nested:
            return
        if not session.owns_backend and self._last_seen is not None:
            self._see(await self._within(look_inside(session, self._last_seen)))
            self._xid = self._last_seen.xid
        elif self._s.asks_status:
            rows = await self._within(session.fetch("SELECT pg_catalog.pg_current_xact_id()::text"))
            self._xid = rows[0][0] or ""

    async def _commit(self) -> None:
        if self._session is None:
            raise AssertionError("a transaction is open, so there is a session")
        if not self._parts:  # every row was rejected
            await self._reset(broken=False)
            return
        records = list(dict.fromkeys(filter(None, self._guards.values())))
        if self._s.ledger is not None:
            records.append(self._s.ledger.claim_sql(self._s.load_id, self._s.epoch))
            records += [self._s.ledger.record_sql(self._s.load_id, part) for part in self._parts]
        waiting = asyncio.create_task(tell_slow_commit(self._s, self._backend))
        try:
            await self._within(self._session.commit("; ".join(records)))
        except WriteError as error:
            if not error.fate_unknown or self._session.nested:
                raise
            if await self._lost_commit() is Fate.ABORTED:
                raise
        except BaseException:  # cancelled at once, or a fault of ours: nobody has looked
            self._s.accounts.unknown(self._parts)
            raise
        else:
            self._s.accounts.committed(self._parts)
        finally:
            waiting.cancel()
        await self._forget_transaction()
        self._retries = self._deaths = 0
        self._stale = False

    async def _forget_transaction(self) -> None:
        self._in_transaction = self._at_savepoint = False
        self._parts, self._replay = [], []
        self._guards.clear()
        if self._has_turn:
            self._has_turn = False
            await self._s.turns.leave()

    async def _lost_commit(self) -> Fate:
        """Settle a COMMIT whose answer was lost; count it unless it was aborted."""
        backend, fate = self._backend, Fate.UNKNOWN
        try:
            for _ in range(_FATE_TRIES):
                await self._drop()
                try:
                    fate = await self._ask_fate(await self._connected(), backend)
                    break
                except WriteError:  # that connection broke too
                    continue
        finally:
            if fate is Fate.COMMITTED:
                self._s.accounts.committed(self._parts)
            elif fate is Fate.UNKNOWN:
                self._s.accounts.unknown(self._parts)
        return fate

    async def _ask_fate(self, session: Session, backend: Backend | None) -> Fate:
        if backend is None:
            return Fate.UNKNOWN
        gone = await self._within(fence(session, backend))
        if self._s.ledger is not None:
            found = await self._within(self._s.ledger.has(session, self._s.load_id, self._parts[0]))
            if found:
                return Fate.COMMITTED
            return Fate.ABORTED if gone else Fate.UNKNOWN
        if self._s.asks_status and gone:
            return await self._within(transaction_status(session, self._xid, backend))
        return Fate.UNKNOWN

    # --- failures ---------------------------------------------------------------------------

    async def _recover(
        self, error: WriteError, todo: deque[Span], *, last_chance: bool = False
    ) -> None:
        """Get ready to go on with `todo`, whose first span failed, or raise."""
        failure = self._failure(error, todo)
        self.times.failed(by_row=failure is Failure.ROW)
        if todo:
            error.add_place(str(todo[0].locations[0]))
        lost: list[Span] = []
        try:
            kept = await self._to_savepoint(failure)
        except WriteError as broken:
            error, failure, kept = broken, broken.failure, False
        if not kept:
            if self._options.transaction == "batch" and self._parts:
                raise error
            lost = self._replay
            # A connection that is not ours is asked first whether it is broken.
            ours = self._session is None or self._session.keeps_state
            await self._reset(broken=error.fate_unknown and ours)
        match failure:
            case Failure.ROW if todo and self._options.skips_rejects:
                await self._narrow(error, todo, last_chance=last_chance)
            case Failure.ROW if lost and self._options.skips_rejects:
                self._careful = True  # the COMMIT failed: each span is asked when it is rewritten
            case Failure.TOO_BIG if todo and todo[0].row_count > 1:
                self._careful = True
                self._split(error, todo)
            case Failure.TOO_BIG if any(span.row_count > 1 for span in lost):
                self._careful = True  # the COMMIT itself was too much
                lost = [part for span in lost for part in span.split(_PARTS, None)]
            case Failure.TRANSIENT:
                await self._wait(error, todo, lost)
            case Failure.STALE if not self._stale:
                await self._check_table(error, [*todo, *lost])
            case _:
                raise error
        todo.extendleft(reversed(lost))

    def _failure(self, error: WriteError, todo: deque[Span]) -> Failure:
        if self._s.ledger is not None and self._s.ledger.owns(error):
            return Failure.FATAL
        if error.sqlstate == _PROTOCOL and self._session and not self._session.owns_backend:
            return Failure.TRANSIENT  # PgBouncer's word for a server connection that broke
        return failure_of(error, todo[0] if todo else None, looked=self._stale)

    async def _to_savepoint(self, failure: Failure) -> bool:
        """Keep the open transaction, where only its last span failed."""
        own = failure in (Failure.ROW, Failure.TOO_BIG)
        if self._together and self._has_turn and not self._careful:  # begun beside others
            return False
        if not (own and self._at_savepoint and self._session):
            return False
        await self._within(
            self._session.run(f"ROLLBACK TO {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
        )
        self._at_savepoint = False
        return True

    async def _narrow(self, error: WriteError, todo: deque[Span], *, last_chance: bool) -> None:
        """Reject the only row of a span, or split the span around the guilty one."""
        self._careful = True
        if todo[0].row_count > 1:
            self._split(error, todo)
            return
        span = todo.popleft()
        waits = error.sqlstate == _FOREIGN_KEY and not last_chance
        if not (waits and self._s.orphans.keep(span, error)):
            await self._s.accounts.reject(span, error)

    def _split(self, error: WriteError, todo: deque[Span]) -> None:
        span = todo.popleft()
        guilty = error.line - 1 if error.line is not None else None
        parts = span.split(_PARTS, guilty)
        todo.extendleft(reversed(parts))
        self._s.emit(
            ChunkSplit(
                span.chunk.table, span.locations[0], error.sqlstate, span.row_count, len(parts)
            )
        )

    async def _wait(self, error: WriteError, todo: deque[Span], lost: list[Span]) -> None:
        self._retries += 1
        self._deaths += error.fate_unknown
        if self._deaths >= _DEATHS and todo and todo[0].row_count > 1:
            self._deaths = 0
            self._split(error, todo)
        if self._retries > self._s.policy.max_retries:
            raise error
        delay_s = self._s.policy.delay_s(self._retries, self._s.rng)
        self._s.accounts.result.retries += 1
        for span in [*todo, *lost][:1]:  # where the COMMIT failed, all is to be written again
            where = span.chunk.table, span.locations[0]
            self._s.emit(ChunkRetried(*where, error.sqlstate, self._retries, delay_s))
        await asyncio.sleep(delay_s)

    async def _check_table(self, error: WriteError, spans: list[Span]) -> None:
        """Forget prepared statements and read the tables again, once."""
        self._stale = True
        if self._session is not None and self._session.keeps_state:
            await self._drop()
        session = await self._connected()
        for planned in {span.chunk.shape.table for span in spans}:
            if await self._within(read_table(session, planned.name)) != planned:
                raise TableError(
                    f"table {planned.name} was changed during the load; the rows so far went into"
                    " the old one: look at them, then load the rest anew"
                ) from error

    # --- the connection ---------------------------------------------------------------------

    async def _ready(self, shape: ShapePlan) -> Session:
        """A session on which chunks of this shape can be written."""
        session = await self._connected()
        if shape not in self._prepared:
            await self._within(shape.chunk_plan.prepare(session))
            self._prepared.add(shape)
        return session

    async def _connected(self) -> Session:
        if self._session is None:
            self._session = await reconnect(self._s)
        if self._backend is None:
            await self._introduce(self._session)
            await self._fence_suspect(self._session)
        return self._session

    async def _fence_suspect(self, session: Session) -> None:
        """End the backend of a connection that broke in a transaction: it may live on and hold
        the locks that the same rows need now.
        """
        if self._suspect is not None:
            await self._within(fence(session, self._suspect))
            self._suspect = None

    async def _introduce(self, session: Session) -> None:
        """See who serves us, whether the server went through recovery, how it commits."""
        seen = await self._within(look(session))
        self._see(seen)
        settings = []
        # Through a pooler the next transaction may be another's to serve, set otherwise.
        weak = seen.commit_mode in _WEAK_MODES or not session.owns_backend
        if self._options.durability == "full" and weak and not session.nested:
            settings.append(_STRONG_SQL)
        if self._s.ledger is not None:
            settings.append(self._s.ledger.hold_sql(self._s.load_id))
        self._begin_sql = "; ".join(settings)

    def _see(self, backend: Backend) -> None:
        before, self._last_seen = self._last_seen, backend
        self._backend = backend
        self._s.backends[self] = backend.pid
        if before is not None and before.evidence != backend.evidence:
            self.recovered = True

    async def _reset(self, *, broken: bool) -> None:
        """Roll back; a connection that is broken, or breaks at it, is given up."""
        if self._session is not None and not broken:
            try:
                await self._within(self._session.rollback())
            except WriteError:
                broken = True
        if broken:
            await self._drop()
        self._prepared.clear()
        self._written -= sum(part.committed for part in self._parts)
        await self._forget_transaction()

    async def _drop(self) -> None:
        """Give up the connection."""
        if self._in_transaction and self._backend is not None:
            self._suspect = self._backend
        session, self._session, self._backend = self._session, None, None
        self._s.backends.pop(self, None)
        self._prepared.clear()
        if session is not None:
            session.abort()
            await session.close()
            if session.nested:  # all of their transaction is gone with the connection
                self._s.accounts.gone(self._s.accounts.acknowledged)
                self._s.accounts.acknowledged.clear()

    async def _within(self, step: Awaitable[T]) -> T:
        """Await an answer of the session, for as long as the options allow."""
        if self._session is None:
            return await step
        return await within(self._session, self._options.wait_limit_s, step)
