"""The tools of the fault tests themselves: triggers, and COMMITs cut on the wire."""

from __future__ import annotations

import asyncio
import struct

import psycopg
import pytest

from batchbench.drivers.address import parameters
from tests.fixtures.faults import until
from tests.fixtures.loading import execute
from tests.fixtures.sessions import (
    BROKEN,
    LIMIT_S,
    WRITES,
    Write,
    backend_lives,
    ids,
    with_asyncpg,
    with_psycopg,
)
from tests.proxy import (
    BIND,
    COMMIT,
    ROWS,
    Fault,
    Kind,
    Message,
    Passing,
    Proxy,
    Query,
    Side,
    Trigger,
    cut_commit_after,
    cut_commit_before,
    cut_commit_blind,
    ends_in_commit,
    open_proxy,
)
from tests.proxy.faults import Armed

HANGS_FOR_S = 0.3


@pytest.fixture
def table(dsn18: str) -> str:
    execute(dsn18, "CREATE TABLE t (id int)")
    return dsn18


every_write = pytest.mark.parametrize("write", WRITES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COMMIT", True),
        ("commit;", True),
        ("END TRANSACTION", True),
        ("COMMIT AND CHAIN", True),
        ("INSERT INTO t VALUES ('; COMMIT', 1);\nCOMMIT ;", True),
        ("INSERT INTO t VALUES ('; COMMIT')", False),
        ("SELECT CASE WHEN true THEN 1 END", False),
        ("DO $$ BEGIN COMMIT; END $$", False),
        ("SELECT 1 AS commit", False),
        ("COMMIT; SELECT 1", False),
        ("", False),
    ],
)
def test_a_commit_is_told_by_the_last_statement(text: str, expected: bool) -> None:
    assert ends_in_commit(text) is expected


def passing(text: str, connection: int = 1) -> Passing:
    message = Message(Side.CLIENT, "Q", text.encode() + b"\0")
    return Passing(message, connection, Query(connection, text), text)


def fired_at(
    trigger: Trigger, texts: list[tuple[int, str]], times: int = 1, every: int = 1
) -> list[int]:
    armed = Armed(Fault(Kind.CUT, trigger, times=times, every=every))
    hits = []
    for number, (connection, text) in enumerate(texts):
        if armed.due(passing(text, connection)):
            armed.fired += 1
            hits.append(number)
    return hits


def test_triggers_count_over_all_connections() -> None:
    texts = [(number % 3, "COMMIT") for number in range(12)]
    assert fired_at(Trigger(COMMIT), texts) == [0]
    assert fired_at(Trigger(COMMIT, nth=4), texts) == [3]
    assert fired_at(Trigger(COMMIT, nth=4), texts, times=2) == [3, 4]
    assert fired_at(Trigger(COMMIT, nth=2), texts, times=3, every=4) == [1, 5, 9]
    assert fired_at(Trigger(COMMIT, nth=11), texts, times=9) == [10, 11]
    assert fired_at(Trigger(BIND), texts) == []


def test_only_transactions_with_rows_can_be_counted() -> None:
    texts = [(1, "COMMIT"), (1, "INSERT 1"), (2, "COMMIT"), (1, "COMMIT"), (1, "COMMIT")]
    assert fired_at(Trigger(COMMIT, since=ROWS), texts) == [3]
    assert fired_at(Trigger(COMMIT, since=ROWS, nth=2), [*texts, *texts]) == [8]


@every_write
async def test_a_commit_cut_before_leaves_nothing(table: str, write: Write) -> None:
    async with open_proxy(table, cut_commit_before(nth=2)) as proxy:
        await write(proxy.dsn, 1)
        with pytest.raises(BROKEN):
            await write(proxy.dsn, 2)
        await write(proxy.dsn, 3)
        (fired,) = proxy.fired
        assert (fired.connection, fired.nth, fired.tag) == (2, 2, "")
    assert ids(table) == [1, 3]


@every_write
async def test_a_commit_cut_after_leaves_the_row(table: str, write: Write) -> None:
    async with open_proxy(table, cut_commit_after(nth=2)) as proxy:
        await write(proxy.dsn, 1)
        with pytest.raises(BROKEN):
            await write(proxy.dsn, 2)
        assert ids(table) == [1, 2]  # at once: the server had answered
        assert [fired.tag for fired in proxy.fired] == ["COMMIT"]
        await write(proxy.dsn, 3)
    assert ids(table) == [1, 2, 3]


@pytest.mark.parametrize("text", ["COMMIT", "INSERT INTO t VALUES (1); COMMIT"])
async def test_no_byte_of_a_lost_answer_arrives(table: str, text: str) -> None:
    """libpq hands out a CommandComplete before ReadyForQuery; what comes before it does arrive."""
    async with open_proxy(table, cut_commit_after()) as proxy:
        known = parameters(proxy.dsn)
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(proxy))
        login = f"user\0{known['user']}\0database\0{known['dbname']}\0\0".encode()
        writer.write(struct.pack("!II", len(login) + 8, 196608) + login)
        for query_text in ("BEGIN", text):
            writer.write(Message(Side.CLIENT, "Q", query_text.encode() + b"\0").encode())
        answer = await asyncio.wait_for(reader.read(), LIMIT_S)
        assert b"BEGIN\0" in answer
        assert (b"INSERT 0 1\0" in answer) == text.startswith("INSERT")
        assert b"COMMIT\0" not in answer
        assert answer.count(b"Z\0\0\0\x05") == 2
        writer.transport.abort()
        assert [fired.tag for fired in proxy.fired] == ["COMMIT"]


@every_write
async def test_a_commit_cut_blind_reaches_the_server(table: str, write: Write) -> None:
    async with open_proxy(table, cut_commit_blind()) as proxy:
        with pytest.raises(BROKEN):
            await write(proxy.dsn, 1)
        pid = proxy.fired[0].backend_pid
        await asyncio.to_thread(until, "its end", lambda: not backend_lives(table, pid))
        assert ids(table) == [1]


async def test_a_half_open_connection_keeps_its_backend(table: str) -> None:
    fault = cut_commit_blind(since=ROWS, half_open=True)
    async with open_proxy(table, fault) as proxy:
        with pytest.raises(BROKEN):
            await with_asyncpg(proxy.dsn, 1)
        await with_asyncpg(proxy.dsn, 2)
        pid = proxy.fired[0].backend_pid
        await asyncio.to_thread(until, "the commit", lambda: ids(table) == [1, 2])
        assert backend_lives(table, pid)
        proxy.release()
        await asyncio.to_thread(until, "its end", lambda: not backend_lives(table, pid))


async def test_a_lost_answer_can_be_a_rollback(table: str) -> None:
    async with open_proxy(table, cut_commit_after()) as proxy:
        connection = await psycopg.AsyncConnection.connect(proxy.dsn)
        with pytest.raises(psycopg.errors.UndefinedColumn):
            await connection.execute("INSERT INTO t VALUES (nothing)")
        with pytest.raises(BROKEN):
            await connection.commit()
        assert [fired.tag for fired in proxy.fired] == ["ROLLBACK"]
    assert ids(table) == []


async def test_the_same_chunk_fails_twice(table: str) -> None:
    async with open_proxy(table, cut_commit_before(nth=2, times=2)) as proxy:
        outcomes = []
        for row_id in (1, 2, 2, 2):
            try:
                await with_psycopg(proxy.dsn, row_id)
                outcomes.append("good")
            except BROKEN:
                outcomes.append("broken")
        assert outcomes == ["good", "broken", "broken", "good"]
        assert [fired.nth for fired in proxy.fired] == [2, 3]
    assert ids(table) == [1, 2]


def _port(proxy: Proxy) -> int:
    return int(parameters(proxy.dsn)["port"])
