"""batchbench load"""

from __future__ import annotations

import resource
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from batchbench.accounting import LoadResult
from batchbench.casts import CastOptions
from batchbench.cli.console import err, note, out, print_json, warn
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
from batchbench.engine.policies import Policies
from batchbench.errors import ConfigError
from batchbench.ledger import DEFAULT_SCHEMA
from batchbench.profile import PROFILES
from batchbench.sources import (
    FORMATS,
    HealthOptions,
    Source,
    infer_types,
    open_source,
    open_sources,
)
from batchbench.strategies import OnConflict, strategy_names
from batchbench.table import TableName, parse_table_name

REJECTED = 3
UNKNOWN = 4


class OnReject(StrEnum):
    """--on-reject"""

    SKIP = "skip"
    STOP = "stop"


class Dedup(StrEnum):
    """--dedup"""

    FIRST = "first"
    LAST = "last"


class ExactlyOnce(StrEnum):
    """--exactly-once"""

    AUTO = "auto"
    LEDGER = "ledger"
    STATUS = "status"
    OFF = "off"


class LogFormat(StrEnum):
    """--log-format"""

    TEXT = "text"
    JSON = "json"


class NanPolicy(StrEnum):
    """--nan"""

    NAN = "nan"
    NULL = "null"
    ERROR = "error"


class NulPolicy(StrEnum):
    """--nul"""

    REJECT = "reject"
    STRIP = "strip"


class Durability(StrEnum):
    """--durability"""

    FULL = "full"
    RELAXED = "relaxed"


_TABLE_EXISTS = "SELECT pg_catalog.to_regclass($1::text)::text"


def load_command(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            help="Parquet, CSV, NDJSON or health JSON files, plain, .gz or .zst;"
            " - is standard input.",
            metavar="FILE...",
        ),
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Where the rows go: table or schema.table. Not for health JSON."),
    ] = None,
    create: Annotated[
        bool,
        typer.Option(
            help="Make the table where it is missing: the health profile's, or one of the file's"
            " columns and types."
        ),
    ] = False,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help=f"Format of the files: {', '.join(FORMATS)}."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(help=f"auto, {', '.join(strategy_names())}.")
    ] = None,
    driver: Annotated[str | None, typer.Option(help="asyncpg or psycopg.")] = None,
    chunk_size: Annotated[int | None, typer.Option(help="Rows a chunk.")] = None,
    parallelism: Annotated[
        int | None, typer.Option(help="Writers, each with a connection of its own.")
    ] = None,
    on_conflict: Annotated[
        OnConflict, typer.Option(help="What to do with a row whose unique key is there already.")
    ] = OnConflict.ERROR,
    conflict_target: Annotated[
        str | None,
        typer.Option(help="Columns of the unique key that --on-conflict means, with commas."),
    ] = None,
    dedup: Annotated[
        Dedup | None,
        typer.Option(
            help="Which of several rows of one key stays: first or last in the input. Without it,"
            " what --on-conflict leaves: error rejects the later ones, nothing keeps the first,"
            " update the last."
        ),
    ] = None,
    transaction: Annotated[
        str,
        typer.Option(
            help="What is committed together: chunk, batch (all or nothing), or N chunks."
        ),
    ] = "chunk",
    on_reject: Annotated[
        OnReject | None,
        typer.Option(
            help="What a row that cannot be loaded does: skip (it goes to the dead letter, the"
            " others are committed) or stop. Default: skip, but stop under --transaction batch."
        ),
    ] = None,
    max_rejects: Annotated[
        str | None, typer.Option(help="Stop after more rejected rows than N, or P%.")
    ] = None,
    dead_letter: Annotated[
        Path | None,
        typer.Option(
            help="File for rejected rows, NDJSON. Default: results/loads/LOAD_ID/rejects.ndjson."
        ),
    ] = None,
    retry_rejects: Annotated[
        Path | None,
        typer.Option(help="Load the rows of this dead letter, once mended, instead of files."),
    ] = None,
    exactly_once: Annotated[
        ExactlyOnce,
        typer.Option(
            help="How a COMMIT whose answer was lost is settled: by a ledger table, by the"
            " transaction's status, or off. auto: the ledger where this role may have one."
        ),
    ] = ExactlyOnce.AUTO,
    ledger_schema: Annotated[
        str, typer.Option(help="Schema of the ledger's tables.")
    ] = DEFAULT_SCHEMA,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this load id: no row is written twice.")
    ] = None,
    durability: Annotated[
        Durability,
        typer.Option(help="full: synchronous_commit is on, whatever server or role say."),
    ] = Durability.FULL,
    wait_limit_s: Annotated[
        float,
        typer.Option(help="Cut the connection of a statement that takes longer.", min=1),
    ] = 120.0,
    nan: Annotated[
        NanPolicy, typer.Option(help="NaN in the data: nan keeps it, null, or error.")
    ] = NanPolicy.NAN,
    nul: Annotated[
        NulPolicy,
        typer.Option(help="NUL characters in text, which PostgreSQL cannot hold: reject or strip."),
    ] = NulPolicy.REJECT,
    ignore_columns: Annotated[
        str | None, typer.Option(help="Columns of the files to leave out, with commas.")
    ] = None,
    assume_timezone: Annotated[
        str | None, typer.Option(help="Zone of times that bear none, such as Europe/Berlin.")
    ] = None,
    user_id: Annotated[
        str | None, typer.Option(help="The user of a health export, whose records name none.")
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Of health JSON, load these metrics only, with commas."),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            help="On standard error: text (a bar on a terminal), or json, a line an event."
        ),
    ] = LogFormat.TEXT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show casts, limits and plan; write nothing.")
    ] = False,
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
        chunk_size=chunk_size,
        parallelism=parallelism,
        on_conflict=on_conflict,
        conflict_target=tuple(split_names(conflict_target)),
        dedup=dedup.value if dedup is not None else None,
        transaction=_transaction(transaction),
        ignore_columns=frozenset(split_names(ignore_columns)),
        cast_options=CastOptions(assume_timezone=assume_timezone),
        policies=Policies(nan=nan.value, nul=nul.value),
        on_reject=on_reject.value if on_reject is not None else None,
        max_rejects=_max_rejects(max_rejects),
        dead_letter=dead_letter,
        exactly_once=exactly_once.value,
        ledger_schema=ledger_schema,
        durability=durability.value,
        wait_limit_s=wait_limit_s,
    )
    columns = {metric: PROFILES[metric].arrow_schema for metric in profile_metrics(metrics)}
    if (retry_rejects is None) == (not files):
        raise ConfigError("name the files to load, or a dead letter with --retry-rejects")
    if retry_rejects is not None:
        source = open_source(rejected_rows(retry_rejects), name=str(retry_rejects))
    else:
        source = open_sources(
            files or [], format=file_format, health=HealthOptions(columns, user_id)
        )
    tables = _tables(source, table, metrics)
    with server_of_the_user(dsn, server, data_dir) as opened:
        if dry_run:
            return run_async(_dry_run(source, tables, opened.dsn, options, create=create))
        progress = JsonLog(err) if log_format is LogFormat.JSON else LoadProgress(err)
        try:
            with progress:
                if create:
                    run_async(_create_missing(source, tables, opened.dsn, options))
                result = run_async(
                    load(
                        source,
                        tables,
                        opened.dsn,
                        options,
                        resume=resume,
                        on_event=progress.listen,
                    )
                )
        except LoadError as error:
            _show(error.result, as_json=as_json)
            raise
        except KeyboardInterrupt:
            if progress.result is not None:
                _show(progress.result, as_json=as_json)
            raise
    for remark, count in source.remarks().items():
        warn(f"{remark}: {count:,}")
    _show(result, as_json=as_json)
    if result.total.unknown:
        return UNKNOWN
    return REJECTED if result.total.rejected else 0


def _max_rejects(text: str | None) -> int | float | None:
    """A number of rows, or a share of them."""
    if text is None:
        return None
    number = text.removesuffix("%")
    if not number.isascii() or not number.isdigit() or (text != number and int(number) > 100):
        raise ConfigError(f"--max-rejects takes a number of rows or a percentage, not {text!r}")
    return int(number) / 100 if text != number else int(number)


def _transaction(text: str) -> Literal["chunk", "batch"] | int:
    if text == "chunk":
        return "chunk"
    if text == "batch":
        return "batch"
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--transaction takes chunk, batch, or a number of chunks, not {text!r}")


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
    session = await connect(options.driver_name, dsn)
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
) -> int:
    session = await connect(options.driver_name, dsn)
    try:
        for name in list(tables.values()) if create else []:
            if not await _exists(session, name):
                out.print(f"would create:\n{_ddl(source, name)}", markup=False)
                return 0
        plan = await plan_load(session, source, tables, options)
    finally:
        await session.close()
    _show_plan(plan, source)
    return 0


def _show_plan(plan: LoadPlan, source: Source) -> None:
    for text in plan.notices:
        note(text)
    for metric, table_plan in plan.tables.items():
        schema = source.schema() if metric is None else source.targets[metric]
        shape = table_plan.shape(schema, source.name) if schema is not None else None
        out.print(
            f"table {table_plan.table.name}: strategy {table_plan.strategy} ({table_plan.reason}),"
            f" driver {plan.options.driver_name}, writers {plan.options.writers}",
            markup=False,
        )
        if shape is None:
            continue
        out.print(
            f"  {table_plan.configured_rows:,} rows a chunk configured, {shape.chunk_rows:,} used,"
            f" {shape.chunk_plan.use.of(shape.chunk_rows):,} parameters a statement",
            markup=False,
        )
        for cast in shape.casts:
            out.print(
                f"  {cast.column.name}: {cast.source} -> {cast.column.declared} ({cast.exactness})",
                markup=False,
            )


def _show(result: LoadResult, *, as_json: bool) -> None:
    peak_rss_mb = _peak_rss_mb()
    if as_json:
        print_json(
            {
                "load_id": result.load_id,
                **result.total.as_dict(),
                "rows_per_s": round(result.rows_per_s, 1),
                "seconds": round(result.seconds, 6),
                "peak_rss_mb": round(peak_rss_mb, 1),
                "chunks": len(result.chunk_seconds),
                "bytes_sent": result.byte_count,
                "retries": result.retries,
                "altered": dict(result.altered),
                "dead_letter": str(result.dead_letter) if result.dead_letter else None,
                "unknown_rows": result.unknown_rows,
                "tables": {name: counts.as_dict() for name, counts in result.tables.items()},
            }
        )
        return
    for what, count in result.altered.items():
        warn(f"{what}: {count:,}")
    for place in result.unknown_rows:
        warn(f"{place}: whether these rows are committed, the server cannot tell")
    if result.dead_letter is not None:
        warn(f"rejected rows, with their reasons, are in {result.dead_letter}")
    for name, counts in result.tables.items():
        states = [f"{n:,} {state.replace('_', ' ')}" for state, n in counts.as_dict().items() if n]
        out.print(f"{name}: {', '.join(states) or '0 read'}", markup=False)
    out.print(
        f"{result.total.committed:,} rows in {result.seconds:.2f} s"
        f" ({result.rows_per_s:,.0f} rows/s), peak memory {peak_rss_mb:.0f} MB,"
        f" load id {result.load_id}",
        markup=False,
    )


def _peak_rss_mb() -> float:
    """The process's own peak. getrusage counts kilobytes on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
