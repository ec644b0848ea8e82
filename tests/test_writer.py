"""Many producers, one writer: every ticket says what became of its own rows."""

from __future__ import annotations

import asyncio
import math
import random
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.engine import LoadOptions, lanes
from batchbench.engine.writing import ChunkWriter
from batchbench.errors import ConfigError, InputError, TableError
from batchbench.events import LoadEnded
from batchbench.strategies import OnConflict
from batchbench.writer import (
    FlushLimits,
    Outcome,
    UnwrittenError,
    Writer,
    WriterClosedError,
    WriterFullError,
    parts,
)
from tests.fixtures.loading import execute, query

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v >= 0), note varchar(5))"
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


def options(**changes: Any) -> LoadOptions:
    return LoadOptions(**{"settings": Settings(), **changes})


def row(number: int, v: int = 0, note: str | None = "x") -> dict[str, Any]:
    return {"id": number, "v": v, "note": note}


def states(outcome: Outcome) -> tuple[int, list[tuple[int, str]], list[int]]:
    """Committed rows, rejected ones with their SQLSTATE, duplicates."""
    rejected = [(r.row, r.sqlstate) for r in outcome.rejected]
    return outcome.committed, rejected, list(outcome.duplicates)


@drivers
async def test_rows_of_many_producers_go_together(dsn18: str, driver: str) -> None:
    execute(dsn18, TABLE)
    async with Writer(dsn18, "t", options(driver=driver)) as writer:
        tickets = [await writer.add([row(i)]) for i in range(200)]
        outcomes = await asyncio.gather(*tickets)
    assert [outcome.committed for outcome in outcomes] == [1] * 200
    assert query(dsn18, "SELECT count(*), count(DISTINCT xmin::text) < 50 FROM t") == [(200, True)]


@drivers
async def test_each_producer_learns_of_its_own_bad_rows(dsn18: str, driver: str) -> None:
    """Refused before they are sent, by the table, by a unique key, beside good ones."""
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (7, 0)")
    async with Writer(dsn18, "t", options(driver=driver)) as writer:
        good = await writer.add([row(1), row(2)])
        mixed = await writer.add([row(3, note="too long"), row(4), row(5, v=-1), row(7)])
        bad = await writer.add([row(6, note="\0")])
        empty = await writer.add([])
        assert states(await good) == (2, [], [])
        assert states(await mixed) == (1, [(0, "22001"), (2, "23514"), (3, "23505")], [])
        assert states(await bad) == (0, [(0, "22021")], [])
        assert states(await empty) == (0, [], [])
        reasons = [rejected.reason for rejected in (await mixed).rejected]
        assert "too long" not in str(reasons)
        assert (await mixed).rejected[1].constraint == "t_v_check"
    assert query(dsn18, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (4,), (7,)]


@pytest.mark.parametrize("strategy", ["copy", "optimistic", "values", "unnest"])
@pytest.mark.parametrize("on_conflict", ["nothing", "update"])
@drivers
async def test_duplicates_are_named(
    dsn18: str, strategy: str, on_conflict: str, driver: str
) -> None:
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (2, 0)")
    how = options(strategy=strategy, on_conflict=on_conflict, driver=driver)
    async with Writer(dsn18, "t", how) as writer:
        one = await writer.add([row(1, 1), row(2, 1)])
        other = await writer.add([row(3, 1), row(1, 2), row(9, -1), row(3, 2)])
        if on_conflict == "nothing":
            assert states(await one) == (1, [], [1])
            assert states(await other) == (1, [(2, "23514")], [1, 3])
        else:  # the chunk was written in parts, because of row 9: what came again is an update
            committed = (await one).committed + (await other).committed
            twice = len((await one).duplicates) + len((await other).duplicates)
            assert (committed + twice, len((await other).rejected)) == (5, 1)
    kept = 1 if on_conflict == "nothing" else 2
    there = query(dsn18, "SELECT id, v FROM t ORDER BY id")
    assert there == [(1, kept), (2, 0 if on_conflict == "nothing" else 1), (3, kept)]


@pytest.mark.parametrize("strategy", ["copy", "optimistic", "values", "unnest"])
@pytest.mark.parametrize(
    ("rule", "left_out"),
    [
        ({"newer_by": "v"}, [0, 2, 3, 4]),
        ({"on_conflict": "update", "skip_unchanged": True}, [1, 2, 3]),
    ],
)
async def test_rows_that_an_upsert_leaves_alone_are_named(
    dsn18: str, strategy: str, rule: dict[str, Any], left_out: list[int]
) -> None:
    """By key: 1 is there with 5, 2 comes twice, 3 is there with 7."""
    execute(dsn18, TABLE + "; INSERT INTO t VALUES (1, 5, 'x'), (3, 7, 'x')")
    async with Writer(dsn18, "t", options(strategy=strategy, **rule)) as writer:
        ticket = await writer.add([row(1, 4), row(2, 2), row(2, 1), row(3, 7), row(2, 2)])
        outcome = await ticket
    assert states(outcome) == (5 - len(left_out), [], left_out)


@pytest.mark.parametrize("strategy", ["values", "unnest"])
@pytest.mark.parametrize(
    "rule", [{}, {"on_conflict": "nothing"}, {"on_conflict": "update"}, {"newer_by": "v"}]
)
@drivers
async def test_ids_come_back_to_their_own_rows(
    dsn: str, strategy: str, rule: dict[str, Any], driver: str
) -> None:
    """Of two producers in one statement, which the server writes in another order."""
    execute(
        dsn,
        "CREATE TABLE t (id int8 GENERATED ALWAYS AS IDENTITY, name text NOT NULL UNIQUE, v int4,"
        " n numeric DEFAULT 7, f float8 DEFAULT 'NaN', u uuid DEFAULT gen_random_uuid())",
    )
    there = bool(rule)
    if there:
        execute(dsn, "INSERT INTO t (name, v) VALUES ('m', 5)")
    how = options(strategy=strategy, driver=driver, **rule)
    limits = FlushLimits(max_rows=6, max_wait_ms=3_600_000)
    asked = ("id", "name", "n", "f", "u")
    async with Writer(dsn, "t", how, limits=limits, returning=asked) as writer:
        one = await writer.add([{"name": name, "v": 1} for name in ("z", "m", "a")])
        other = await writer.add([{"name": name, "v": 1} for name in ("k", "y", "b")])
        outcomes = await one, await other
    stored = {row[1]: row for row in query(dsn, f"SELECT {', '.join(asked)} FROM t")}
    for outcome, names in zip(outcomes, ("zma", "kyb"), strict=True):
        written = [place for place in range(3) if place not in outcome.duplicates]
        assert list(outcome.returned) == written
        for place in written:
            key, name, n, f, u = outcome.returned[place]
            assert (key, name, n) == stored[names[place]][:3]
            assert isinstance(n, Decimal)
            assert isinstance(f, float)
            assert math.isnan(f)
            assert u == str(stored[names[place]][4])
    left_out = (1,) if rule in ({"on_conflict": "nothing"}, {"newer_by": "v"}) else ()
    assert [outcome.duplicates for outcome in outcomes] == [left_out, ()]


async def test_bad_rows_return_nothing(dsn18: str) -> None:
    """The chunk is written in parts, and each part finds its rows."""
    execute(dsn18, TABLE + "; ALTER TABLE t ADD made int8 GENERATED ALWAYS AS IDENTITY")
    async with Writer(dsn18, "t", options(), returning=["made", "id"]) as writer:
        ticket = await writer.add([row(number, -1 if number == 7 else 1) for number in range(20)])
        outcome = await ticket
    assert states(outcome) == (19, [(7, "23514")], [])
    assert {place: values[1] for place, values in outcome.returned.items()} == {
        place: place for place in range(20) if place != 7
    }


async def test_returning_that_cannot_work_is_refused(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 UNIQUE, made int8)")
    with pytest.raises(ConfigError, match="COPY has no RETURNING"):
        await Writer(dsn18, "t", options(strategy="copy"), returning=["made"]).open()
    for asked, said in ((["made"], r"and t_id_key \(id\) is none"), (["zz"], "no column 'zz'")):
        with pytest.raises(TableError, match=said):
            await Writer(dsn18, "t", options(), returning=asked).open()
    execute(dsn18, "ALTER TABLE t ALTER id SET NOT NULL, ALTER id SET DEFAULT 0")
    async with Writer(dsn18, "t", options(), returning=["id"]) as writer:
        with pytest.raises(InputError, match="needs for returning"):
            await writer.add([{"made": 1}])


async def test_null_keys_are_no_duplicates(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 UNIQUE, v int4)")
    how = options(strategy="copy", on_conflict="nothing", conflict_target=("id",))
    async with Writer(dsn18, "t", how) as writer:
        ticket = await writer.add([{"id": i, "v": 1} for i in (None, 1, None, 1)])
        assert states(await ticket) == (3, [], [3])


@pytest.mark.parametrize("rule", [{}, {"on_conflict": "update"}])
async def test_an_absent_key_is_not_a_null_one(dsn18: str, rule: dict[str, Any]) -> None:
    """Whether it comes with rows that have it or not; each row keeps its position."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY CHECK (id < 9), note text DEFAULT 'none')")
    mixed = [
        *({"id": 2, "note": None}, {"id": 3}, {"id": 9}, {"id": 4, "note": "x"}),
        *({"id": 9, "note": "x"}, {"id": 1 << 40}, {"id": 5}),
    ]
    async with Writer(dsn18, "t", options(**rule)) as writer:
        tickets = [await writer.add([{"id": 1}]), await writer.add(mixed)]
        outcomes = [states(await ticket) for ticket in tickets]
    assert outcomes == [(1, [], []), (4, [(2, "23514"), (4, "23514"), (5, "22003")], [])]
    assert query(dsn18, "SELECT id, note FROM t ORDER BY id") == [
        *((1, "none"), (2, None), (3, "none"), (4, "x"), (5, "none"))
    ]


@pytest.mark.parametrize(
    "rows", [pa.table({"id": [1, 2], "v": [3, 4]}), [(1, 3), (2, 4)]], ids=["Arrow", "tuples"]
)
async def test_rows_of_other_kinds(dsn18: str, rows: Any) -> None:
    execute(dsn18, TABLE)
    async with Writer(dsn18, "t") as writer:
        assert (await (await writer.add(rows, columns=["id", "v"]))).committed == 2


async def test_rows_are_flushed_by_count_by_bytes_and_by_age(dsn18: str) -> None:
    execute(dsn18, TABLE)
    forever = 3_600_000.0
    for limits, count in (
        (FlushLimits(max_rows=10, max_wait_ms=forever), 10),
        (FlushLimits(max_bytes=60, max_wait_ms=forever), 10),
        (FlushLimits(max_wait_ms=30), 1),
    ):
        execute(dsn18, "TRUNCATE t")
        async with Writer(dsn18, "t", limits=limits) as writer:
            tickets = [await writer.add([row(i)]) for i in range(count)]
            await asyncio.wait_for(tickets[0].wait(), 30)


async def test_what_waits_is_written_on_closing(dsn18: str) -> None:
    execute(dsn18, TABLE)
    limits = FlushLimits(max_wait_ms=3_600_000)
    async with Writer(dsn18, "t", limits=limits) as writer:
        ticket = await writer.add([row(1)])
    assert (await ticket).committed == 1
    with pytest.raises(WriterClosedError, match="no row was taken"):
        await writer.add([row(2)])


async def test_rows_that_fit_no_table_are_refused_as_a_whole(dsn18: str) -> None:
    execute(dsn18, TABLE)
    async with Writer(dsn18, "t") as writer:
        with pytest.raises(InputError, match="no column 'nope'"):
            await writer.add([{"id": 1, "nope": 2}])
        assert (await (await writer.add([row(1)]))).committed == 1


async def test_a_full_writer_waits_or_refuses(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text); BEGIN; COMMIT")
    wide = [{"id": 1, "note": "x" * 5_000_000}]
    small = options(settings=Settings(memory_limit_mb=16))
    limits = FlushLimits(max_wait_ms=3_600_000)
    async with Writer(dsn18, "t", small, limits=limits, when_full="reject") as writer:
        await writer.add(wide)
        with pytest.raises(WriterFullError, match="no row was taken"):
            await writer.add(wide)
    async with Writer(dsn18, "t", small, limits=FlushLimits(max_wait_ms=1)) as writer:
        for _ in range(5):
            await writer.add(wide)
    assert query(dsn18, "SELECT count(*) FROM t") == [(6,)]


@drivers
async def test_a_closed_writer_is_done_in_the_ledger(dsn18: str, driver: str) -> None:
    """What is "running" there without a process was killed."""
    execute(dsn18, TABLE)
    states = "SELECT state, ended_at IS NULL FROM batchbench.loads"
    async with Writer(dsn18, "t", options(driver=driver, parallelism=2)) as writer:
        await (await writer.add([row(1)]))
        assert query(dsn18, states) == [("running", True)]
    assert query(dsn18, states) == [("done", False)]


@pytest.mark.parametrize("error", [MemoryError(), ValueError("a value")])
@pytest.mark.parametrize(
    "where", [(parts, "_chunk_of"), (lanes, "_distinct"), (ChunkWriter, "write_together")]
)
async def test_a_fault_of_ours_settles_its_tickets_at_once(
    dsn18: str, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], error: Exception
) -> None:
    """While chunks are made, and while they are written; rows that come later are written."""
    execute(dsn18, TABLE)

    def fail(*_: Any) -> None:
        raise error

    ended: list[LoadResult] = []
    how = options(parallelism=2, on_conflict=OnConflict.UPDATE)
    writer = Writer(
        dsn18,
        "t",
        how,
        limits=FlushLimits(max_wait_ms=1),
        on_event=lambda event: ended.append(event.result) if isinstance(event, LoadEnded) else None,
    )
    async with writer:
        for first in (1, 11, 21):  # more often than there are writers
            with monkeypatch.context() as patched:
                patched.setattr(*where, fail)
                failing = await writer.add([row(first), row(first + 1)])
                await asyncio.wait_for(failing.wait(), 10)
                with pytest.raises(UnwrittenError) as caught:
                    await failing
            assert caught.value.cause.__cause__ is error
            assert "a value" not in str(caught.value)
            assert (caught.value.outcome.committed, caught.value.outcome.unwritten) == (0, 2)
        assert states(await (await writer.add([row(1)]))) == (1, [], [])
    total = ended[0].total
    assert (total.read, total.committed, total.unwritten) == (7, 1, 6)
    assert query(dsn18, "SELECT count(*) FROM t") == [(1,)]


async def test_what_cannot_work_is_refused(dsn18: str) -> None:
    execute(dsn18, TABLE)
    with pytest.raises(ConfigError, match="commits each chunk"):
        Writer(dsn18, "t", options(transaction="batch"))
    with pytest.raises(ConfigError, match="max_wait_ms 0 cannot work"):
        FlushLimits(max_wait_ms=0)


@drivers
async def test_a_writer_outlives_its_backends(dsn18: str, driver: str) -> None:
    """Backends are ended at random while ten producers go on: nothing lost, nothing doubled."""
    execute(dsn18, TABLE)
    rng = random.Random(4)
    done, kills = False, 0

    async def producer(number: int) -> list[tuple[int, Outcome]]:
        given = []
        for turn in range(40):
            first = (number * 40 + turn) * 5
            rows = [row(first + i, v=-1 if i == 3 else 0) for i in range(5)]
            given.append((first, await writer.add(rows)))
            await asyncio.sleep(rng.random() * 0.01)
        return [(first, await ticket) for first, ticket in given]

    async def killer() -> None:
        nonlocal kills
        while not done and kills < 20:  # a slow machine gets its rows in, too
            ended = await asyncio.to_thread(
                query,
                dsn18,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname ="
                " current_database() AND pid <> pg_backend_pid()",
            )
            kills += len(ended)
            await asyncio.sleep(0.05)

    how = options(driver=driver, settings=Settings(max_retries=50, initial_backoff_ms=1))
    async with Writer(dsn18, "t", how, limits=FlushLimits(max_wait_ms=5)) as writer:
        killing = asyncio.create_task(killer())
        outcomes = [
            pair for made in await asyncio.gather(*map(producer, range(10))) for pair in made
        ]
        done = True
        await killing
    expected = set()
    for first, outcome in outcomes:
        assert states(outcome) == (4, [(3, "23514")], [])
        expected |= {first + i for i in range(5) if i != 3}
    assert {number for (number,) in query(dsn18, "SELECT id FROM t")} == expected
    assert kills > 2


async def test_a_ticket_says_what_is_not_written(dsn18: str) -> None:
    """A table that is dropped: the rows are unwritten, the writer goes on once it is there."""
    execute(dsn18, TABLE)
    async with Writer(dsn18, "t") as writer:
        await (await writer.add([row(1)]))
        execute(dsn18, "ALTER TABLE t RENAME TO gone")
        with pytest.raises(UnwrittenError) as failure:
            await (await writer.add([row(2), row(3)]))
        assert (failure.value.outcome.unwritten, failure.value.outcome.committed) == (2, 0)
        execute(dsn18, "ALTER TABLE gone RENAME TO t")
        assert (await (await writer.add([row(4)]))).committed == 1
    assert query(dsn18, "SELECT id FROM t ORDER BY id") == [(1,), (4,)]
