"""batchbench sweep"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli import sweep_flags as flags
from batchbench.cli.advice import advice_document, goal_exit_code, show_advice
from batchbench.cli.arrivals import show_keeping_up
from batchbench.cli.console import err, out, print_json
from batchbench.cli.measuring import Ground, confirm, measure, new_folder
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
)
from batchbench.cli.planned import (
    Grid,
    check_target,
    filled_rows,
    find_subjects,
    make_plan,
    server_settings,
    show_plan,
    spread_of,
    stored_plan,
)
from batchbench.errors import ConfigError
from batchbench.harness import CONFIRMATION_S, PAYLOAD_ROWS, Search, SweepPlan, configured
from batchbench.recommend import recommend
from batchbench.results import Run
from batchbench.strategies import OnConflict


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
    source: flags.SourceFile = None,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Rows of each load; those of --source are cut to it, or repeated. Default: 10,000,"
            " or without a grid what 20 chunks need, as far as the budget goes.",
            min=1,
        ),
    ] = None,
    strategy: flags.Strategies = None,
    driver: flags.Drivers = None,
    chunk_size: flags.ChunkSizes = None,
    parallelism: flags.Writers = None,
    transaction: flags.Transactions = None,
    rtt_ms: Annotated[
        str | None,
        typer.Option(
            help="Add these round trips between engine and server, with commas: 0,1,5,20."
        ),
    ] = None,
    table_state: flags.TableState = "empty",
    regime: flags.Regime = flags.RegimeName.BURST,
    arrival_rate: Annotated[
        float | None,
        typer.Option(
            help="Rows a second that arrive, however fast they are written (an open loop): waits"
            " are measured from the scheduled arrival."
        ),
    ] = None,
    max_wait_ms: Annotated[
        str | None,
        typer.Option(
            help="With --arrival-rate: let the rows arrive in a Writer, and compare these flush"
            " ages, with commas: 1,5,20,100."
        ),
    ] = None,
    payload_rows: Annotated[
        int | None,
        typer.Option(
            help=f"With --max-wait-ms: rows of each Writer.add. Default: {PAYLOAD_ROWS}.", min=1
        ),
    ] = None,
    target_p99_ms: Annotated[
        int | None,
        typer.Option(
            help="With --max-wait-ms: recommend the longest flush age whose tickets' p99 is under"
            " it.",
            min=1,
        ),
    ] = None,
    server_setting: flags.ServerSetting = None,
    repeats: Annotated[
        int | None, typer.Option(help="Loads of each configuration. Default: 3.", min=1)
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Lives of client process and embedded server to spread the loads over."
            " Default: 1, without a grid 3.",
            min=1,
        ),
    ] = None,
    seed: flags.Seed = 1,
    on_conflict: flags.OnConflictFlag = OnConflict.ERROR,
    assume_timezone: flags.AssumeTimezone = None,
    output: flags.Output = None,
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
    spread_from: Annotated[
        Path | None,
        typer.Option(
            "--spread-of", help="With --dry-run: a run that shows how much loads vary here."
        ),
    ] = None,
    watch: flags.Watch = False,
    resume: flags.Resume = False,
    race: Annotated[
        bool,
        typer.Option(
            "--race",
            help="Stop what is surely under 0.97 of the best, at looks after 6, 12, 24 and 48"
            " blocks.",
        ),
    ] = False,
    confirmed: Annotated[
        bool,
        typer.Option(
            "--confirm",
            help="Then measure the recommendation afresh, beside all within reach of it: about"
            " three minutes more.",
        ),
    ] = False,
    scratch_schema: flags.ScratchSchema = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> int:
    """Measure strategies, drivers, chunk sizes and parallelism; recommend BATCH_* values.

    Without arguments: the five health tables on an embedded PostgreSQL, in about two minutes.
    Naming any of --strategy, --driver, --chunk-size, --parallelism, --transaction or --repeats
    runs the full grid of what is named. Exit code 1 where no configuration of a table meets the
    goal: 10,000 rows in under 5 s and under 500 MB, or no flush age the --target-p99-ms.
    """
    if (confirmed or race) and arrival_rate is not None:
        raise ConfigError(
            "--confirm and --race compare speeds, and --arrival-rate sets them: leave one out"
        )
    if payload_rows is not None and max_wait_ms is None and not resume:
        raise ConfigError(
            "--payload-rows is what each Writer.add brings, and without --max-wait-ms no row goes"
            " through a Writer: name flush ages, such as --max-wait-ms 1,5,20,100, or leave it out"
        )
    settings = read_settings(env_file)
    budget_s = None if budget is None else seconds_of(budget, "--budget")
    subjects = find_subjects(table, profile, source)
    labels = [subject.label for subject in subjects] or profile_metrics(profile)
    if resume:
        folder, plan = stored_plan(output, subjects)
    else:
        folder = new_folder(output)
        grid = Grid(
            strategy=strategy,
            driver=driver,
            chunk_size=chunk_size,
            parallelism=parallelism,
            rtt_ms=rtt_ms,
            max_wait_ms=max_wait_ms,
            transaction=transaction,
        )
        conditions = SweepPlan(
            configurations=(configured(labels[0], settings),),
            seed=seed,
            on_conflict=on_conflict,
            filled=filled_rows(table_state),
            regime=regime.value,
            server_settings=server_settings(server_setting or []),
            arrival_rows_per_s=arrival_rate,
            payload_rows=payload_rows or PAYLOAD_ROWS,
            search=Search() if race else None,
        )
        plan = make_plan(
            grid,
            labels,
            settings,
            conditions,
            rows=rows,
            repeats=repeats,
            epochs=epochs,
            budget_s=budget_s,
        )
    check_target(plan, target_p99_ms)
    if dry_run:
        show_plan(plan, spread_of(spread_from))
        return 0
    with server_to_measure(dsn, server, data_dir) as opened:
        err.print(f"PostgreSQL {opened.version} ({opened.kind})", markup=False)
        ground = Ground(
            server=opened,
            settings=settings,
            subjects=subjects,
            assume_timezone=assume_timezone,
            scratch_schema=scratch_schema,
        )
        # A new run's plan has the budget.
        left_s = budget_s if resume else None
        run = measure(plan, folder, ground, resume=resume, budget_s=left_s, watch=watch)
        if confirmed:
            run = confirm(run, ground, CONFIRMATION_S, again=not resume)
    code = _show(run, target_p99_ms, as_json=as_json)
    if not as_json:
        out.print(f"\nrun: {folder}", markup=False)
    return code


def _show(run: Run, target_p99_ms: int | None, *, as_json: bool) -> int:
    """The advice, for each round trip its own: what is best near may be worst far away."""
    if run.is_open_loop:
        return show_keeping_up(run, target_p99_ms, as_json=as_json)
    if len(run.rtts_ms) == 1:
        return goal_exit_code(show_advice(run, as_json=as_json))
    parts = {rtt_ms: run.at(rtt_ms) for rtt_ms in run.rtts_ms}
    if as_json:
        documents = [{"rtt_ms": rtt, **advice_document(part)} for rtt, part in parts.items()]
        print_json({"run_id": run.info.run_id, "round_trips": documents})
        return max(goal_exit_code(recommend(part)) for part in parts.values())
    codes = []
    for rtt_ms, part in parts.items():
        out.print(f"\nround trips of {rtt_ms:g} ms more", markup=False)
        codes.append(goal_exit_code(show_advice(part, as_json=False)))
    return max(codes)
