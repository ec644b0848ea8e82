"""One trial: a scratch table in its state, the engine's own load, and a look at what arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.drivers import Session
from batchbench.engine import LoadError, LoadOptions, LoadResult, load
from batchbench.engine.plan import plan_table
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import ChunkWritten, Event, Notice
from batchbench.harness.plan import Configuration, SweepPlan, Trial
from batchbench.harness.process import Footprint
from batchbench.harness.seen import seen_since, wal_position
from batchbench.harness.state import Privileges, refill, settle
from batchbench.harness.verify import Contents, contents, send_encoded
from batchbench.results import TrialRecord, meets_goal
from batchbench.sources import open_source
from batchbench.table import Table, TableName

_LONGEST_REASON = 300
_NO_MEMORY = "the client ran out of memory"


class TrialLostError(Exception):
    """A trial took its surroundings with it: the server, its session, or the client process.

    It is told in words that a record can have as its reason.
    """


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject that is ready for trials.

    table: the scratch copy. rows: what every trial loads. expected: the contents after a load, the
    filling included. encoded: the same rows as the server itself wrote them, in COPY's binary
    format. filling: the table with what is in the scratch copy before a load; None for nothing.
    """

    label: str
    table: Table
    rows: pa.Table
    expected: Contents
    encoded: bytes = b""
    filling: TableName | None = None

    def plain(self, text: str) -> str:
        """A message in the name that people know, not the scratch copy's."""
        return text.replace(str(self.table.name), self.label)


@dataclass(frozen=True, slots=True)
class Brief:
    """All that a client needs to run a plan's trials; as a letter it goes to another process.

    dsn: of the server. loading: by round trip, the addresses that loads use, with the plan's
    server settings. ours: whether the server serves nobody else.
    """

    dsn: str = field(repr=False)
    loading: Mapping[float, str] = field(repr=False)
    settings: Settings
    plan: SweepPlan
    cast_options: CastOptions
    trial_timeout_s: float
    ours: bool
    privileges: Privileges
    epoch: int = 1
    prepared: Mapping[str, Prepared] = field(default_factory=dict, repr=False)

    def options(self, configuration: Configuration) -> LoadOptions:
        """What the engine is told. Raises ConfigError where a configuration cannot work."""
        return LoadOptions(
            settings=self.settings,
            strategy=configuration.strategy,
            driver=configuration.driver,
            chunk_size=configuration.chunk_size,
            parallelism=configuration.parallelism,
            on_conflict=self.plan.on_conflict,
            transaction=self.plan.transaction,
            cast_options=self.cast_options,
            # A row that cannot be loaded makes the trial a failure; and a sweep leaves nothing of
            # its own in the database, a ledger included.
            on_reject="stop",
            exactly_once="off",
            durability="relaxed" if "synchronous_commit" in self.plan.server_settings else "full",
        )

    def options_of(self, trial: Trial) -> LoadOptions:
        """The same of a trial; the yardstick's are those of a COPY."""
        if trial.kind == "yardstick":
            return self.options(replace(trial.configuration, strategy="copy"))
        return self.options(trial.configuration)


@dataclass(slots=True)
class _Outcome:
    """How a load went. reason: why it failed, else "". settled_s: of VACUUM and CHECKPOINT that
    are part of it. by_second: rows written in each second.
    """

    reason: str = ""
    result: LoadResult | None = None
    chunk_rows: int | None = None
    settled_s: float = 0.0
    by_second: dict[int, int] = field(default_factory=dict)

    @property
    def rows_by_second(self) -> tuple[int, ...]:
        """Without gaps."""
        last = max(self.by_second, default=-1)
        return tuple(self.by_second.get(second, 0) for second in range(last + 1))


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Runs trials of one plan, one at a time, in this process.

    session: for preparing and verifying. notice: told what the engine says.
    """

    brief: Brief
    session: Session
    notice: Callable[[str], None] = field(repr=False)

    async def run(self, trial: Trial) -> TrialRecord:
        """Load once. A load that fails, takes too long or lacks memory is a record as well.

        Raises TrialLostError where the server or its session is gone, so that this runner can run
        nothing more; WriteError where the server refuses what prepares or verifies a trial.
        """
        reason = ""
        try:
            prepared = self.brief.prepared[trial.configuration.table]
            await self._before(trial, prepared)
            started_at = datetime.now(UTC)
            position = await wal_position(self.session)
            with Footprint() as footprint:
                outcome = await self._load(trial, prepared)
            reason = outcome.reason
            observed = await seen_since(self.session, position, prepared.table.name)
            found = await contents(self.session, prepared.table.name, prepared.rows.schema.names)
        except WriteError as error:
            if not error.fate_unknown:
                raise
            raise TrialLostError(f"{reason or 'the session that verifies'} ({error})") from error
        outcome.reason = outcome.reason or self._difference(found, prepared)
        record = _record(trial, self.brief, started_at, outcome, footprint, found)
        return replace(record, observed=observed)

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

    async def _load(self, trial: Trial, prepared: Prepared) -> _Outcome:
        outcome = _Outcome()
        try:
            async with asyncio.timeout(self.brief.trial_timeout_s):
                if trial.kind == "yardstick":
                    await self._yardstick(prepared, outcome)
                else:
                    await self._engine(trial.configuration, prepared, outcome)
                if self.brief.plan.regime == "sustained":
                    started_s = time.perf_counter()
                    await settle(self.session, prepared.table, self.brief.privileges)
                    outcome.settled_s = time.perf_counter() - started_s
        except TimeoutError:
            outcome.reason = f"the load took longer than {self.brief.trial_timeout_s:g} s"
        except LoadError as error:
            starved = isinstance(error.cause.__cause__, MemoryError)
            outcome.reason = _NO_MEMORY if starved else str(error)
            outcome.result = error.result
        except BatchbenchError as error:
            outcome.reason = str(error)
        except (MemoryError, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(MemoryError)[1] is not None:
                raise
            outcome.reason = _NO_MEMORY
        return outcome

    async def _yardstick(self, prepared: Prepared, outcome: _Outcome) -> None:
        """One COPY of bytes that are there, in one transaction: as fast as a client can be."""
        table, columns = prepared.table, prepared.rows.schema.names
        address = self.brief.loading[0.0]
        seconds = await send_encoded(address, table, columns, prepared.encoded)
        result = LoadResult("", seconds=seconds, byte_count=len(prepared.encoded))
        result.chunk_seconds.append(seconds)
        result.counts(prepared.label).committed = prepared.rows.num_rows
        outcome.result, outcome.chunk_rows = result, prepared.rows.num_rows

    async def _engine(
        self, configuration: Configuration, prepared: Prepared, outcome: _Outcome
    ) -> None:
        options = self.brief.options(configuration)
        started_s = time.perf_counter()

        def on_event(event: Event) -> None:
            if isinstance(event, Notice):
                self.notice(prepared.plain(event.text))
            elif isinstance(event, ChunkWritten):
                second = int(time.perf_counter() - started_s)
                outcome.by_second[second] = outcome.by_second.get(second, 0) + event.written

        source = open_source(prepared.rows, name=f"rows of {prepared.label}")
        targets: dict[str | None, TableName] = {None: prepared.table.name}
        plan = plan_table(prepared.table, None, options)
        outcome.chunk_rows = plan.shape(prepared.rows.schema, source.name).chunk_rows
        address = self.brief.loading[configuration.rtt_ms]
        outcome.result = await load(source, targets, address, options, on_event=on_event)

    def _difference(self, found: Contents, prepared: Prepared) -> str:
        expected = prepared.expected
        if found.row_count != expected.row_count:
            filled = self.brief.plan.filled
            counts = f"{found.row_count - filled:,} of {expected.row_count - filled:,}"
            return f"{counts} rows are in the table"
        if found.checksum != expected.checksum:
            return "the rows in the table are not those that were sent (their checksums differ)"
        return ""


def lost_record(trial: Trial, brief: Brief, started_at: datetime, reason: str) -> TrialRecord:
    """What is kept of a trial that was lost: why."""
    return _record(trial, brief, started_at, _Outcome(reason), None, None)


def _record(
    trial: Trial,
    brief: Brief,
    started_at: datetime,
    outcome: _Outcome,
    footprint: Footprint | None,
    found: Contents | None,
) -> TrialRecord:
    """What is kept of a trial; a failed one has no speed."""
    configuration, result, plan = trial.configuration, outcome.result, brief.plan
    prepared = brief.prepared[configuration.table]
    speed = None if outcome.reason else result
    seconds = None if speed is None else speed.seconds + outcome.settled_s
    rows_per_s = speed.total.committed / seconds if speed and seconds else None
    peak_rss_mb = None if footprint is None else round(footprint.peak_rss_mb, 3)
    chunk_seconds = () if result is None else tuple(round(s, 6) for s in result.chunk_seconds)
    return TrialRecord(
        kind=trial.kind,
        trial_id=trial.trial_id,
        table=configuration.table,
        strategy=configuration.strategy,
        driver=configuration.driver,
        chunk_size=configuration.chunk_size,
        chunk_rows=outcome.chunk_rows,
        parallelism=configuration.parallelism,
        writers=brief.options_of(trial).writers,
        repeat=trial.repeat,
        block=trial.block,
        position=trial.position,
        started_at=started_at.isoformat(timespec="milliseconds"),
        status="failed" if outcome.reason else "ok",
        reason=prepared.plain(outcome.reason)[:_LONGEST_REASON] or None,
        rows=prepared.rows.num_rows,
        rows_verified=None if found is None else max(0, found.row_count - plan.filled),
        checksum_ok=None if found is None else found.checksum == prepared.expected.checksum,
        seconds=None if seconds is None else round(seconds, 6),
        rows_per_s=None if rows_per_s is None else round(rows_per_s, 3),
        mb_per_s=round(speed.byte_count / 1e6 / seconds, 6) if speed and seconds else None,
        chunks=len(chunk_seconds),
        chunk_seconds=chunk_seconds,
        cpu_s=None if footprint is None else round(footprint.cpu_s, 6),
        peak_rss_mb=peak_rss_mb,
        rss_before_mb=None if footprint is None else round(footprint.rss_before_mb, 3),
        retries=0 if result is None else result.retries,
        goal_met=trial.kind != "yardstick"
        and rows_per_s is not None
        and peak_rss_mb is not None
        and meets_goal(rows_per_s, peak_rss_mb),
        epoch=brief.epoch,
        rtt_ms=configuration.rtt_ms,
        table_state=plan.table_state,
        regime=plan.regime,
        server_settings=dict(plan.server_settings),
        rows_by_second=outcome.rows_by_second if plan.regime == "sustained" else (),
    )
