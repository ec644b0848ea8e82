"""Rows of several tables from one payload: committed together, answered for one by one."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.errors import ConfigError, InputError
from batchbench.events import ChunkRetried, ChunkWritten, Event
from batchbench.writer import FlushLimits, Outcome, UnwrittenError, Writer, WriterClosedError
from tests.fixtures.loading import execute, query

TX = "tx xid8 DEFAULT pg_current_xact_id()"  # that of savepoints is the whole transaction's
TABLES = f"""
CREATE TABLE heart (id int4 PRIMARY KEY, v int4 CHECK (v >= 0), {TX});
CREATE TABLE sleep (id int4 PRIMARY KEY, v int4 CHECK (v >= 0), {TX});
CREATE TABLE workouts (id int4 PRIMARY KEY, v int4, {TX})
"""
FOREVER = FlushLimits(max_wait_ms=3_600_000)
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid()"
)

CLIENTS = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() ORDER BY pid"
)


def options(**changes: Any) -> LoadOptions:
    return LoadOptions(**{"settings": Settings(), **changes})


def rows(*numbers: int, v: int = 0) -> list[dict[str, int]]:
    return [{"id": number, "v": v} for number in numbers]


def states(outcomes: dict[str, Outcome]) -> dict[str, tuple[int, list[tuple[int, str]], list[int]]]:
    """By table: committed rows, rejected ones with their SQLSTATE, duplicates."""
    return {
        table: (
            outcome.committed,
            [(r.row, r.sqlstate) for r in outcome.rejected],
            list(outcome.duplicates),
        )
        for table, outcome in outcomes.items()
    }


def transactions(dsn: str, *tables: str) -> int:
    """In how many the rows of the tables were made."""
    made = " UNION ".join(f"SELECT DISTINCT tx FROM {table}" for table in tables)
    return len(query(dsn, made))


@drivers
async def test_the_rows_of_a_payload_are_committed_together(dsn: str, driver: str) -> None:
    """Also with those of other producers; a table that one leaves out is none of its business."""
    execute(dsn, TABLES)
    tables = ["heart", "public.sleep", "workouts"]
    async with Writer(dsn, tables, options(driver=driver), limits=FOREVER) as writer:
        tickets = [
            await writer.add({"public.sleep": rows(n), "public.heart": rows(n, n + 100)})
            for n in range(10)
        ]
        other = await writer.add({"workouts": rows(1)})
        nothing = await writer.add({})
        assert nothing.settled
        assert not tickets[0].settled
        await writer.flush()
        outcomes = [states(await ticket) for ticket in tickets]
        assert states(await other) == {"workouts": (1, [], [])}
        assert await nothing == {}
    assert outcomes == [{"public.sleep": (1, [], []), "public.heart": (2, [], [])}] * 10
    assert transactions(dsn, "heart", "sleep") == 1


@pytest.mark.parametrize("strategy", ["copy", "optimistic", "values", "unnest"])
@drivers
async def test_each_row_is_named_by_its_table(dsn18: str, strategy: str, driver: str) -> None:
    """Refused before it is sent, by a constraint, left out for its key."""
    execute(dsn18, TABLES + "; INSERT INTO sleep VALUES (3, 0)")
    how = options(strategy=strategy, driver=driver, on_conflict="nothing")
    async with Writer(dsn18, ["heart", "sleep"], how, limits=FOREVER) as writer:
        one = await writer.add({"heart": rows(1, 2) + rows(2), "sleep": rows(1, 3, 2)})
        bad = await writer.add(
            {"heart": rows(4) + rows(5, v=-1) + rows(6, v=1 << 40), "sleep": rows(7, v=-1)}
        )
        await writer.flush()
        assert states(await one) == {"heart": (2, [], [2]), "sleep": (2, [], [1])}
        assert states(await bad) == {
            "heart": (1, [(1, "23514"), (2, "22003")], []),
            "sleep": (0, [(0, "23514")], []),
        }
    assert query(dsn18, "SELECT id FROM heart ORDER BY id") == [(1,), (2,), (4,)]
    assert query(dsn18, "SELECT id FROM sleep ORDER BY id") == [(1,), (2,), (3,)]


@drivers
async def test_a_backend_that_dies_between_two_tables(dsn18: str, driver: str) -> None:
    """All of it is written again, in one transaction."""
    execute(dsn18, TABLES)
    events: list[Event] = []

    def listen(event: Event) -> None:
        if isinstance(event, ChunkWritten) and not events:
            assert event.table == "public.heart"
            query(dsn18, END_BACKENDS)
        events.append(event) if isinstance(event, ChunkWritten | ChunkRetried) else None

    how = options(driver=driver, parallelism=1)
    async with Writer(dsn18, ["heart", "sleep"], how, on_event=listen) as writer:
        ticket = await writer.add({"heart": rows(1, 2), "sleep": rows(1, 2, 3)})
        assert states(await ticket) == {"heart": (2, [], []), "sleep": (3, [], [])}
    assert [type(event) for event in events] == [ChunkWritten, ChunkRetried, ChunkWritten]
    assert query(dsn18, "SELECT id FROM heart ORDER BY id") == [(1,), (2,)]
    assert transactions(dsn18, "heart", "sleep") == 1


@drivers
async def test_a_table_that_fails_takes_its_payloads_along_and_no_others(
    dsn18: str, driver: str
) -> None:
    execute(dsn18, TABLES)
    how = options(driver=driver)
    async with Writer(dsn18, ["heart", "sleep"], how, limits=FOREVER) as writer:
        execute(dsn18, "ALTER TABLE sleep RENAME TO gone")
        lost = await writer.add({"heart": rows(1, 2), "sleep": rows(1)})
        kept = await writer.add({"heart": rows(3)})
        await writer.flush()
        assert states(await kept) == {"heart": (1, [], [])}
        with pytest.raises(UnwrittenError, match="Of 3 rows 0 are committed, 3 not") as failure:
            await lost
        unwritten = {table: one.unwritten for table, one in failure.value.outcomes.items()}
        assert unwritten == {"heart": 2, "sleep": 1}
        with pytest.raises(ValueError, match="too many values"):
            _ = failure.value.outcome
        execute(dsn18, "ALTER TABLE gone RENAME TO sleep")
        again = await writer.add({"heart": rows(1, 2), "sleep": rows(1)})
        await writer.flush()
        assert states(await again) == {"heart": (2, [], []), "sleep": (1, [], [])}


@pytest.mark.parametrize("rule", [{}, {"on_conflict": "update"}, {"newer_by": "v"}])
async def test_a_payload_of_many_chunks_is_one_transaction(dsn18: str, rule: Any) -> None:
    """Its rows come in two forms, and two payloads of the same rows at once do not get stuck."""
    execute(dsn18, TABLES)
    how = options(chunk_size=10, parallelism=4, **rule)
    heart = rows(*range(35)) + [{"id": number} for number in range(35, 50)]
    async with Writer(dsn18, ["heart", "sleep"], how) as writer:
        first = await writer.add({"sleep": rows(*range(5)), "heart": heart})
        if rule:
            tickets = [
                await writer.add({"heart": rows(*range(49, -1, -1), v=v), "sleep": rows(1, v=v)})
                for v in range(1, 9)
            ]
            await asyncio.gather(*tickets)
        assert states(await first) == {"sleep": (5, [], []), "heart": (50, [], [])}
    assert query(dsn18, "SELECT count(*), min(v), max(v) FROM heart") == [
        (50, 8, 8) if rule else (50, 0, 0)
    ]
    assert transactions(dsn18, "heart") == 1


async def test_bad_rows_of_payloads_with_the_same_keys_lead_to_no_deadlock(dsn18: str) -> None:
    """Which there would be no retry for."""
    execute(dsn18, TABLES)
    how = options(newer_by="v", parallelism=4, settings=Settings(max_retries=0))
    limits = FlushLimits(max_rows=1)  # each by itself
    rng, keys = random.Random(5), list(range(300))
    async with Writer(dsn18, ["heart", "sleep"], how, limits=limits) as writer:
        tickets = []
        for v in range(1, 33):
            rng.shuffle(keys)
            bad = rows(1_000 + v, v=-1)  # each another: those of one version are kept apart
            payload = {"heart": rows(*keys, v=v) + bad, "sleep": bad + rows(*keys, v=v)}
            tickets.append(await writer.add(payload))
        outcomes = [states(await ticket) for ticket in tickets]
    for outcome in outcomes:
        assert outcome["heart"][1] == [(300, "23514")]
        assert outcome["sleep"][1] == [(0, "23514")]
    for table in ("heart", "sleep"):
        assert query(dsn18, f"SELECT count(*), min(v) FROM {table}") == [(300, 32)]


@drivers
async def test_an_atomic_payload_is_written_whole_or_not_at_all(dsn18: str, driver: str) -> None:
    """The connection stays; what waits with it is another's."""
    execute(dsn18, TABLES + "; INSERT INTO heart VALUES (7, 0)")
    how = options(driver=driver, on_conflict="nothing", parallelism=1)
    refused = rows(9, v=-1)
    bad = [
        ({"heart": rows(1, 2), "sleep": rows(1) + refused}, 3, {"sleep": (1, "23514")}),
        ({"heart": rows(1) + refused, "sleep": rows(1)}, 2, {"heart": (1, "23514")}),
        ({"heart": rows(1, v=1 << 40), "sleep": rows(1)}, 1, {"heart": (0, "22003")}),
        ({"sleep": refused}, 0, {"sleep": (0, "23514")}),
    ]
    async with Writer(dsn18, ["heart", "sleep"], how, limits=FOREVER) as writer:
        backends = query(dsn18, CLIENTS)
        other = await writer.add({"heart": rows(3), "sleep": rows(3) + refused})
        for payload, unwritten, guilty in bad:
            with pytest.raises(UnwrittenError, match="all or none") as failure:
                await (await writer.add(payload, atomic=True))
            outcomes = failure.value.outcomes
            assert sum(one.unwritten for one in outcomes.values()) == unwritten
            assert {
                table: (r.row, r.sqlstate) for table, one in outcomes.items() for r in one.rejected
            } == guilty
        whole = await writer.add({"heart": rows(5, 7), "sleep": rows(5)}, atomic=True)
        assert states(await whole) == {"heart": (1, [], [1]), "sleep": (1, [], [])}
        await writer.flush()
        assert states(await other) == {"heart": (1, [], []), "sleep": (1, [(1, "23514")], [])}
        assert query(dsn18, CLIENTS) == backends
    assert query(dsn18, "SELECT id FROM heart ORDER BY id") == [(3,), (5,), (7,)]
    assert query(dsn18, "SELECT id FROM sleep ORDER BY id") == [(3,), (5,)]


async def test_rows_of_one_table_may_be_atomic_too(dsn18: str) -> None:
    execute(dsn18, TABLES)
    async with Writer(dsn18, "heart", options(chunk_size=2)) as writer:
        assert (await (await writer.add(rows(1, 2, 3), atomic=True))).committed == 3
        with pytest.raises(UnwrittenError, match="Of 4 rows 0 are committed, 3 not") as failure:
            await (await writer.add(rows(4, 5, 6) + rows(7, v=-1), atomic=True))
        assert [r.row for r in failure.value.outcome.rejected] == [3]
    assert query(dsn18, "SELECT count(*), count(DISTINCT tx) FROM heart") == [(3, 1)]


async def test_parents_are_written_before_their_children(dsn18: str) -> None:
    execute(
        dsn18,
        "CREATE TABLE parent (id int4 PRIMARY KEY);"
        "CREATE TABLE child (id int4, parent int4 REFERENCES parent)",
    )
    async with Writer(dsn18, ["parent", "child"]) as writer:
        ticket = await writer.add(
            {"child": [{"id": n, "parent": n} for n in range(4)], "parent": [{"id": 1}, {"id": 2}]}
        )
        assert states(await ticket) == {
            "child": (2, [(0, "23503"), (3, "23503")], []),
            "parent": (2, [], []),
        }


async def test_the_last_row_of_a_key_stays_whatever_it_came_with(dsn18: str) -> None:
    execute(dsn18, TABLES)
    how = options(on_conflict="update", parallelism=3)
    async with Writer(dsn18, ["heart", "sleep"], how, limits=FOREVER) as writer:
        await writer.add({"heart": rows(9), "sleep": rows(9)})
        await writer.add({"heart": rows(1, v=1)})
        await writer.add({"heart": rows(1, v=2), "sleep": rows(1)})
        await writer.flush()
    assert query(dsn18, "SELECT v FROM heart WHERE id = 1") == [(2,)]


async def test_payloads_that_no_writer_takes(dsn18: str) -> None:
    """Nothing of them is taken, nor counted; others are not harmed."""
    execute(dsn18, TABLES)
    events: list[Event] = []
    writer = Writer(dsn18, ["heart", "sleep"], on_event=events.append)
    with pytest.raises(WriterClosedError, match="the writer of heart, sleep is not open"):
        await writer.add({"heart": rows(1)})
    async with writer:
        refused = rows(1, v=1 << 40)
        for payload, said in (
            ({"heart": refused, "workouts": rows(1)}, "has no table workouts: no row was taken"),
            ({"heart": refused, "sleep": [{"id": 1, "nope": 1}]}, "no column 'nope'"),
            (rows(1), "takes rows by table, as {'heart': rows}"),
        ):
            with pytest.raises(InputError, match=said):
                await writer.add(payload)
        good = await writer.add({"heart": rows(1), "sleep": rows(1)})
        assert states(await good) == {"heart": (1, [], []), "sleep": (1, [], [])}
    with pytest.raises(WriterClosedError, match="no row was taken"):
        await writer.add({"heart": rows(2)})
    assert {type(event).__name__ for event in events} & {"RowsRejected"} == set()
    async with Writer(dsn18, "heart") as one:
        with pytest.raises(InputError, match="has no table id: .* it takes a list of rows"):
            await one.add({"id": 1, "v": 1})
        assert states(await (await one.add({"heart": rows(3)}))) == {"heart": (1, [], [])}


async def test_tables_that_make_no_writer(dsn18: str) -> None:
    execute(dsn18, TABLES)
    with pytest.raises(ConfigError, match="needs a table"):
        Writer(dsn18, [])
    with pytest.raises(ConfigError, match=r"has table public\.heart twice"):
        await Writer(dsn18, ["heart", "sleep", "public.heart"]).open()


@drivers
async def test_payloads_stay_whole_while_backends_are_ended(dsn18: str, driver: str) -> None:
    """Without keys: a row that is written twice is there twice."""
    execute(dsn18, TABLES.replace(" PRIMARY KEY", ""))
    rng, done, kills = random.Random(7), False, 0

    async def producer(number: int) -> None:
        for turn in range(20):
            first = (number * 20 + turn) * 2
            payload = {"heart": rows(first) + rows(-1, v=-1), "sleep": rows(first, first + 1)}
            outcomes = states(await (await writer.add(payload)))
            assert outcomes == {"heart": (1, [(1, "23514")], []), "sleep": (2, [], [])}
            await asyncio.sleep(rng.random() * 0.005)

    async def killer() -> None:
        nonlocal kills
        while not done and kills < 8:  # a slow machine gets its rows in, too
            kills += len(await asyncio.to_thread(query, dsn18, END_BACKENDS))
            await asyncio.sleep(0.05)

    how = options(driver=driver, settings=Settings(max_retries=50, initial_backoff_ms=1))
    limits = FlushLimits(max_wait_ms=5)
    async with Writer(dsn18, ["heart", "sleep"], how, limits=limits) as writer:
        killing = asyncio.create_task(killer())
        await asyncio.gather(*map(producer, range(10)))
        done = True
        await killing
    together = query(
        dsn18,
        "SELECT count(*), count(DISTINCT h.id) FROM heart h JOIN sleep s"
        " ON s.id IN (h.id, h.id + 1) AND s.tx = h.tx",
    )
    counts = query(dsn18, "SELECT (SELECT count(*) FROM heart), (SELECT count(*) FROM sleep)")
    assert (together, counts) == ([(400, 200)], [(200, 400)])
    assert kills > 2
