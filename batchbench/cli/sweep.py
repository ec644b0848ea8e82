"""batchbench sweep"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.advice import goal_exit_code, show_advice
from batchbench.cli.console import err, out
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    EnvFile,
    ServerSpec,
    profile_metrics,
    read_settings,
    seconds_of,
    server_to_measure,
    split_names,
    split_numbers,
)
from batchbench.cli.progress import SweepProgress
from batchbench.cli.running import run_async
from batchbench.cli.watching import both, watching
from batchbench.config import Settings
from batchbench.drivers import CAPABILITIES
from batchbench.errors import ConfigError
from batchbench.harness import (
    DEFAULT_BUDGET_S,
    DEFAULT_ROWS,
    MOST_BLOCKS,
    Configuration,
    Subject,
    SweepPlan,
    default_plan,
    full_grid,
    plan_from_document,
    run_sweep,
    table_subjects,
    usable_cores,
)
from batchbench.results import load_run
from batchbench.sources import open_source
from batchbench.stats import detectable
from batchbench.strategies import OnConflict, find_strategy, strategy_names
from batchbench.table import parse_table_name

_REPEATS = 3

PAIR_SD = 0.15
"""Spread of one pair's log ratio: 0.11-0.17 was measured (design.md, "Noise, measured")."""


def sweep_command(
    profile: Annotated[
        str | None, typer.Option(help="Metrics to sweep, with commas. Default: all five.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Sweep a scratch copy of this table instead of the health tables; may be repeated."
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="With one --table: a file whose rows to load.")
    ] = None,
    rows: Annotated[int, typer.Option(help="Rows of each load.", min=1)] = DEFAULT_ROWS,
    strategy: Annotated[
        str | None, typer.Option(help=f"With commas: {', '.join(strategy_names())}.")
    ] = None,
    driver: Annotated[
        str | None, typer.Option(help=f"With commas: {', '.join(CAPABILITIES)}.")
    ] = None,
    chunk_size: Annotated[str | None, typer.Option(help="Rows a chunk, with commas.")] = None,
    parallelism: Annotated[str | None, typer.Option(help="Writers, with commas.")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Loads of each configuration. Default: 3.", min=1)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Lives of the embedded server to spread the loads over. Default: 1, without"
            " arguments 3.",
            min=1,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of rows and order.", min=0)] = 1,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="As in batchbench load.")
    ] = OnConflict.ERROR,
    assume_timezone: Annotated[
        str | None, typer.Option(help="Zone of times of --source that bear none.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run. Default: results/ and the time."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(help="Stop after the last whole block that fits, such as 90s, 10m or 1h."),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the plan and the smallest difference it can show; run nothing."
        ),
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Serve the report on loopback while the sweep runs.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output, as it was planned.")
    ] = False,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> int:
    """Measure strategies, drivers, chunk sizes and parallelism; recommend BATCH_* values.

    Without arguments: the five health tables on an embedded PostgreSQL, in about two minutes.
    Naming any of --strategy, --driver, --chunk-size, --parallelism or --repeats runs the full
    grid of what is named. Exit code 1 where no configuration of a table meets the goal: 10,000
    rows in under 5 s and under 500 MB.
    """
    settings = read_settings(env_file)
    budget_s = None if budget is None else seconds_of(budget, "--budget")
    subjects = _subjects(table, profile, source)
    labels = [subject.label for subject in subjects] or profile_metrics(profile)
    if resume:
        folder, plan = _stored_plan(output)
    else:
        folder = output or Path("results") / f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
        grid = (strategy, driver, chunk_size, parallelism, repeats)
        if all(value is None for value in grid):
            plan = default_plan(usable_cores(), settings, tables=labels)
            budget_s = budget_s or DEFAULT_BUDGET_S
        else:
            plan = SweepPlan(
                configurations=_grid(labels, settings, strategy, driver, chunk_size, parallelism),
                repeats=repeats or (_REPEATS if budget_s is None else MOST_BLOCKS),
            )
        plan = replace(
            plan, rows=rows, seed=seed, on_conflict=on_conflict, epochs=epochs or plan.epochs
        )
    if dry_run:
        _show_plan(plan, budget_s)
        return 0
    with (
        server_to_measure(dsn, server, data_dir) as opened,
        SweepProgress(err) as progress,
        watching(folder, wanted=watch) as watcher,
    ):
        err.print(f"PostgreSQL {opened.version} ({opened.kind})", markup=False)
        run = run_async(
            run_sweep(
                plan,
                opened.dsn,
                settings,
                folder,
                subjects=subjects,
                server_kind=opened.kind,
                command=_command(),
                resume=resume,
                budget_s=budget_s,
                assume_timezone=assume_timezone,
                restart=opened.cluster.restart if opened.cluster is not None else None,
                on_progress=both(progress.listen, watcher),
            )
        )
    advice = show_advice(run, as_json=as_json)
    if not as_json:
        out.print(f"\nrun: {folder}", markup=False)
    return goal_exit_code(advice)


def _show_plan(plan: SweepPlan, budget_s: float | None) -> None:
    """What would run, and what it could show."""
    for configuration in plan.configurations:
        out.print(str(configuration), markup=False)
    blocks = f"{plan.repeats:,} blocks" if budget_s is None else f"blocks for {budget_s:,.0f} s"
    out.print(
        f"{len(plan.configurations)} configurations and {len(plan.tables)} yardsticks,"
        f" {plan.rows:,} rows a load, {blocks}, {plan.epochs} epochs",
        markup=False,
    )
    if budget_s is not None:
        return
    loads = plan.repeats * plan.block_size + plan.epochs * len(plan.warmup_trials())
    smallest = detectable(PAIR_SD, plan.repeats, plan.epochs)
    shown = f"{smallest:.0%}" if smallest is not None else "none: six blocks are the least"
    out.print(
        f"{loads:,} loads; smallest difference between two configurations that this shows nine"
        f" times in ten, where single pairs vary by {PAIR_SD:.0%}: {shown}",
        markup=False,
    )


def _subjects(
    table: list[str] | None, profile: str | None, source: str | None
) -> tuple[Subject, ...]:
    if not table:
        if source is not None:
            raise ConfigError("--source needs the --table that its rows go into")
        return ()
    if profile is not None:
        raise ConfigError("--table and --profile exclude each other: give one of them")
    names = [parse_table_name(text) for text in table]
    return table_subjects(names, open_source(source) if source is not None else None)


def _stored_plan(output: Path | None) -> tuple[Path, SweepPlan]:
    if output is None:
        raise ConfigError("--resume needs the --output folder of the run to go on with")
    return output, plan_from_document(dict(load_run(output).info.plan))


def _grid(
    labels: list[str],
    settings: Settings,
    strategy: str | None,
    driver: str | None,
    chunk_size: str | None,
    parallelism: str | None,
) -> tuple[Configuration, ...]:
    """The full grid of what was named; for what was not: every strategy and driver, and the
    configured chunk size and writers.
    """
    strategies = split_names(strategy) or ["values", "unnest", "copy"]
    for name in strategies:
        find_strategy(name)
    drivers = split_names(driver) or list(CAPABILITIES)
    writers = split_numbers(parallelism, "--parallelism") or [settings.writers]
    sizes = split_numbers(chunk_size, "--chunk-size")
    return tuple(
        configuration
        for label in labels
        for configuration in full_grid(
            [label], strategies, drivers, sizes or [settings.chunk_size(label)], writers
        )
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
