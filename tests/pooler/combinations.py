"""One load through a pooler, checked by the tables and by every server connection of the pool."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg

from batchbench.accounting import LoadResult
from batchbench.engine import load
from batchbench.profile import PROFILES, synthetic
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from tests.fixtures.loading import execute, options, query
from tests.fixtures.pgbouncer import PgBouncer

PROFILE = PROFILES["heart_rate"]
ALREADY_THERE = 0.01
LEFT_BEHIND = """
SELECT (SELECT count(*) FROM pg_prepared_statements),
  (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
  (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
  current_setting('client_min_messages'), current_setting('synchronous_commit')
"""
CLEAN = (0, 0, 0, "notice", "on")


@dataclass(frozen=True, slots=True)
class Combination:
    """What is loaded, and how."""

    strategy: str
    driver: str
    on_conflict: OnConflict
    pool_size: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the load said, and what was found. there: of its rows, those in the table. backends:
    server connections that the pooler had.
    """

    result: LoadResult
    there: int
    left_behind: frozenset[tuple[object, ...]]
    backends: int

    def good(self, rows: int) -> bool:
        """Whether every row is where it was said to be, and nothing else is left."""
        total = self.result.total
        settled = total.committed + total.duplicates == total.read == rows
        return settled and self.there == rows and self.left_behind == {CLEAN}


async def play(combination: Combination, bouncer: PgBouncer, rows: int) -> Outcome:
    """Load synthetic rows into a fresh table; under NOTHING a share of them is there before."""
    table = TableName(PROFILE.table_name)
    execute(bouncer.direct_dsn, f"DROP TABLE IF EXISTS {table.sql}; {PROFILE.create_sql(table)}")
    key = "user_id, recorded_at"
    execute(bouncer.direct_dsn, f"CREATE UNIQUE INDEX IF NOT EXISTS one ON {table.sql} ({key})")
    if combination.on_conflict is OnConflict.NOTHING:
        there = synthetic("heart_rate", int(rows * ALREADY_THERE))
        await load(there, {None: table}, bouncer.direct_dsn, options(parallelism=1))
    result = await load(
        synthetic("heart_rate", rows),
        {None: table},
        bouncer.dsn,
        options(
            strategy=combination.strategy,
            driver=combination.driver,
            on_conflict=combination.on_conflict,
            parallelism=2,
        ),
    )
    counted = query(bouncer.direct_dsn, f"SELECT count(DISTINCT ({key})) FROM {table.sql}")
    found = left_behind(bouncer, combination.pool_size)
    return Outcome(result, counted[0][0], frozenset(found), len(found))


def left_behind(bouncer: PgBouncer, pool_size: int) -> list[tuple[Any, ...]]:
    """What each of the pooler's server connections holds: as many transactions are open at once."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(psycopg.connect(bouncer.dsn, prepare_threshold=None))
            for _ in range(pool_size)
        ]
        return [row for one in clients for row in one.execute(LEFT_BEHIND.encode()).fetchall()]
