"""Run plans under a command: the sweep itself, and the fresh run that confirms it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from batchbench.cli.console import err
from batchbench.cli.progress import SweepProgress
from batchbench.cli.running import run_async
from batchbench.cli.watching import both, watching
from batchbench.config import Settings
from batchbench.errors import ConfigError
from batchbench.harness import (
    Configuration,
    Subject,
    SweepPlan,
    confirmation_plan,
    run_sweep,
    unfinished,
)
from batchbench.recommend import recommend
from batchbench.results import Constraints, Run, confirmation_folder, load_run
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
    """Measure afresh what `run` recommends, beside all within reach of it; the run with that.

    A confirmation that was broken off goes on. again: whether one that ended is followed by
    another. Raises ConfigError where the server is another one
    than the run's, InputError where the run recommends nothing.
    """
    _check_server(run, ground.server)
    wanted = [
        Configuration(
            finalist.table,
            finalist.way.strategy,
            finalist.way.driver,
            finalist.chunk_rows,
            finalist.way.parallelism,
            rtt_ms,
        )
        for rtt_ms in run.rtts_ms
        for finalist in recommend(run.at(rtt_ms), constraints).finalists
    ]
    begun = unfinished(run, wanted)
    if run.confirmations and not begun and not again:
        return run
    plan = begun or confirmation_plan(run, wanted, budget_s)
    folder = run.confirmations[-1].folder if begun else _new_folder(run)
    err.print(f"confirming {len(wanted)} configurations in a fresh run", markup=False)
    measure(plan, folder, ground, resume=begun is not None, confirms=run.info.run_id)
    return load_run(run.folder)


def _new_folder(run: Run) -> Path:
    folders = (confirmation_folder(run, number) for number in count(1))
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
