"""One trial: an empty scratch table, the engine's own load, and a look at what arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pyarrow as pa

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.drivers import Session
from batchbench.engine import LoadError, LoadOptions, LoadResult, load
from batchbench.engine.plan import plan_table
from batchbench.errors import BatchbenchError
from batchbench.events import Event, Notice
from batchbench.harness.plan import Configuration, SweepPlan, Trial
from batchbench.harness.process import Footprint
from batchbench.harness.seen import seen_since, wal_position
from batchbench.harness.verify import Contents, contents, send_encoded
from batchbench.results import TrialRecord, meets_goal
from batchbench.sources import open_source
from batchbench.table import Table, TableName

_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject that is ready for trials.

    table: the scratch copy. rows: what every trial loads. expected: the reference's contents.
    encoded: the same rows as the server itself wrote them, in COPY's binary format.
    """

    label: str
    table: Table
    rows: pa.Table
    expected: Contents
    encoded: bytes = b""

    def plain(self, text: str) -> str:
        """A message in the name that people know, not the scratch copy's."""
        return text.replace(str(self.table.name), self.label)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """How a load went. reason: why it failed, else ""."""

    reason: str = ""
    result: LoadResult | None = None
    chunk_rows: int | None = None


@dataclass(frozen=True, slots=True)
class TrialRunner:
    """Runs trials of one plan, one at a time.

    session: for preparing and verifying, always the same. notice: told what the engine says.
    """

    session: Session
    dsn: str
    settings: Settings
    plan: SweepPlan
    cast_options: CastOptions
    trial_timeout_s: float
    epoch: int
    notice: Callable[[str], None] = field(repr=False)

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
        )

    async def run(self, trial: Trial, prepared: Prepared) -> TrialRecord:
        """Load once. A load that fails, takes too long or lacks memory is a record as well.

        Raises WriteError where the sweep's own session fails, so that no further trial can run.
        """
        configuration = trial.configuration
        if trial.kind == "yardstick":
            configuration = replace(configuration, strategy="copy")
        options = self.options(configuration)
        await self.session.run(f"TRUNCATE {prepared.table.sql}")
        started_at = datetime.now(UTC)
        before = await wal_position(self.session)
        with Footprint() as footprint:
            if trial.kind == "yardstick":
                outcome = await self._yardstick(prepared)
            else:
                outcome = await self._load(prepared, options)
        observed = await seen_since(self.session, before, prepared.table.name)
        found = await contents(self.session, prepared.table.name, prepared.rows.schema.names)
        if not outcome.reason:
            outcome = replace(outcome, reason=_difference(found, prepared.expected))
        record = _record(trial, prepared, options.writers, started_at, outcome, footprint, found)
        return replace(record, epoch=self.epoch, observed=observed)

    async def _yardstick(self, prepared: Prepared) -> _Outcome:
        """One COPY of bytes that are there, in one transaction: as fast as a client can be."""
        started_s = time.perf_counter()
        try:
            async with asyncio.timeout(self.trial_timeout_s):
                await send_encoded(
                    self.dsn, prepared.table, prepared.rows.schema.names, prepared.encoded
                )
        except TimeoutError:
            return _Outcome(f"the COPY took longer than {self.trial_timeout_s:g} s")
        except BatchbenchError as error:
            return _Outcome(str(error))
        seconds = time.perf_counter() - started_s
        result = LoadResult("", seconds=seconds, byte_count=len(prepared.encoded))
        result.chunk_seconds.append(seconds)
        result.counts(prepared.label).committed = prepared.rows.num_rows
        return _Outcome("", result, prepared.rows.num_rows)

    async def _load(self, prepared: Prepared, options: LoadOptions) -> _Outcome:
        chunk_rows = None

        def on_event(event: Event) -> None:
            if isinstance(event, Notice):
                self.notice(prepared.plain(event.text))

        source = open_source(prepared.rows, name=f"rows of {prepared.label}")
        targets: dict[str | None, TableName] = {None: prepared.table.name}
        try:
            async with asyncio.timeout(self.trial_timeout_s):
                plan = plan_table(prepared.table, None, options)
                chunk_rows = plan.shape(prepared.rows.schema, source.name).chunk_rows
                result = await load(source, targets, self.dsn, options, on_event=on_event)
        except TimeoutError:
            reason = f"the load took longer than {self.trial_timeout_s:g} s"
            return _Outcome(reason, None, chunk_rows)
        except LoadError as error:
            return _Outcome(str(error), error.result, chunk_rows)
        except BatchbenchError as error:
            return _Outcome(str(error), None, chunk_rows)
        except (MemoryError, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(MemoryError)[1] is not None:
                raise
            return _Outcome("the client ran out of memory", None, chunk_rows)
        return _Outcome("", result, chunk_rows)


def _difference(found: Contents, expected: Contents) -> str:
    if found.row_count != expected.row_count:
        return f"{found.row_count:,} of {expected.row_count:,} rows are in the table"
    if found.checksum != expected.checksum:
        return "the rows in the table are not those that were sent (their checksums differ)"
    return ""


def _record(
    trial: Trial,
    prepared: Prepared,
    writers: int,
    started_at: datetime,
    outcome: _Outcome,
    footprint: Footprint,
    found: Contents,
) -> TrialRecord:
    """What is kept of a trial; a failed one has no speed."""
    configuration, result = trial.configuration, outcome.result
    speed = None if outcome.reason else result
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
        writers=writers,
        repeat=trial.repeat,
        block=trial.block,
        position=trial.position,
        started_at=started_at.isoformat(timespec="milliseconds"),
        status="failed" if outcome.reason else "ok",
        reason=prepared.plain(outcome.reason)[:_LONGEST_REASON] or None,
        rows=prepared.rows.num_rows,
        rows_verified=found.row_count,
        checksum_ok=found.checksum == prepared.expected.checksum,
        seconds=None if speed is None else round(speed.seconds, 6),
        rows_per_s=None if speed is None else round(speed.rows_per_s, 3),
        mb_per_s=None if speed is None else round(speed.byte_count / 1e6 / speed.seconds, 6),
        chunks=len(chunk_seconds),
        chunk_seconds=chunk_seconds,
        cpu_s=round(footprint.cpu_s, 6),
        peak_rss_mb=round(footprint.peak_rss_mb, 3),
        rss_before_mb=round(footprint.rss_before_mb, 3),
        retries=0 if result is None else result.retries,
        goal_met=trial.kind != "yardstick"
        and speed is not None
        and meets_goal(speed.rows_per_s, footprint.peak_rss_mb),
    )
