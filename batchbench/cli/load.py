"""batchbench load"""

from __future__ import annotations

from batchbench.casts import CastOptions
from batchbench.cli import load_flags as flags
from batchbench.cli.console import err, note, out, warn
from batchbench.cli.loaded import show_plan, show_result
from batchbench.cli.metrics import served_too
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    EnvFile,
    ServerSpec,
    profile_metrics,
    read_settings,
    server_of_the_user,
    split_names,
)
from batchbench.cli.progress import JsonLog, LoadProgress
from batchbench.cli.running import run_async
from batchbench.ddl import table_ddl
from batchbench.deadletter import rejected_rows
from batchbench.drivers import Session, connect
from batchbench.engine import LoadError, LoadOptions, LoadPlan, load, plan_load
from batchbench.engine.pacing import PaceLimits
from batchbench.engine.policies import Policies
from batchbench.errors import ConfigError
from batchbench.ledger import DEFAULT_SCHEMA
from batchbench.monitoring.prometheus import LOOPBACK
from batchbench.profile import PROFILES
from batchbench.sources import (
    HealthOptions,
    Source,
    SourceOptions,
    infer_types,
    open_source,
    open_sources,
)
from batchbench.strategies import OnConflict
from batchbench.table import TableName, parse_table_name

REJECTED = 3
UNKNOWN = 4


_TABLE_EXISTS = "SELECT pg_catalog.to_regclass($1::text)::text"


def load_command(
    files: flags.Files = None,
    table: flags.IntoTable = None,
    create: flags.Create = False,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    file_format: flags.FileFormat = None,
    delimiter: flags.Delimiter = None,
    quote: flags.Quote = '"',
    null_string: flags.NullString = "",
    encoding: flags.Encoding = "utf-8",
    map_columns: flags.Map = None,
    missing: flags.MissingOption = flags.MissingKey.NULL,
    strategy: flags.Strategy = None,
    driver: flags.Driver = None,
    chunk_size: flags.ChunkSize = None,
    parallelism: flags.Parallelism = None,
    on_conflict: flags.OnConflictOption = OnConflict.ERROR,
    conflict_target: flags.ConflictTarget = None,
    update_columns: flags.UpdateColumns = None,
    newer_by: flags.NewerBy = None,
    skip_unchanged: flags.SkipUnchanged = False,
    dedup: flags.DedupOption = None,
    transaction: flags.Transaction = "chunk",
    on_reject: flags.OnRejectOption = None,
    max_rejects: flags.MaxRejects = None,
    dead_letter: flags.DeadLetter = None,
    retry_rejects: flags.RetryRejects = None,
    exactly_once: flags.ExactlyOnceOption = flags.ExactlyOnce.AUTO,
    ledger_schema: flags.LedgerSchema = DEFAULT_SCHEMA,
    pooler: flags.PoolerOption = None,
    resume: flags.Resume = None,
    durability: flags.DurabilityOption = flags.Durability.FULL,
    wait_limit_s: flags.WaitLimitS = 120.0,
    nan: flags.NanOption = flags.NanPolicy.NAN,
    nul: flags.NulOption = flags.NulPolicy.REJECT,
    ignore_columns: flags.IgnoreColumns = None,
    assume_timezone: flags.AssumeTimezone = None,
    user_id: flags.UserId = None,
    metrics: flags.Metrics = None,
    log_format: flags.LogFormatOption = flags.LogFormat.TEXT,
    max_rows_per_s: flags.MaxRowsPerS = None,
    max_wal_mb_per_s: flags.MaxWalMbPerS = None,
    max_replica_lag_mb: flags.MaxReplicaLagMb = None,
    pause_when_locks_wait: flags.PauseWhenLocksWait = False,
    metrics_port: flags.MetricsPort = None,
    metrics_host: flags.MetricsHost = LOOPBACK,
    dry_run: flags.DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Load files into a table, fast, with every row accounted for.

    Example: batchbench load rows.parquet --table public.orders --dsn postgresql://me@host/db
    """
    settings = read_settings(env_file)
    options = LoadOptions(
        settings=settings,
        strategy=strategy,
        driver=driver,
        chunk_size=flags.parse_chunk_size(chunk_size),
        parallelism=parallelism,
        on_conflict=on_conflict,
        conflict_target=tuple(split_names(conflict_target)),
        update_columns=tuple(split_names(update_columns)),
        newer_by=newer_by,
        skip_unchanged=skip_unchanged,
        dedup=dedup.value if dedup is not None else None,
        transaction=flags.parse_transaction(transaction),
        ignore_columns=frozenset(split_names(ignore_columns)),
        cast_options=CastOptions(assume_timezone=assume_timezone),
        policies=Policies(nan=nan.value, nul=nul.value),
        on_reject=on_reject.value if on_reject is not None else None,
        max_rejects=flags.parse_max_rejects(max_rejects),
        dead_letter=dead_letter,
        exactly_once=exactly_once.value,
        ledger_schema=ledger_schema,
        pooler=pooler.value if pooler is not None else None,
        durability=durability.value,
        wait_limit_s=wait_limit_s,
        pace=PaceLimits(
            max_rows_per_s=max_rows_per_s,
            max_wal_mb_per_s=max_wal_mb_per_s,
            max_replica_lag_mb=max_replica_lag_mb,
            pause_when_locks_wait=pause_when_locks_wait,
        ),
    )
    columns = {metric: PROFILES[metric].arrow_schema for metric in profile_metrics(metrics)}
    if (retry_rejects is None) == (not files):
        raise ConfigError("name the files to load, or a dead letter with --retry-rejects")
    reading = SourceOptions(
        delimiter=flags.parse_delimiter(delimiter),
        quote=quote,
        null_string=null_string,
        encoding=encoding,
        columns=flags.parse_map(map_columns),
        missing=missing.value,
    )
    if retry_rejects is not None:
        rows = rejected_rows(retry_rejects)
        source = open_source(rows, options=reading, name=str(retry_rejects))
    else:
        source = open_sources(
            files or [],
            format=file_format,
            options=reading,
            health=HealthOptions(columns, user_id),
        )
    tables = _tables(source, table, metrics)
    with server_of_the_user(dsn, server, data_dir) as opened:
        if dry_run:
            plan = _dry_run(source, tables, opened.dsn, options, create=create)
            if (planned := run_async(plan)) is not None:
                show_plan(planned, source, reading.columns)
            return 0
        progress = JsonLog(err) if log_format is flags.LogFormat.JSON else LoadProgress(err)
        try:
            with served_too(progress.listen, metrics_port, metrics_host) as listen, progress:
                if create:
                    run_async(_create_missing(source, tables, opened.dsn, options))
                result = run_async(
                    load(
                        source,
                        tables,
                        opened.dsn,
                        options,
                        resume=resume,
                        on_event=listen,
                    )
                )
        except LoadError as error:
            show_result(error.result, as_json=as_json)
            raise
        except KeyboardInterrupt:
            if progress.result is not None:
                show_result(progress.result, as_json=as_json)
            raise
    for remark, count in source.remarks().items():
        warn(f"{remark}: {count:,}")
    show_result(result, as_json=as_json)
    if result.total.unknown:
        return UNKNOWN
    return REJECTED if result.total.rejected else 0


def _tables(source: Source, table: str | None, metrics: str | None) -> dict[str | None, TableName]:
    """Where each target of the source goes."""
    if source.targets:
        if table is not None:
            raise ConfigError(
                f"{source.name} holds several metrics, each with a table of its own: leave --table"
                " out, and choose with --metrics"
            )
        return {metric: TableName(PROFILES[metric].table_name) for metric in source.targets}
    if metrics is not None:
        raise ConfigError(f"--metrics is for health JSON, {source.name} is a table of rows")
    if table is None:
        raise ConfigError("no table is named: give --table")
    return {None: parse_table_name(table)}


async def _create_missing(
    source: Source, tables: dict[str | None, TableName], dsn: str, options: LoadOptions
) -> None:
    session = await connect(options.driver_name, dsn, pooler=options.pooler_name)
    try:
        for name in tables.values():
            if not await _exists(session, name):
                await session.run(_ddl(source, name))
                note(f"created table {name}")
    finally:
        await session.close()


async def _exists(session: Session, name: TableName) -> bool:
    rows = await session.fetch(_TABLE_EXISTS, name.sql)
    return rows[0][0] is not None


def _ddl(source: Source, name: TableName) -> str:
    """The profile's table where the name is one of its, else one as the source's columns are."""
    for profile in PROFILES.values():
        if profile.table_name == name.table:
            return profile.create_sql(name)
    return table_ddl(name, infer_types(source))


async def _dry_run(
    source: Source,
    tables: dict[str | None, TableName],
    dsn: str,
    options: LoadOptions,
    *,
    create: bool,
) -> LoadPlan | None:
    """The plan; None where the table is not there yet, which is said."""
    session = await connect(options.driver_name, dsn, pooler=options.pooler_name)
    try:
        for name in list(tables.values()) if create else []:
            if not await _exists(session, name):
                out.print(f"would create:\n{_ddl(source, name)}", markup=False)
                return None
        return await plan_load(session, source, tables, options)
    finally:
        await session.close()
