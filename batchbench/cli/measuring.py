"""Run plans under a command: the sweep itself, and the fresh run that confirms it."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from batchbench.cli.console import err, warn
from batchbench.cli.running import run_async
from batchbench.cli.sweep_progress import SweepProgress
from batchbench.cli.watching import both, watching
from batchbench.config import Settings
from batchbench.errors import ConfigError
from batchbench.harness import (
    SUSTAINED_SHARE,
    Configuration,
    Subject,
    SweepPlan,
    confirmation_plan,
    is_whole,
    plan_from_document,
    run_sweep,
    sustained_plan,
    unfinished,
)
from batchbench.recommend import finalist_of, ranking, recommend
from batchbench.results import (
    Constraints,
    Run,
    confirmation_folder,
    load_run,
    sustained_folder,
)
from batchbench.servers import Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Where plans run, and with what. subjects: () for the tables of the profile."""

    server: Server
    settings: Settings
    subjects: Sequence[Subject] = ()
    assume_timezone: str | None = None
    scratch_schema: str | None = None


def new_folder(output: Path | None) -> Path:
    """Where a new run goes: as named, else results/ and the time."""
    return output or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"


def measure(
    plan: SweepPlan,
    folder: Path,
    ground: Ground,
    *,
    resume: bool = False,
    budget_s: float | None = None,
    watch: bool = False,
    confirms: str | None = None,
) -> Run:
    """Run a plan, with its progress on standard error. budget_s: of this start, if not the
    plan's. Raises what `run_sweep` raises.
    """
    server = ground.server
    with SweepProgress(err) as progress, watching(folder, wanted=watch) as watcher:
        return run_async(
            run_sweep(
                plan,
                server.dsn,
                ground.settings,
                folder,
                subjects=ground.subjects,
                server_kind=server.kind,
                command=_command(),
                resume=resume,
                budget_s=budget_s,
                assume_timezone=ground.assume_timezone,
                scratch_schema=ground.scratch_schema,
                restart=server.cluster.restart if server.cluster is not None else None,
                confirms=confirms,
                on_progress=both(progress.listen, watcher),
            )
        )


def confirm(
    run: Run,
    ground: Ground,
    budget_s: float,
    constraints: Constraints | None = None,
    *,
    again: bool = True,
) -> Run:
    """Measure afresh what `run` recommends, beside all within reach of it, and give each of them
    one sustained load where there is time; the run with that.

    A confirmation that was broken off goes on. again: whether one that ended is followed by
    another. Raises ConfigError where the server is another one
    than the run's, InputError where the run recommends nothing.
    """
    _check_server(run, ground.server)
    speeds = _finalists(run, constraints)
    sustained, sustained_s = _sustained(run, speeds, budget_s, again=again)
    begun = unfinished(run, list(speeds))
    if begun or again or not run.confirmations:
        plan = begun or confirmation_plan(run, list(speeds), budget_s - sustained_s)
        folder = run.confirmations[-1].folder if begun else _new_folder(run, confirmation_folder)
        err.print(f"confirming {len(speeds)} configurations in a fresh run", markup=False)
        measure(plan, folder, ground, resume=begun is not None, confirms=run.info.run_id)
    if sustained is not None:
        resumed = run.sustained[-1].folder if sustained.resume else None
        folder = resumed or _new_folder(run, sustained_folder)
        err.print("one sustained load of each", markup=False)
        measure(sustained.plan, folder, ground, resume=sustained.resume, confirms=run.info.run_id)
    return load_run(run.folder)


def _finalists(run: Run, constraints: Constraints | None) -> dict[Configuration, float]:
    """What a fresh run has to measure, with the speed that the run found."""
    found = {}
    for rtt_ms in run.rtts_ms:
        part = run.at(rtt_ms)
        speeds = {finalist_of(row): row.rows_per_s or 1.0 for row in ranking(part, constraints)}
        for finalist in recommend(part, constraints).finalists:
            way, rows = finalist.way, finalist.chunk_rows
            plugs = (finalist.table, way.strategy, way.driver)
            configuration = Configuration(
                *(*plugs, rows, way.parallelism, rtt_ms), transaction=way.transaction
            )
            found[configuration] = speeds[finalist]
    return found


@dataclass(frozen=True, slots=True)
class _Sustained:
    """Sustained loads to come. resume: of the run's last ones, which were broken off."""

    plan: SweepPlan
    resume: bool


def _sustained(
    run: Run, speeds: Mapping[Configuration, float], budget_s: float, *, again: bool
) -> tuple[_Sustained | None, float]:
    """The sustained loads that confirm the finalists, and their seconds; None, and the reason told
    where it is not plain, where there are none to come.
    """
    if run.info.plan.get("regime") == "sustained":  # all of its trials are such loads
        return None, 0.0
    plan, need_s = sustained_plan(run, speeds, SUSTAINED_SHARE * budget_s)
    last = run.sustained[-1] if run.sustained else None
    if last is not None and not is_whole(last):
        begun = plan_from_document(dict(last.info.plan))
        if set(begun.configurations) == set(speeds):
            return _Sustained(begun, resume=True), need_s
    elif last is not None and not again:
        return None, 0.0
    if need_s > SUSTAINED_SHARE * budget_s:
        wanted_s = math.ceil(need_s / SUSTAINED_SHARE / 10) * 10
        warn(
            f"no sustained loads: one of each of {len(speeds)} configurations takes about"
            f" {need_s:.0f} s, more than {SUSTAINED_SHARE:.0%} of {budget_s:.0f} s; recommend"
            f" {run.folder} --confirm --budget {wanted_s}s has time for them"
        )
        return None, 0.0
    return _Sustained(plan, resume=False), need_s


def _new_folder(run: Run, named: Callable[[Run, int], Path]) -> Path:
    folders = (named(run, number) for number in count(1))
    return next(folder for folder in folders if not folder.exists())


def _check_server(run: Run, server: Server) -> None:
    stored = run.info.server
    if stored.kind != server.kind:
        raise ConfigError(
            f"{run.folder} was measured on a server of kind {stored.kind}, this one is"
            f" {server.kind}; name its own by --dsn or --server"
        )


def _command() -> list[str]:
    """How to repeat the run, without the address of the server: it may hold a password."""
    shown: list[str] = []
    for argument in sys.argv[1:]:
        if shown and shown[-1] == "--dsn":
            shown.append("...")
        elif argument.startswith("--dsn="):
            shown.append("--dsn=...")
        else:
            shown.append(argument)
    return ["batchbench", *shown]
