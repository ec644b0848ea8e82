"""Run a plan: prepare, warm up, measure block by block, record, clean up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.drivers import Session, connect
from batchbench.engine.plan import plan_table
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.harness.plan import SweepPlan, Trial
from batchbench.harness.progress import (
    Preparing,
    SweepEvent,
    SweepListener,
    SweepNotice,
    SweepStarted,
    TrialEnded,
)
from batchbench.harness.scratch import (
    SCHEMA_PREFIX,
    create_schema,
    create_scratch_table,
    drop_schema,
)
from batchbench.harness.subject import Subject, profile_subject, rows_of
from batchbench.harness.surroundings import (
    batchbench_version,
    git_revision,
    this_environment,
    this_server,
)
from batchbench.harness.trial import Prepared, TrialRunner
from batchbench.harness.verify import contents, read_encoded, write_reference
from batchbench.results import Run, RunInfo, RunWriter, load_run, open_run

_DRIVER = "psycopg"  # of the sweep's own session
_RESERVE = 1.1  # a block must fit into a budget with a tenth to spare


async def run_sweep(
    plan: SweepPlan,
    dsn: str,
    settings: Settings,
    output: Path,
    *,
    subjects: Sequence[Subject] = (),
    server_kind: str = "dsn",
    command: Sequence[str] = (),
    resume: bool = False,
    budget_s: float | None = None,
    trial_timeout_s: float = 300.0,
    assume_timezone: str | None = None,
    restart: Callable[[], None] | None = None,
    on_progress: SweepListener | None = None,
) -> Run:
    """Measure what `plan` names and store it in `output`, trial by trial.

    subjects: the tables by the plan's labels; labels without one are metrics of the profile.
    resume: go on with the run that is in `output`; its trials are not repeated.
    budget_s: stop after the last whole block that fits, counted from this start; at least one
    block is measured. assume_timezone: what times without one mean, as in `CastOptions`.
    restart: restarts the server, where it is ours; without it all blocks are one epoch. A resumed
    run begins a new epoch.

    Everything is written to tables in a schema of its own, dropped at the end, also after an
    error or on cancellation; what is recorded by then stays. A load that fails is a record.
    Raises ConfigError, InputError, TableError or ServerError where nothing can be measured;
    WriteError where the server stops answering on the way.
    """
    emit = _Once(on_progress)
    by_label = {subject.label: subject for subject in subjects}
    chosen = [by_label.get(label) or profile_subject(label) for label in plan.tables]
    unused = sorted(by_label.keys() - set(plan.tables))
    if unused:
        raise ConfigError(f"the plan measures nothing of table {unused[0]}")
    started_s = time.perf_counter()
    async with AsyncExitStack() as stack:
        session = await connect(_DRIVER, dsn)
        stack.push_async_callback(session.close)
        cast_options = CastOptions(assume_timezone=assume_timezone)
        runner = TrialRunner(
            session, dsn, settings, plan, cast_options, trial_timeout_s, 1, emit.notice
        )
        for configuration in plan.configurations:
            runner.options(configuration)
        info = await _run_info(session, plan, settings, server_kind, command)
        writer = stack.enter_context(open_run(output, info, resume=resume))
        clock = _Clock(started_s, budget_s)
        sweep = _Sweep(runner, writer, emit, clock, _Lives(plan, clock, restart, stack))
        emit(SweepStarted(writer.info.run_id, output, sweep.stored))
        if sweep.next_block(1):
            schema = SCHEMA_PREFIX + writer.info.run_id
            stack.push_async_callback(_clean_up, dsn, schema, emit)
            await create_schema(session, schema)
            await sweep.prepare(chosen, schema)
            await sweep.measure()
    return load_run(output)


class _Once:
    """Hands events on; a notice only the first time."""

    def __init__(self, listener: SweepListener | None) -> None:
        self._listener = listener
        self._texts: set[str] = set()

    def __call__(self, event: SweepEvent) -> None:
        if self._listener is not None:
            self._listener(event)

    def notice(self, text: str) -> None:
        """Tell a text that was not told yet."""
        if text not in self._texts:
            self._texts.add(text)
            self(SweepNotice(text))


async def _run_info(
    session: Session, plan: SweepPlan, settings: Settings, server_kind: str, command: Sequence[str]
) -> RunInfo:
    now = datetime.now(UTC)
    return RunInfo(
        run_id=f"{now:%Y%m%d_%H%M%S}_{secrets.token_hex(3)}",
        created=now.isoformat(timespec="seconds"),
        command=tuple(command),
        plan=plan.document(),
        seed=plan.seed,
        settings={name: value for name, value, _ in settings.values()},
        environment=this_environment(),
        server=await this_server(session, server_kind),
        batchbench_version=batchbench_version(),
        git_revision=await asyncio.to_thread(git_revision),
    )


async def _clean_up(dsn: str, schema: str, emit: _Once) -> None:
    """Drop the scratch schema on a fresh session: the sweep's own may be in the middle of it."""
    try:
        session = await connect(_DRIVER, dsn)
        try:
            await drop_schema(session, schema)
        finally:
            await session.close()
    except BatchbenchError as error:
        emit.notice(f"the scratch schema {schema} could not be dropped; drop it by hand ({error})")


@dataclass(slots=True)
class _Clock:
    """How long loads take here, and what still fits. Seconds are wall time."""

    started_s: float
    budget_s: float | None
    loads: int = 0
    loads_s: float = 0.0

    def count(self, seconds: float) -> None:
        """A load ended; its preparation and verification are in `seconds`."""
        self.loads += 1
        self.loads_s += seconds

    def need_s(self, load_count: int) -> float:
        """What so many loads will take; 0 before the first has ended."""
        return load_count * self.loads_s / self.loads if self.loads else 0.0

    def left_s(self) -> float:
        """What is left of the budget."""
        if self.budget_s is None:
            return float("inf")
        return self.budget_s - (time.perf_counter() - self.started_s)

    def fits(self, load_count: int) -> bool:
        """Whether so many loads end within the budget."""
        return self.need_s(load_count) * _RESERVE <= self.left_s()


@dataclass(slots=True)
class _Lives:
    """When the server's next life begins."""

    plan: SweepPlan
    clock: _Clock
    restart: Callable[[], None] | None
    stack: AsyncExitStack
    begun: int = 1

    def is_over(self, block: int) -> bool:
        """Whether the blocks of this life were run; block: the last one."""
        if self.restart is None or self.begun >= self.plan.epochs:
            return False
        share = block / self.plan.repeats
        if self.clock.budget_s is not None:
            share = max(share, 1 - self.clock.left_s() / self.clock.budget_s)
        return share >= self.begun / self.plan.epochs

    async def next(self, runner: TrialRunner) -> TrialRunner:
        """Restart the server; the runner on a fresh session of it."""
        if self.restart is None:
            raise AssertionError("only a server of ours is restarted")
        self.begun += 1
        await runner.session.close()
        await asyncio.to_thread(self.restart)
        session = await connect(_DRIVER, runner.dsn)
        self.stack.push_async_callback(session.close)
        return replace(runner, session=session, epoch=runner.epoch + 1)


@dataclass(slots=True)
class _Sweep:
    """One start of a sweep."""

    runner: TrialRunner
    writer: RunWriter
    emit: _Once
    clock: _Clock
    lives: _Lives
    prepared: dict[str, Prepared] = field(default_factory=dict)
    done: int = 0

    @property
    def plan(self) -> SweepPlan:
        return self.runner.plan

    @property
    def stored(self) -> int:
        """Trials in the run, without warm-ups."""
        return sum(record.kind != "warmup" for record in self.writer.records)

    def next_block(self, number: int) -> tuple[Trial, ...]:
        """What is missing of the first block from `number` that is not whole; () of the last."""
        for block in range(number, self.plan.repeats + 1):
            missing = tuple(t for t in self.plan.block(block) if t.trial_id not in self.writer)
            if missing:
                return missing
        return ()

    async def prepare(self, subjects: Sequence[Subject], schema: str) -> None:
        """Copy the tables, make the rows, and look at them as others write them."""
        for subject in subjects:
            self.emit(Preparing(subject.label))
            session, plan = self.runner.session, self.plan
            scratch = await create_scratch_table(session, schema, subject)
            for remark in scratch.remarks:
                self.emit.notice(remark)
            table = scratch.table
            rows = await asyncio.to_thread(rows_of, subject, table, plan.rows, plan.seed)
            # In the original's name, since that is what messages are about.
            named = replace(table, name=subject.original or table.name)
            first = next(c for c in plan.configurations if c.table == subject.label)
            options = replace(self.runner.options(first), strategy="auto")
            plan_table(named, None, options).shape(rows.schema, f"rows of {subject.label}")
            timezone = self.runner.cast_options.assume_timezone or "UTC"
            await write_reference(self.runner.dsn, table, named, rows, timezone)
            expected = await contents(session, table.name, rows.schema.names)
            encoded = await read_encoded(self.runner.dsn, table, rows.schema.names)
            self.prepared[subject.label] = Prepared(subject.label, table, rows, expected, encoded)

    async def measure(self) -> None:
        """Warm up, then run block after block until the plan or the budget ends."""
        past = max((record.epoch for record in self.writer.records), default=0)
        self.runner = replace(self.runner, epoch=past + 1)
        self.done = self.stored
        missing = self.next_block(1)
        await self._warm_up(missing)
        while missing:
            for position, trial in enumerate(missing, 1):
                await self._run(trial, 0, missing[position:])
            block = missing[0].block
            missing = self.next_block(block + 1)
            if not missing or not self.clock.fits(len(missing)):
                break
            if self.lives.is_over(block):
                self.runner = await self.lives.next(self.runner)
                await self._warm_up(missing)

    async def _warm_up(self, next_block: Sequence[Trial]) -> None:
        earlier = max((r.repeat for r in self.writer.records if r.kind == "warmup"), default=0)
        warmups = self.plan.warmup_trials(earlier)
        for position, trial in enumerate(warmups, 1):
            await self._run(trial, len(warmups) - position, next_block)

    async def _run(self, trial: Trial, warmups_left: int, block_left: Sequence[Trial]) -> None:
        started_s = time.perf_counter()
        record = await self.runner.run(trial, self.prepared[trial.configuration.table])
        self.writer.append(record)
        self.clock.count(time.perf_counter() - started_s)
        self.done += 1
        block = block_left[0].block if block_left else trial.block
        left = warmups_left + len(block_left)
        left += self._blocks_after(block, left) * self.plan.block_size
        self.emit(TrialEnded(record, self.done, self.done + left, self.clock.need_s(left)))

    def _blocks_after(self, block: int, before: int) -> int:
        """How many more blocks will follow, as far as can be told."""
        most = self.plan.repeats - block
        if self.clock.budget_s is None:
            return most
        size = self.plan.block_size
        spare_s = self.clock.left_s() - self.clock.need_s(before)
        return max(0, min(most, int(spare_s / (self.clock.need_s(size) * _RESERVE))))
