"""batchbench tune"""

from __future__ import annotations

from typing import Annotated

import typer

from batchbench.cli import sweep_flags as flags
from batchbench.cli.advice import goal_exit_code, show_advice
from batchbench.cli.console import err, out
from batchbench.cli.measuring import Ground, confirm, measure, new_folder
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    EnvFile,
    MaxConnections,
    MaxMemory,
    MaxP99,
    MaxWal,
    ServerSpec,
    profile_metrics,
    read_settings,
    seconds_of,
    server_to_measure,
    split_names,
    split_numbers,
)
from batchbench.cli.planned import (
    boundaries,
    filled_rows,
    find_subjects,
    server_settings,
    stored_plan,
)
from batchbench.errors import ConfigError
from batchbench.harness import (
    SEARCH_SHARE,
    TUNE_BUDGET_S,
    Space,
    SweepPlan,
    configured,
    first_block_s,
    tune_plan,
    usable_cores,
)
from batchbench.results import Constraints
from batchbench.strategies import OnConflict, find_strategy


def tune_command(
    profile: Annotated[
        str | None, typer.Option(help="Metrics to tune for, with commas. Default: all five.")
    ] = None,
    table: Annotated[
        list[str] | None,
        typer.Option(
            help="Tune on a scratch copy of this table instead of the health tables; may be"
            " repeated."
        ),
    ] = None,
    source: flags.SourceFile = None,
    rows: Annotated[
        int | None,
        typer.Option(
            help="Rows of each load. Default: enough for 20 of the largest chunks.", min=1
        ),
    ] = None,
    strategy: flags.Strategies = None,
    driver: flags.Drivers = None,
    chunk_size: flags.ChunkSizes = None,
    parallelism: flags.Writers = None,
    transaction: flags.Transactions = None,
    max_memory_mb: MaxMemory = None,
    max_p99_ms: MaxP99 = None,
    max_connections: MaxConnections = None,
    max_wal_mb_per_s: MaxWal = None,
    budget: Annotated[
        str | None,
        typer.Option(help="For search and confirmation, such as 90s, 10m or 1h. Default: 5m."),
    ] = None,
    confirmed: Annotated[
        bool,
        typer.Option(
            "--confirm/--no-confirm",
            help="Whether to keep a part of the time to measure what was found afresh.",
        ),
    ] = True,
    rtt_ms: Annotated[
        float, typer.Option(help="Add this round trip between engine and server.", min=0)
    ] = 0.0,
    table_state: flags.TableState = "empty",
    regime: flags.Regime = flags.RegimeName.BURST,
    server_setting: flags.ServerSetting = None,
    seed: flags.Seed = 1,
    on_conflict: flags.OnConflictFlag = OnConflict.ERROR,
    assume_timezone: flags.AssumeTimezone = None,
    output: flags.Output = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be searched; run nothing.")
    ] = False,
    watch: flags.Watch = False,
    resume: flags.Resume = False,
    scratch_schema: flags.ScratchSchema = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> int:
    """Look for the best BATCH_* values in less time than a sweep of all of them takes.

    Begins with two chunk sizes of every strategy, driver and number of writers; stops the worse
    ones, tries the neighbours of the better ones, and repeats the best until one is left or the
    time is over. Then what it recommends is measured afresh. Exit code 1 where no configuration of
    a table meets the goal: 10,000 rows in under 5 s and under 500 MB.
    """
    settings = read_settings(env_file)
    constraints = Constraints(
        max_memory_mb=max_memory_mb,
        max_p99_ms=max_p99_ms,
        max_connections=max_connections,
        max_wal_mb_per_s=max_wal_mb_per_s,
    )
    budget_s = TUNE_BUDGET_S if budget is None else seconds_of(budget, "--budget")
    search_s = SEARCH_SHARE * budget_s if confirmed else budget_s
    subjects = find_subjects(table, profile, source)
    labels = [subject.label for subject in subjects] or profile_metrics(profile)
    if resume:
        folder, plan = stored_plan(output, subjects)
        if plan.search is None:
            raise ConfigError(f"the run in {folder} is a sweep; go on with it by batchbench sweep")
        constraints = plan.search.constraints
    else:
        folder = new_folder(output)
        for name in split_names(strategy):
            find_strategy(name)
        space = Space(
            strategies=split_names(strategy),
            drivers=split_names(driver),
            chunk_sizes=split_numbers(chunk_size, "--chunk-size"),
            writers=split_numbers(parallelism, "--parallelism"),
            transactions=boundaries(transaction),
            rtt_ms=rtt_ms,
        )
        conditions = SweepPlan(
            configurations=(configured(labels[0], settings),),
            seed=seed,
            on_conflict=on_conflict,
            filled=filled_rows(table_state),
            regime=regime.value,
            server_settings=server_settings(server_setting or []),
        )
        plan = tune_plan(
            conditions,
            labels,
            settings,
            space,
            constraints,
            cores=usable_cores(),
            budget_s=search_s,
            rows=rows,
        )
    if dry_run:
        _show_plan(plan)
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
        run = measure(plan, folder, ground, resume=resume, watch=watch)
        if confirmed:
            run = confirm(run, ground, budget_s - search_s, constraints, again=not resume)
    advice = show_advice(run, as_json=as_json, constraints=constraints)
    if not as_json:
        out.print(f"\nrun: {folder}", markup=False)
    return goal_exit_code(advice)


def _show_plan(plan: SweepPlan) -> None:
    starts = () if plan.search is None else plan.search.starts or ()
    for index in starts:
        out.print(str(plan.configurations[index]), markup=False)
    out.print(
        f"{len(starts)} of {len(plan.configurations)} configurations begin, {plan.rows:,} rows a"
        f" load: about {first_block_s(plan):,.0f} s of the {plan.budget_s or 0:,.0f} s for the"
        " search; what is good brings in its neighbours",
        markup=False,
    )
