"""One row a key from the whole of a load, decided by the database.

The load has a table of its own for the keys it has written so far. A chunk goes into a temporary
table; its keys go into the table of keys, in the chunk's own transaction. The keys that were new
there are inserted; where the last row of a key is to stay, the others replace what an earlier
chunk wrote. So the memory of client and server stays flat, equality is the database's own, and a
chunk that is written again, or a load that is resumed, finds what it left.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from batchbench.drivers import Session, Statement
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.strategies import Columns, Payload, Target, Written
from batchbench.strategies.copy import StagedCopyPlan
from batchbench.strategies.sql import (
    absent_key,
    column_list,
    insert_into,
    on_conflict,
    one_of_each,
    same_key,
    with_collation,
)
from batchbench.table import Table, TableName, UniqueKey, quote

_PREFIX = "keys_"


@dataclass(frozen=True, slots=True)
class Once:
    """One row of each key, over a whole load. keys: where the load keeps the keys it has written.
    last: whether the last row of a key stays, else the first.
    """

    key: UniqueKey
    keys: TableName
    last: bool


def keys_table(schema: str, load_id: str, table: Table) -> TableName:
    """The name of a load's table of keys."""
    digest = hashlib.sha256(table.sql.encode()).hexdigest()[:8]
    return TableName(f"{_PREFIX}{load_id}_{digest}", schema)


def create_keys_sql(once: Once, table: Table) -> str:
    """Make the table of keys, compared as the key's own index compares them."""
    columns = column_list(once.key.columns)
    indexed = ", ".join(with_collation(part.sql, part) for part in once.key.parts)
    nulls = " NULLS NOT DISTINCT" if once.key.nulls_equal else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {once.keys.sql} AS SELECT {columns} FROM {table.sql}"
        f" WITH NO DATA; CREATE UNIQUE INDEX IF NOT EXISTS {quote(once.keys.table + '_key')}"
        f" ON {once.keys.sql} ({indexed}){nulls}"
    )


def drop_keys_sql(once: Once) -> str:
    """Drop the table of keys: the load is done."""
    return f"DROP TABLE IF EXISTS {once.keys.sql}"


@dataclass(frozen=True, slots=True)
class OncePlan:
    """See `batchbench.strategies.ChunkPlan`."""

    target: Target
    once: Once

    @property
    def staged(self) -> StagedCopyPlan:
        """How the rows get to the server."""
        return StagedCopyPlan(self.target)

    @property
    def use(self) -> ParameterUse:
        return COPY_USE

    @property
    def guard(self) -> str:
        return self.staged.guard

    async def prepare(self, session: Session) -> None:
        await self.staged.prepare(session)

    def encode(self, columns: Columns) -> Payload:
        return self.staged.encode(columns)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        """Returns the rows inserted: a row that replaces an earlier one makes that a duplicate."""
        await self.staged.fill(session, payload)
        written = await session.execute(Statement(_write_sql(self.target, self.once), ()), [])
        return await self.staged.settle(session, payload, written, alone=alone)


@lru_cache(maxsize=64)
def _write_sql(target: Target, once: Once) -> str:
    """chosen: the chunk's rows, one a key. new: its keys that the load had not written before."""
    rows = StagedCopyPlan(target).rows
    names = tuple(f"s.{quote(column.name)}" for column in target.columns)
    order = "s.ctid DESC" if once.last else "s.ctid"
    distinct, ordered = one_of_each(target, once.key, names, order, "s.ctid")
    key, columns = column_list(once.key.columns), column_list(c.name for c in target.columns)
    same = same_key(target, once.key, "n", "c")
    absent = absent_key(target, once.key, tuple(f"c.{quote(c.name)}" for c in target.columns))
    ways = [
        f"chosen AS MATERIALIZED (SELECT {distinct} {', '.join(names)} FROM {rows} s {ordered})",
        f"new AS (INSERT INTO {once.keys.sql} ({key}) SELECT {key} FROM chosen"
        f" ON CONFLICT ({key}) DO NOTHING RETURNING {key})",
        f"marked AS MATERIALIZED (SELECT c.*, {f'{absent} OR ' if absent else ''}"
        f"EXISTS (SELECT FROM new n WHERE {same}) AS batchbench_new FROM chosen c)",
    ]
    others = [c.name for c in target.columns if c.name not in once.key.columns]
    if once.last and others:
        changes = ", ".join(f"{quote(name)} = c.{quote(name)}" for name in others)
        same = same_key(target, once.key, "t", "c")
        ways.append(
            f"replaced AS (UPDATE {target.table.sql} t SET {changes} FROM marked c"
            f" WHERE NOT c.batchbench_new AND {same})"
        )
    return (
        f"WITH {', '.join(ways)} {insert_into(target)} SELECT {columns} FROM marked"
        f" WHERE batchbench_new{on_conflict(target)}"
    )
