"""Run a plan: prepare, warm up, measure block by block, record, clean up."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.drivers import Session, connect
from batchbench.errors import BatchbenchError, ConfigError, ServerError
from batchbench.harness.brief import Brief, TrialLostError
from batchbench.harness.client import Client, open_client
from batchbench.harness.notices import Once, said_at_end, said_at_start
from batchbench.harness.observe import delayed
from batchbench.harness.pace import Clock, Epochs, spent_s
from batchbench.harness.plan import Configuration, SweepPlan, Trial
from batchbench.harness.preparing import prepare
from batchbench.harness.progress import (
    Looked,
    Preparing,
    SweepListener,
    SweepStarted,
    TrialEnded,
)
from batchbench.harness.recording import lost_record
from batchbench.harness.scratch import Scratch
from batchbench.harness.search import is_over, look_after, members
from batchbench.harness.state import check_settings, privileges_of, with_settings
from batchbench.harness.subject import Subject, profile_subject
from batchbench.harness.surroundings import (
    batchbench_version,
    git_revision,
    this_environment,
    this_server,
)
from batchbench.harness.trial import DRIVER
from batchbench.results import Run, RunInfo, RunWriter, TrialRecord, load_run, open_run

_MOST_LOSSES = 2
_AGAIN_S = 0.5


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
    scratch_schema: str | None = None,
    confirms: str | None = None,
    apart: bool = True,
    on_progress: SweepListener | None = None,
) -> Run:
    """Measure what `plan` names and store it in `output`, trial by trial.

    subjects: the tables by the plan's labels; labels without one are metrics of the profile.
    resume: go on with the run that is in `output`; its trials are not repeated.
    budget_s: of this start: it ends after the last whole block that fits; at least one block is
    measured. None: what earlier starts left of the plan's. assume_timezone: what times without one
    mean, as in `CastOptions`.
    restart: restarts the server between epochs, where it is ours. A resumed run begins a new epoch.
    scratch_schema: a schema that is there, to work in; without it one is made.
    confirms: the run_id of the run that this one confirms, by a plan of `confirmation_plan`.
    apart: whether trials run in a client process of their own, a fresh one in each epoch; else in
    this process.

    Everything is written to tables of our own, dropped at the end, also after an error or on
    cancellation; what is recorded by then stays. A load that fails is a record, and so is one that
    takes its client process or the server's sessions with it: then a new client goes on, in a new
    epoch. A configuration that does that twice is left out from then on.
    Raises ConfigError, InputError, TableError or ServerError where nothing can be measured, or the
    server stays away for longer than BATCH_RECONNECT_TIMEOUT_S; WriteError where it refuses what a
    trial needs around it.
    """
    emit = Once(on_progress)
    chosen = _chosen(plan, subjects)
    _check_arrivals(plan, trial_timeout_s)
    sources = _sources(chosen)
    if confirms is not None and sources != plan.sources:
        raise ConfigError(
            "the rows are not those of the run that is to be confirmed; name its --source where it"
            " had one, unchanged"
        )
    started_s = time.perf_counter()
    async with AsyncExitStack() as stack:
        session = await connect(DRIVER, dsn)
        stack.push_async_callback(session.close)
        shown = await check_settings(DRIVER, dsn, plan.server_settings)
        plan = replace(plan, server_settings=shown, sources=sources)
        addresses = {
            rtt_ms: with_settings(await stack.enter_async_context(delayed(dsn, rtt_ms)), shown)
            for rtt_ms in {0.0, *plan.rtts_ms}
        }
        brief = Brief(
            dsn=dsn,
            loading=addresses,
            settings=settings,
            plan=plan,
            cast_options=CastOptions(assume_timezone=assume_timezone),
            trial_timeout_s=trial_timeout_s,
            ours=restart is not None,
            privileges=await privileges_of(session),
        )
        for configuration in plan.configurations:
            brief.options(configuration)
        info = await _run_info(session, plan, settings, server_kind, command)
        info = replace(info, confirms=confirms)
        writer = stack.enter_context(open_run(output, info, resume=resume))
        if budget_s is None and plan.budget_s is not None:
            budget_s = max(0.0, plan.budget_s - spent_s(writer))
        clock = Clock(started_s, budget_s)
        clients = _Clients(brief, emit.notice, restart, apart)
        sweep = _Sweep(clients, writer, emit, clock, Epochs(plan, clock))
        emit(SweepStarted(writer.info.run_id, output, sweep.stored))
        for text in said_at_start(brief):
            emit.notice(text)
        if sweep.next_block(1):
            scratch = Scratch.of_run(writer.info.run_id, scratch_schema)
            stack.push_async_callback(_clean_up, dsn, scratch, emit)
            await scratch.create(session)
            prepared = {}
            for subject in chosen:
                emit(Preparing(subject.label))
                prepared[subject.label] = await prepare(
                    session, scratch, subject, brief, emit.notice
                )
            await session.close()
            stack.push_async_callback(clients.close)
            clients.brief = replace(brief, prepared=prepared, epoch=sweep.next_epoch)
            await clients.open()
            await sweep.measure()
    run = load_run(output)
    for text in said_at_end(run):
        emit.notice(text)
    return run


def _chosen(plan: SweepPlan, subjects: Sequence[Subject]) -> list[Subject]:
    by_label = {subject.label: subject for subject in subjects}
    chosen = [by_label.get(label) or profile_subject(label) for label in plan.tables]
    unused = sorted(by_label.keys() - set(plan.tables))
    if unused:
        raise ConfigError(f"the plan measures nothing of table {unused[0]}")
    return chosen


def _sources(chosen: Sequence[Subject]) -> dict[str, str]:
    """What tells the rows of a run's later starts from those of its first."""
    return {
        subject.label: subject.source.fingerprint() or "unknown"
        for subject in chosen
        if subject.source is not None
    }


def _check_arrivals(plan: SweepPlan, limit_s: float) -> None:
    """Raises ConfigError where the rows of one load arrive for longer than it may take."""
    rate = plan.arrival_rows_per_s
    if rate is not None and plan.rows / rate >= limit_s:
        raise ConfigError(
            f"{plan.rows:,} rows at {rate:g} rows/s arrive for {plan.rows / rate:,.0f} s, and a"
            f" load may take {limit_s:g} s; take fewer --rows, or a higher --arrival-rate"
        )


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


async def _clean_up(dsn: str, scratch: Scratch, emit: Once) -> None:
    """Drop what is ours on a fresh session: the sweep's own may be in the middle of it."""
    try:
        session = await connect(DRIVER, dsn)
        try:
            await scratch.drop(session)
        finally:
            await session.close()
    except BatchbenchError as error:
        emit.notice(f"{scratch} could not be dropped; drop it by hand ({error})")


@dataclass(slots=True)
class _Clients:
    """The client of the epoch, and its successors."""

    brief: Brief
    notice: Callable[[str], None]
    restart: Callable[[], None] | None
    apart: bool
    client: Client | None = None

    async def open(self) -> None:
        """A client for the epoch of the brief.

        Raises ServerError where the server stays away, or no client process starts, for too long.
        """
        until_s = time.perf_counter() + self.brief.settings.reconnect_timeout_s
        while True:
            try:
                self.client = await open_client(self.brief, self.notice, apart=self.apart)
                return
            except (ServerError, TrialLostError) as error:
                failure = error if isinstance(error, ServerError) else ServerError(str(error))
                if failure.lasting or time.perf_counter() > until_s:
                    raise failure from error
                await asyncio.sleep(_AGAIN_S)

    async def next(self, *, server: bool) -> None:
        """The next epoch. server: restart it too, where it is ours."""
        await self.close()
        self.brief = replace(self.brief, epoch=self.brief.epoch + 1)
        if server and self.restart is not None:
            await asyncio.to_thread(self.restart)
        await self.open()

    async def run(self, trial: Trial) -> TrialRecord:
        """Raises TrialLostError where the next epoch must begin."""
        if self.client is None:
            raise AssertionError("no client was opened")
        return await self.client.run(trial)

    async def close(self) -> None:
        """End the client."""
        client, self.client = self.client, None
        if client is not None:
            await client.close()


@dataclass(slots=True)
class _Sweep:
    """One start of a sweep. losses: trials that were lost, by configuration."""

    clients: _Clients
    writer: RunWriter
    emit: Once
    clock: Clock
    epochs: Epochs
    done: int = 0
    losses: Counter[Configuration] = field(default_factory=Counter)

    @property
    def plan(self) -> SweepPlan:
        return self.clients.brief.plan

    @property
    def stored(self) -> int:
        """Trials in the run, without warm-ups."""
        return sum(record.kind != "warmup" for record in self.writer.records)

    @property
    def next_epoch(self) -> int:
        """After all that are in the run."""
        return max((record.epoch for record in self.writer.records), default=0) + 1

    def next_block(self, number: int) -> tuple[Trial, ...]:
        """What is missing of the first block from `number` that is not whole; () of the last.

        Where the plan is searched, looks that are due after whole blocks are taken on the way.
        """
        self._look(number - 1)
        for block in range(number, self.plan.repeats + 1):
            running = self.running(block)
            if self.plan.search is not None and is_over(running):
                return ()
            missing = tuple(filter(self._is_missing, self.plan.block(block, running)))
            if missing:
                return missing
            self._look(block)
        return ()

    def running(self, block: int) -> tuple[Configuration, ...]:
        """Who runs in a block."""
        plan = self.plan
        return members(plan.configurations, plan.search, self.writer.info.looks, block)

    def _look(self, block: int) -> None:
        plan, made = self.plan, self.writer.info.looks
        if plan.search is None or block == 0:
            return
        now = datetime.now(UTC).isoformat(timespec="seconds")
        records = self.writer.records
        look = look_after(plan.configurations, plan.search, made, records, block, now)
        if look is not None:
            self.writer.add_look(look)
            self.emit(Looked(look, len(self.running(block + 1))))

    def _is_missing(self, trial: Trial) -> bool:
        lost = self.losses[trial.configuration] >= _MOST_LOSSES
        return trial.trial_id not in self.writer and not lost

    async def measure(self) -> None:
        """Warm up, then run block after block until the plan or the budget ends."""
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
            running = self.running(missing[0].block)
            warmups = len(self.plan.warmup_trials(members=running))
            over = self.epochs.is_over(block, len(missing), warmups)
            if over and self.clock.fits(len(missing) + warmups):
                self.epochs.begun += 1
                await self.clients.next(server=True)
                await self._warm_up(missing)

    async def _warm_up(self, next_block: Sequence[Trial]) -> None:
        earlier = max((r.repeat for r in self.writer.records if r.kind == "warmup"), default=0)
        warmups = self.plan.warmup_trials(earlier, self.running(next_block[0].block))
        for position, trial in enumerate(warmups, 1):
            await self._run(trial, len(warmups) - position, next_block)

    async def _run(self, trial: Trial, warmups_left: int, block_left: Sequence[Trial]) -> None:
        if not self._is_missing(trial):  # its configuration was given up on the way
            return
        started_s, started_at = time.perf_counter(), datetime.now(UTC)
        try:
            record = await self.clients.run(trial)
        except TrialLostError as error:
            record = lost_record(trial, self.clients.brief, started_at, str(error))
            await self._lost(trial, record)
        else:
            self.writer.append(record)
        self.clock.count(time.perf_counter() - started_s)
        self.done += 1
        block = block_left[0].block if block_left else trial.block
        left = warmups_left + len(block_left)
        size = len(self.running(block)) + len(self.plan.tables)
        left += self.clock.blocks(self.plan.repeats - block, size, left) * size
        self.emit(TrialEnded(record, self.done, self.done + left, self.clock.need_s(left)))

    async def _lost(self, trial: Trial, record: TrialRecord) -> None:
        """Store why, and go on with a new client."""
        self.writer.append(record)
        self.losses[trial.configuration] += 1
        if self.losses[trial.configuration] == _MOST_LOSSES:
            self.emit.notice(
                f"{trial.configuration} is left out from now on: {_MOST_LOSSES} of its loads ended"
                f" the client or the server's sessions ({record.reason})"
            )
        await self.clients.next(server=False)
