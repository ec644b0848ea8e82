"""Run a load: one thread reads and encodes, writers send, every row is accounted for."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.deadletter import DeadLetter
from batchbench.drivers import Session, read_table, within
from batchbench.drivers.connector import Connector, Dsn, connector_for
from batchbench.engine.accounts import Accounts
from batchbench.engine.blocking import apart
from batchbench.engine.gate import open_gate
from batchbench.engine.lent import inside_theirs, on_their_terms
from batchbench.engine.notices import order_notice
from batchbench.engine.plan import LoadOptions, LoadPlan, plan_table
from batchbench.engine.run import Run, Spans
from batchbench.engine.shapes import merged
from batchbench.engine.surroundings import Surroundings
from batchbench.errors import BatchbenchError, ConfigError, TableError, WriteError
from batchbench.events import Event, Listener
from batchbench.ledger import Ledger, Part
from batchbench.preflight import sequence_notices, sequences_left, table_notices
from batchbench.sources import Source
from batchbench.strategies.once import create_keys_sql
from batchbench.table import Table, TableName

LOADS_FOLDER = Path("results") / "loads"
"""Each load has a folder in it, made when there is something to put there."""


async def plan_load(
    session: Session,
    source: Source,
    tables: Mapping[str | None, TableName],
    options: LoadOptions,
    load_id: str = "",
) -> LoadPlan:
    """Read the tables and check all that can be checked before the first row.

    tables: where the rows of each target go; a source of one table has the target None.
    load_id: of the load that is planned, where it will be run.
    Raises TableError, InputError, ConfigError.
    """
    plans = {}
    for metric, name in tables.items():
        table = await read_writable(session, name)
        plans[metric] = plan_table(table, metric, options, load_id)
    plan = LoadPlan(options, plans)
    # What is read only once may block: on a pipe that nobody writes to, in a generator.
    schema = await apart(source.schema) if source.one_shot else source.schema()
    if schema is not None and None in plans:
        shape = plans[None].shape(schema, source.name)
        plan = replace(plan, schema=schema, shape=shape)
    if options.writers < (options.parallelism or options.settings.writers):
        plan = plan.noting("one writer: " + options.one_writer_reason)
    if not session.owns_backend and not session.keeps_state:
        plan = plan.noting(
            "through a pooler: each transaction sets, prepares, stages for itself (where it is in"
            " session mode, --pooler session saves that)"
        )
    for table_plan in plans.values():
        plan = plan.noting(*table_notices(table_plan.table))
        sequences = await sequences_left(session, table_plan.table)
        plan = plan.noting(*sequence_notices(table_plan.table, sequences))
        if (turns := order_notice(table_plan)) is not None:
            plan = plan.noting(turns)
    return plan


async def read_writable(session: Session, name: TableName) -> Table:
    """Read a table that rows are to go into. Raises TableError, also where this role may not."""
    table = await read_table(session, name)
    if not table.may_insert:
        raise TableError(
            f"this role may not insert into table {table.name}; GRANT INSERT ON it first"
        )
    return table


async def load(
    source: Source,
    tables: Mapping[str | None, TableName],
    dsn: Dsn | None = None,
    options: LoadOptions | None = None,
    *,
    connection: object = None,
    resume: str | None = None,
    on_event: Listener | None = None,
) -> LoadResult:
    """Load every row of a source; see `LoadOptions` for transactions, rejects and retries.

    dsn: a connection string, or a function (async or not) that gives one and is asked at every
    connect.
    connection: instead of a dsn, a connection or pool of asyncpg or psycopg, or SQLAlchemy's
    connection over one of them. It is not to be used for anything else meanwhile, its settings,
    codecs and row factory are afterwards what they were, and no statement or temporary table stays.
    - A connection in an open transaction: the rows become part of it, written by one writer between
      savepoints; it is neither committed nor rolled back here. "committed" then means written in
      it. That it is committed, durably (`durability` is not for us to set), and that a COMMIT whose
      answer was lost is not taken for a failure, is the caller's: there is no ledger and no resume.
      So are constraints that wait for the COMMIT. Where the load raises, the chunks before are
      still in the transaction, unless `transaction="batch"`. A psycopg connection that is not in
      autocommit, and SQLAlchemy's, are always in a transaction, as with their own statements.
    - A connection in none, or a pool: transactions are ours, with all that is promised elsewhere,
      but a single connection that breaks cannot be opened again: the load stops there, and a COMMIT
      whose answer was lost is `unknown`. A pool has as many writers as it has connections at most.
    resume: the id of an earlier load of the same source, to go on with; its counts are in the
    result. Needs the ledger.
    Raises ConfigError, InputError, TableError, ServerError or WriteError where nothing was sent
    yet, LoadError after that. On cancellation the chunks in flight are finished first.
    """
    options = options or LoadOptions(settings=Settings())
    connector = await connector_for(dsn, connection, options.driver_name, options.pooler_name)
    options = on_their_terms(options, connector)
    session = await connector.open()
    try:
        if session.nested:
            options = inside_theirs(options, resume)
        preparing = _prepare(
            session, source, tables, connector, options, resume, on_event or _ignore
        )
        run = await within(session, options.wait_limit_s, preparing)
    except BaseException:
        await session.close()
        raise
    running = asyncio.create_task(run.run())
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        run.stop(None)
        await running
        raise


def _ignore(event: Event) -> None:
    """Listen to nothing."""


async def _prepare(
    session: Session,
    source: Source,
    tables: Mapping[str | None, TableName],
    connector: Connector,
    options: LoadOptions,
    resume: str | None,
    emit: Listener,
) -> Run:
    load_id = resume or uuid.uuid4().hex[:12]
    plan = await plan_load(session, source, tables, options, load_id)
    ledger, plan = await choose_ledger(session, options, plan, resume)
    result = LoadResult(load_id)
    for table_plan in plan.tables.values():
        result.counts(str(table_plan.table.name))
    path = options.dead_letter or LOADS_FOLDER / load_id / "rejects.ndjson"
    dead_letter = DeadLetter(path, load_id)
    accounts = Accounts(result, options, dead_letter, emit)
    parts: list[Part] = []
    backends: dict[object, str] = {}
    # Before the ledger: what it refuses was never begun.
    gate = await open_gate(connector, options, emit, backends)
    try:
        epoch = await _enter(session, source, ledger, load_id, resume)
        async with _stopped_where_refused(session, ledger, load_id):
            if ledger is not None and resume is not None:
                parts = await ledger.parts(session, load_id)
            for table_plan in plan.tables.values():
                if table_plan.once is not None:
                    await session.run(create_keys_sql(table_plan.once, table_plan.table))
            accounts.committed(parts)
            if resume is not None:
                _take_up(parts, accounts, dead_letter)
    except BaseException:
        await gate.close()
        raise
    surroundings = Surroundings(
        plan=plan,
        connector=connector,
        load_id=load_id,
        accounts=accounts,
        emit=emit,
        ledger=ledger,
        epoch=epoch,
        gate=gate,
        backends=backends,
    )
    return Run(source, surroundings, session, dead_letter, _covered(parts, dead_letter))


async def choose_ledger(
    session: Session, options: LoadOptions, plan: LoadPlan, resume: str | None
) -> tuple[Ledger | None, LoadPlan]:
    """The ledger, made where it is missing, or None."""
    ledger = Ledger(options.ledger_schema)
    once = options.one_of_each_key is not None
    wanted = options.exactly_once == "ledger" or resume is not None or once
    if not wanted and options.exactly_once != "auto":
        return None, plan
    if await ledger.exists(session):
        return ledger, plan
    if not await ledger.may_create(session):
        if not wanted:
            return None, plan
        raise ConfigError(
            f"this role may not create the ledger in schema {options.ledger_schema}: let someone"
            " who may run a load once and GRANT ALL ON it"
            + (" (dedup keeps its keys there)" if once else ", or use --exactly-once status")
        )
    await ledger.create(session)
    made = f"made the ledger: schema {options.ledger_schema}, tables loads and parts"
    return ledger, plan.noting(made)


async def _enter(
    session: Session, source: Source, ledger: Ledger | None, load_id: str, resume: str | None
) -> int:
    """Enter the load into the ledger, or take an earlier one over; its epoch, 0 without ledger."""
    if ledger is None:
        return 0
    fingerprint = source.fingerprint()
    if resume is None:
        return await ledger.enter_load(session, load_id, fingerprint)
    if not fingerprint:
        raise ConfigError(f"{source.name} cannot be read again, so no load of it can resume")
    return await ledger.take_over(session, load_id, fingerprint)


@asynccontextmanager
async def _stopped_where_refused(
    session: Session, ledger: Ledger | None, load_id: str
) -> AsyncGenerator[None, None]:
    """A load that is entered and then refused does not run on in the ledger."""
    try:
        yield
    except BatchbenchError:
        if ledger is not None:
            with suppress(WriteError):  # the first error says what is wrong
                await ledger.close_load(session, load_id, "stopped")
        raise


def _take_up(parts: list[Part], accounts: Accounts, dead_letter: DeadLetter) -> None:
    """Count what an earlier start rejected. The ledger's spans hold those rows too, which only the
    dead letter names. Raises ConfigError where it does not, InputError where it cannot be read.
    """
    result = accounts.result
    for name, row_count in dead_letter.read_known().items():
        result.counts(name).rejected += row_count
        accounts.settled(name, "rejected", row_count)
    for table, counts in result.tables.items():
        covered = sum(
            location.row_count for p in parts if p.table == table for location in p.locations
        )
        settled = sum(part.row_count for part in parts if part.table == table)
        if covered - settled > counts.rejected:
            raise ConfigError(
                f"the load rejected {covered - settled:,} rows of table {table} before, and"
                f" {dead_letter.path} has {counts.rejected:,} of them: name its dead letter with"
                " --dead-letter"
            )


def _covered(parts: list[Part], dead_letter: DeadLetter) -> Spans:
    """(table, source) -> sorted (first row, row count) of what an earlier start has settled."""
    spans: Spans = {}
    for part in parts:
        for location in part.locations:
            span = (location.first_row, location.row_count)
            spans.setdefault((part.table, location.source), []).append(span)
    for table, source, row in dead_letter.known:
        spans.setdefault((table, source), []).append((row, 1))
    return {of: merged(of_source) for of, of_source in spans.items()}
