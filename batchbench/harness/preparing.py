"""Make a subject ready: its scratch copy, its rows, and what others than the engine see."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from batchbench.drivers import Session
from batchbench.engine import load
from batchbench.engine.plan import plan_table
from batchbench.errors import InputError
from batchbench.harness.brief import Brief, Prepared
from batchbench.harness.scratch import Scratch
from batchbench.harness.subject import Subject, rows_of
from batchbench.harness.verify import contents, read_encoded, write_reference
from batchbench.sources import open_source
from batchbench.table import Table, TableName, quote


async def prepare(
    session: Session,
    scratch: Scratch,
    subject: Subject,
    brief: Brief,
    notice: Callable[[str], None],
) -> Prepared:
    """Copy the table, make the rows, and look at them as others write them.

    Raises InputError, TableError or ConfigError where the subject cannot be swept.
    """
    plan = brief.plan
    copied = await scratch.copy(session, subject)
    for remark in copied.remarks:
        notice(remark)
    table = copied.table
    wanted = plan.rows + plan.filled
    made = await asyncio.to_thread(rows_of, subject, table, wanted, plan.seed, notice)
    filling_rows, rows = _split(made, plan.filled, subject)
    # In the original's name, since that is what messages are about.
    named = replace(table, name=subject.original or table.name)
    first = next(c for c in plan.configurations if c.table == subject.label)
    options = replace(brief.options(first), strategy="auto")
    plan_table(named, None, options).shape(rows.schema, f"rows of {subject.label}")
    timezone = brief.cast_options.assume_timezone or "UTC"
    await write_reference(brief.dsn, table, named, rows, timezone)
    encoded = await read_encoded(brief.dsn, table, rows.schema.names)
    filling = None
    if plan.filled:
        filling = await _fill(session, scratch, table, named, filling_rows, brief)
    expected = await contents(session, table.name, rows.schema.names)
    return Prepared(subject.label, table, rows, expected, encoded, filling)


def _split(made: pa.Table, filled: int, subject: Subject) -> tuple[pa.Table, pa.Table]:
    """The rows that are there before, and those that trials load."""
    if made.num_rows <= filled:
        raise InputError(
            f"table {subject.label} is to be filled with {filled:,} rows, and its source has"
            f" {made.num_rows:,} in all; fill it with fewer, so that some are left to load"
        )
    return made.slice(0, filled), made.slice(filled).combine_chunks()


async def _fill(
    session: Session,
    scratch: Scratch,
    table: Table,
    named: Table,
    rows: pa.Table,
    brief: Brief,
) -> TableName:
    """A table with the filling, and the filling in the scratch table beside the rows."""
    names = ", ".join(map(quote, rows.schema.names))
    filling = scratch.name(f"filling_{table.name.table}")
    await session.run(f"CREATE TABLE {filling.sql} AS SELECT {names} FROM {table.sql} WITH NO DATA")
    first = brief.plan.configurations[0]
    options = replace(
        brief.options(first),
        strategy="copy",
        driver="psycopg",
        chunk_size=20_000,
        parallelism=1,
        durability="relaxed",
    )
    source = open_source(rows, name=f"rows to fill {named.name}")
    await load(source, {None: filling}, brief.dsn, options)
    await session.run(f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {filling.sql}")
    return filling
