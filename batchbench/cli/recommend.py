"""batchbench recommend"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.advice import show_advice
from batchbench.cli.console import err, out
from batchbench.cli.explaining import show_explanation
from batchbench.cli.files import write_whole
from batchbench.cli.measuring import Ground, confirm
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    MaxConnections,
    MaxMemory,
    MaxP99,
    MaxWal,
    RoundTrips,
    ServerSpec,
    at_round_trips,
    closed_loop,
    seconds_of,
    server_to_measure,
)
from batchbench.cli.planned import find_subjects, stored_plan
from batchbench.config import Settings
from batchbench.errors import ConfigError
from batchbench.harness import CONFIRMATION_S
from batchbench.recommend import env_text, explain, recommend
from batchbench.report import build_report, plain_lines
from batchbench.report.current import settings_of
from batchbench.results import Constraints, Run, load_run


def recommend_command(
    run: Annotated[Path, typer.Argument(help="The folder of a sweep's run.", metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the values to this .env file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    rtt_ms: RoundTrips = None,
    explained: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="VARIABLE",
            help="Why this value: what others would cost in speed, memory and p99.",
        ),
    ] = None,
    max_memory_mb: MaxMemory = None,
    max_p99_ms: MaxP99 = None,
    max_connections: MaxConnections = None,
    max_wal_mb_per_s: MaxWal = None,
    confirmed: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="First measure the recommendation afresh, beside all within reach of it.",
        ),
    ] = False,
    budget: Annotated[
        str | None, typer.Option(help="With --confirm: its time, such as 90s or 10m. Default: 3m.")
    ] = None,
    table: Annotated[
        list[str] | None, typer.Option(help="With --confirm: the run's --table, again.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="With --confirm: the run's --source, again.")
    ] = None,
    assume_timezone: Annotated[
        str | None, typer.Option(help="With --confirm: the run's, again.")
    ] = None,
    scratch_schema: Annotated[
        str | None, typer.Option(help="With --confirm: as in batchbench sweep.")
    ] = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Print the BATCH_* values that a run recommends, each with its reason.

    They are confirmed where a fresh run has shown that they surely reach 95 % of the best, else
    provisional.
    """
    if output is not None and explained is not None:
        raise ConfigError("--explain and --output exclude each other: a file gets all values")
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output} exists; give another name, or --force to replace it")
    constraints = Constraints(
        max_memory_mb=max_memory_mb,
        max_p99_ms=max_p99_ms,
        max_connections=max_connections,
        max_wal_mb_per_s=max_wal_mb_per_s,
    )
    whole = _tunable(load_run(run))
    stored = at_round_trips(whole, rtt_ms)
    if confirmed:
        _, plan = stored_plan(run, subjects := find_subjects(table, None, source))
        budget_s = CONFIRMATION_S if budget is None else seconds_of(budget, "--budget")
        with server_to_measure(dsn, server, data_dir) as opened:
            ground = Ground(
                server=opened,
                settings=settings_of(whole.info) or Settings(),
                subjects=[subject for subject in subjects if subject.label in plan.tables],
                assume_timezone=assume_timezone,
                scratch_schema=scratch_schema,
            )
            stored = at_round_trips(confirm(stored, ground, budget_s, constraints), rtt_ms)
    if explained is not None:
        show_explanation(explain(stored, explained, constraints), as_json=as_json)
        return 0
    advice = recommend(stored, constraints)
    if as_json:
        show_advice(stored, as_json=True, constraints=constraints)
    elif output is None:
        # Standard output is the .env file.
        for line in plain_lines(build_report(stored, constraints=constraints).first):
            err.print(line, markup=False)
        out.print(env_text(advice), markup=False, end="")
    if output is not None:
        write_whole(output, env_text(advice))
        err.print(f"wrote {output}", markup=False)
    return 0


def _tunable(run: Run) -> Run:
    if run.info.is_imported:
        raise ConfigError(
            f"{run.folder} holds benchmarks of pytest-benchmark, which have no BATCH_* to set;"
            " recommend from a sweep"
        )
    return closed_loop(run)
