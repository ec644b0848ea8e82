"""One trial: a scratch table in its state, the engine's own load, and a look at what arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from batchbench.drivers import Session, connect
from batchbench.engine import LoadError, LoadResult, load
from batchbench.engine.plan import plan_table
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import ChunkWritten, Event, Notice
from batchbench.harness.arrivals import Arrivals, ArrivingRows
from batchbench.harness.brief import Brief, Prepared, TrialLostError
from batchbench.harness.observe import ClientUse, Observer, open_observer
from batchbench.harness.plan import Trial
from batchbench.harness.producing import Payloads, write_arriving
from batchbench.harness.recording import Outcome, arrival_rate, record_of
from batchbench.harness.state import refill, settle
from batchbench.harness.verify import contents, send_encoded
from batchbench.results import TrialRecord
from batchbench.sources import Source, open_source
from batchbench.table import TableName

DRIVER = "psycopg"
"""Of the harness's own sessions."""

NO_MEMORY = "the client ran out of memory"

Told = Callable[[str], None]


@asynccontextmanager
async def open_runner(brief: Brief, notice: Told) -> AsyncIterator[TrialRunner]:
    """A runner with its connections. Raises ServerError where there is no server."""
    session = await connect(DRIVER, brief.dsn)
    try:
        async with open_observer(brief.dsn, DRIVER) as observer:
            yield TrialRunner(brief, session, observer, notice)
    finally:
        await session.close()


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Runs trials of one plan, one at a time, in this process.

    session: for preparing and verifying. notice: told what the engine says.
    """

    brief: Brief
    session: Session
    observer: Observer
    notice: Told = field(repr=False)

    async def run(self, trial: Trial) -> TrialRecord:
        """Load once. A load that fails, takes too long or lacks memory is a record as well.

        Raises TrialLostError where the server or its session is gone, so that this runner can run
        nothing more; WriteError where the server refuses what prepares or verifies a trial.
        """
        outcome, started_at = Outcome(), datetime.now(UTC)
        try:
            prepared = self.brief.prepared[trial.configuration.table]
            await self._before(trial, prepared)
            started_at = datetime.now(UTC)
            await self._seen(trial, prepared, outcome)
            names = prepared.rows.schema.names
            outcome.found = await contents(self.session, prepared.table.name, names)
        except WriteError as error:
            if not error.fate_unknown:
                raise
            reason = outcome.reason or "the session that verifies"
            raise TrialLostError(f"{reason} ({error})") from error
        outcome.reason = outcome.reason or outcome.differs(prepared, self.brief.plan.filled)
        return record_of(trial, self.brief, started_at, outcome)

    async def _before(self, trial: Trial, prepared: Prepared) -> None:
        """The table as each trial finds it, and the server at rest."""
        plan = self.brief.plan
        await refill(self.session, prepared.table, prepared.filling, prepared.rows.schema.names)
        if plan.regime == "burst":
            # On a server that serves others too, once in a block: a checkpoint costs them.
            checkpoint = self.brief.ours or trial.position == 1
            vacuum = prepared.filling is not None
            await settle(
                self.session,
                prepared.table,
                self.brief.privileges,
                vacuum=vacuum,
                checkpoint=checkpoint,
            )

    async def _seen(self, trial: Trial, prepared: Prepared, outcome: Outcome) -> None:
        """The load, and what is seen of it from outside."""
        table = prepared.table.name
        async with self.observer.trial(table, report=[self.session]) as sight:
            with ClientUse() as use:
                await self._load(trial, prepared, outcome)
            sight.rows = outcome.committed
        sampler_s = 0.0 if sight.sampled is None else sight.sampled.thread_cpu_s
        outcome.use = use.figures(None, None, sampler_s)
        outcome.observed = sight.observed
        for remark in () if sight.observed is None else sight.observed.remarks:
            self.notice(remark)

    async def _load(self, trial: Trial, prepared: Prepared, outcome: Outcome) -> None:
        try:
            async with asyncio.timeout(self.brief.trial_timeout_s):
                if trial.kind == "yardstick":
                    await self._yardstick(prepared, outcome)
                else:
                    await self._engine(trial, prepared, outcome)
                if self.brief.plan.regime == "sustained":
                    started_s = time.perf_counter()
                    await settle(self.session, prepared.table, self.brief.privileges)
                    outcome.settled_s = time.perf_counter() - started_s
        except TimeoutError:
            outcome.reason = f"the load took longer than {self.brief.trial_timeout_s:g} s"
        except LoadError as error:
            starved = isinstance(error.cause.__cause__, MemoryError)
            outcome.reason = NO_MEMORY if starved else str(error)
            outcome.result = error.result
        except BatchbenchError as error:
            outcome.reason = str(error)
        except (MemoryError, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(MemoryError)[1] is not None:
                raise
            outcome.reason = NO_MEMORY

    async def _yardstick(self, prepared: Prepared, outcome: Outcome) -> None:
        """One COPY of bytes that are there, in one transaction: as fast as a client can be."""
        table, columns = prepared.table, prepared.rows.schema.names
        address = self.observer.tagged(self.brief.loading[0.0])
        seconds = await send_encoded(address, table, columns, prepared.encoded)
        result = LoadResult("", seconds=seconds, byte_count=len(prepared.encoded))
        result.chunk_seconds.append(seconds)
        result.counts(prepared.label).committed = prepared.rows.num_rows
        outcome.result, outcome.chunk_rows = result, prepared.rows.num_rows

    async def _engine(self, trial: Trial, prepared: Prepared, outcome: Outcome) -> None:
        options = self.brief.options(trial.configuration)
        name = f"rows of {prepared.label}"
        plan = plan_table(prepared.table, None, options)
        outcome.chunk_rows = plan.shape(prepared.rows.schema, name).chunk_rows
        rate, started_s = arrival_rate(trial, self.brief.plan), time.perf_counter()

        def on_event(event: Event) -> None:
            if isinstance(event, Notice):
                self.notice(prepared.plain(event.text))
            elif isinstance(event, ChunkWritten):
                second = int(time.perf_counter() - started_s)
                outcome.by_second[second] = outcome.by_second.get(second, 0) + event.written
                if isinstance(outcome.arrivals, Arrivals):
                    outcome.arrivals.written(event)

        address = self.observer.tagged(self.brief.loading[trial.configuration.rtt_ms])
        age_ms = trial.flush_age_ms
        if rate is not None and age_ms is not None:
            outcome.arrivals = payloads = Payloads(
                prepared.rows, rate, self.brief.plan.payload_rows
            )
            outcome.result = await write_arriving(
                payloads, prepared.table.name, address, options, age_ms, on_event
            )
            return
        source: Source
        if rate is None:
            source = open_source(prepared.rows, name=name)
        else:
            source = ArrivingRows(prepared.rows, name, rate, outcome.chunk_rows)
            outcome.arrivals = Arrivals(source)
        targets: dict[str | None, TableName] = {None: prepared.table.name}
        loading = load(source, targets, address, options, on_event=on_event)
        outcome.result = await _arriving(loading, source)


async def _arriving(loading: Coroutine[None, None, LoadResult], source: Source) -> LoadResult:
    """Await a load; where that is cancelled, let its rows arrive no more, so that it can end."""
    if not isinstance(source, ArrivingRows):
        return await loading
    task = asyncio.create_task(loading)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        source.end()
        task.cancel()
        await asyncio.wait([task])
        raise
