"""Limits of time, locks and transactions that cannot be serialised."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psutil
import psycopg
import pyarrow.parquet as pq

from batchbench.events import ChunkRetried, Event
from batchbench.strategies import OnConflict
from tests.faults.cases import Case, make_table, nothing
from tests.faults.invariants import stored_rows
from tests.faults.scene import Outcome, Scene
from tests.faults.setup import QUICK
from tests.faults.tables import trigger_sql
from tests.faults.wire import ROWS, some_commit
from tests.fixtures.faults import until
from tests.proxy import COMMIT, Fault, Fired, Kind, Trigger, When, open_proxy

PATIENT = QUICK.model_copy(update={"max_retries": 15, "max_backoff_ms": 200})
OTHERS_FROM = 100_000
"""The second load's rows bear ids from here on."""

_STATEMENT = "AFTER INSERT ON t REFERENCING NEW TABLE AS added FOR EACH STATEMENT"


def of_database(setting: str, value: str) -> str:
    """A setting for all later sessions in this database."""
    return (
        "DO $$ BEGIN EXECUTE format("
        f"'ALTER DATABASE %I SET {setting} = %L', current_database(), '{value}'); END $$;"
    )


def _lets_parts_through(scene: Scene) -> str:
    """Statements of more than 12 rows take longer than the limit: by count, not by the clock."""
    body = "IF (SELECT count(*) FROM added) > 12 THEN PERFORM pg_sleep(30); END IF; RETURN NULL;"
    return of_database("statement_timeout", "800ms") + trigger_sql("tires", body, _STATEMENT)


def _conflicts(scene: Scene) -> str:
    """Each statement reads what all others write."""
    return (
        "CREATE TABLE seen (n int8);"
        + of_database("default_transaction_isolation", "serializable")
        + trigger_sql(
            "sees", "INSERT INTO seen SELECT count(*) FROM seen; RETURN NULL;", _STATEMENT
        )
    )


@asynccontextmanager
async def blocked(scene: Scene) -> AsyncIterator[None]:
    """Somebody's open transaction holds a key of the load until the load has met it."""
    key, loop, met = scene.rng.randint(1, scene.setup.row_count), asyncio.get_running_loop(), None
    with psycopg.connect(scene.dsn) as blocker:
        blocker.execute("INSERT INTO t VALUES (0, %s, 0, 'blocks')", [key])

        def listen(event: Event) -> None:
            nonlocal met
            if isinstance(event, ChunkRetried) and event.sqlstate == "55P03" and met is None:
                met = loop.run_in_executor(None, blocker.rollback)

        scene.listeners.append(listen)
        yield
        if met is not None:
            await met
            scene.tally.fired += 1
        blocker.rollback()


@asynccontextmanager
async def idle_for_too_long(scene: Scene) -> AsyncIterator[None]:
    """The client takes its time before some COMMIT: the server ends the session (25P03)."""

    async def wait(fired: Fired) -> None:
        await asyncio.to_thread(
            until, "the idle session has ended", lambda: not psutil.pid_exists(fired.backend_pid)
        )

    trigger = Trigger(COMMIT, some_commit(scene), since=ROWS)
    scene.proxy.arm(Fault(Kind.CALL, trigger, When.BEFORE, call=wait))
    yield


async def deadlocked(case: Case, scene: Scene) -> None:
    """Two loads at once, whose keys overlap in opposite order; the first of a key stays."""
    make_table(case, scene)
    setup, other = (
        scene.setup,
        Scene(scene.setup, scene.cluster, scene.dsn, scene.folder, scene.rng),
    )
    rows = pq.read_table(scene.path)
    numbers = rows["row_id"].to_numpy()
    backwards = rows.take(numbers[::-1] - 1).set_column(0, "row_id", [numbers + OTHERS_FROM])
    path = scene.folder / "backwards.parquet"
    pq.write_table(backwards, path)
    met: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, ChunkRetried):
            met.append(event.sqlstate)

    scene.listeners.append(listen)
    other.listeners.append(listen)
    async with open_proxy(scene.dsn) as proxy:
        scene.proxy = other.proxy = proxy
        outcomes = await asyncio.gather(
            scene.load(proxy.dsn),
            other.load(proxy.dsn, path=path, dead_letter=scene.folder / "other.ndjson"),
        )
    scene.tally.loads += other.tally.loads
    scene.tally.fired += met.count("40P01")
    scene.tally.verdict.problems += other.tally.verdict.problems
    ids = [row[0] for row in stored_rows(scene.dsn)]
    keys = [row[1] for row in stored_rows(scene.dsn)]
    scene.claim(sorted(keys) == sorted(numbers.tolist()), "not each key is there once")
    _judge_share(scene, outcomes[0], [n for n in ids if n < OTHERS_FROM])
    _judge_share(scene, outcomes[1], [n for n in ids if n >= OTHERS_FROM])
    scene.tally.result = outcomes[0].result
    if outcomes[0].result is not None and outcomes[1].result is not None:
        for name, counts in outcomes[1].result.tables.items():
            ours = outcomes[0].result
            ours.tables[name] = ours.counts(name) + counts
    scene.claim(setup.row_count == len(set(keys)), "keys are missing")


def _judge_share(scene: Scene, outcome: Outcome, stored: list[int]) -> None:
    """What one of two loads has in the table."""
    if not outcome.finished or outcome.result is None:
        scene.problem(f"a load did not finish: {outcome.error}")
        return
    total = outcome.result.total
    scene.claim(total.read == total.accounted, f"read {total.read} != accounted")
    scene.tally.verdict.lost += max(0, total.committed - len(stored))
    scene.tally.verdict.doubled += len(stored) - len(set(stored))
    scene.claim(total.committed == len(stored), f"{len(stored)} there, not {total.committed}")
    scene.claim(
        total.committed + total.duplicates == scene.setup.row_count,
        f"{total.committed} committed, {total.duplicates} duplicates",
    )


KEYED: dict[str, Any] = {"keyed": True, "bad": {}}

CASES = (
    Case(
        "statement_timeout lets parts through",
        nothing,
        {"row_count": 100, "chunk_rows": 50, "keyed": False, "transaction": ["chunk", 3]},
        prepare=_lets_parts_through,
        runs=2,
    ),
    Case(
        "lock_timeout, the blocker leaves",
        blocked,
        {**KEYED, "transaction": ["chunk", 3]},
        prepare=lambda scene: of_database("lock_timeout", "300ms"),
    ),
    Case(
        "deadlock of two loads",
        nothing,
        {
            **KEYED,
            "on_conflict": OnConflict.NOTHING,
            "transaction": [3, 5],
            "settings": PATIENT,
            "parallelism": [1, 2],
        },
        prepare=lambda scene: of_database("deadlock_timeout", "50ms"),
        play=deadlocked,
    ),
    Case(
        "idle-in-transaction timeout (25P03)",
        idle_for_too_long,
        {"settings": PATIENT},
        prepare=lambda scene: of_database("idle_in_transaction_session_timeout", "700ms"),
    ),
    Case(
        "serializable",
        nothing,
        {
            "parallelism": [2, 3],
            "settings": PATIENT,
            "transaction": ["chunk", 3],
            "row_count": 300,
        },
        prepare=_conflicts,
    ),
)
