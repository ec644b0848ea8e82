"""The tools of the fault tests themselves: everything else that the proxy does to the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import psycopg
import pytest

from batchbench.drivers.address import parameters
from batchbench.servers import Cluster
from tests.fixtures.faults import until
from tests.fixtures.loading import execute, query
from tests.fixtures.sessions import (
    BROKEN,
    LIMIT_S,
    backend_lives,
    copy_parts,
    ids,
    vanish,
    with_asyncpg,
    with_psycopg,
)
from tests.proxy import (
    COMMIT,
    COMMITTED,
    COPY_DATA,
    QUERY,
    START_UP,
    Fault,
    Fired,
    Kind,
    Proxy,
    Side,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_before,
    cut_commit_blind,
    open_proxy,
    running,
    tagged,
)

HANGS_FOR_S = 0.3


@pytest.fixture
def table(dsn18: str) -> str:
    execute(dsn18, "CREATE TABLE t (id int)")
    return dsn18


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET])
async def test_cut_in_the_middle_of_acopy_parts(table: str, when: When, kind: Kind) -> None:
    fault = Fault(kind, Trigger(COPY_DATA, nth=3), when)
    async with open_proxy(table, fault) as proxy:
        connection = await asyncpg.connect(proxy.dsn)

        async def lines() -> object:
            for number in range(1_000):
                yield b"%d\n" % number
                await asyncio.sleep(0)

        with pytest.raises(BROKEN):
            await connection.copy_to_table("t", source=lines(), timeout=LIMIT_S)
        connection.terminate()
        assert [fired.nth for fired in proxy.fired] == [3]
        assert proxy.copy_bytes <= 10  # nothing was read after it
    assert ids(table) == []


async def test_every_connection_is_struck(table: str) -> None:
    fault = Fault(Kind.CUT, Trigger(running("pg_sleep(0)")), everywhere=True)
    async with open_proxy(table, fault) as proxy:
        connections = [await asyncpg.connect(proxy.dsn) for _ in range(3)]
        with pytest.raises(BROKEN):
            await connections[1].execute("SELECT pg_sleep(0)")
        for connection in connections:
            with pytest.raises(BROKEN):
                await connection.execute("SELECT 1", timeout=LIMIT_S)
        assert len(proxy.fired) == 1
        await with_asyncpg(proxy.dsn, 1)


async def test_struck_by_hand(table: str) -> None:
    async with open_proxy(table) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        assert list(proxy.backend_pids.values()) == [connection.get_server_pid()]
        proxy.strike(Fault(Kind.CUT, Trigger(QUERY)))
        with pytest.raises(BROKEN):
            await connection.execute("SELECT 1", timeout=LIMIT_S)
        assert proxy.fired == []


async def test_stalled_traffic_goes_on_when_released(table: str) -> None:
    fault = Fault(Kind.STALL, Trigger(COMMIT), When.BEFORE)
    async with open_proxy(table, fault) as proxy:
        task = asyncio.create_task(with_asyncpg(proxy.dsn, 1))
        await proxy.until_fired()
        await asyncio.sleep(HANGS_FOR_S)
        assert not task.done()
        assert ids(table) == []
        proxy.release()
        await asyncio.wait_for(task, LIMIT_S)
    assert ids(table) == [1]


async def test_a_stalled_answer_arrives_late(table: str) -> None:
    fault = Fault(Kind.STALL, Trigger(COMMIT), side=Side.SERVER)
    async with open_proxy(table, fault) as proxy:
        task = asyncio.create_task(with_psycopg(proxy.dsn, 1))
        await proxy.until_fired()
        await asyncio.to_thread(until, "the commit", lambda: ids(table) == [1])
        assert not task.done()
        proxy.release()
        await asyncio.wait_for(task, LIMIT_S)


@pytest.mark.parametrize(
    ("side", "arrives"), [(None, False), (Side.CLIENT, False), (Side.SERVER, True)]
)
async def test_a_black_hole(table: str, side: Side | None, arrives: bool) -> None:
    """The client hangs until it gives up, and the server does not learn that it did."""
    fault = Fault(Kind.BLACK_HOLE, Trigger(START_UP, nth=1), side=side)
    async with open_proxy(table) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        pid = connection.get_server_pid()
        proxy.strike(fault)
        insert = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
        if arrives:
            await asyncio.to_thread(until, "the insert", lambda: ids(table) == [1])
        await asyncio.wait([insert], timeout=HANGS_FOR_S)
        assert not insert.done()
        connection.terminate()
        with pytest.raises(BROKEN):
            await insert
        if side is not Side.SERVER:
            await asyncio.sleep(HANGS_FOR_S)
            assert backend_lives(table, pid)
        proxy.release()
        await asyncio.to_thread(until, "its end", lambda: not backend_lives(table, pid))
    assert ids(table) == [1] * arrives


async def test_a_black_hole_swallows_the_servers_end(table: str) -> None:
    fault = Fault(Kind.BLACK_HOLE, Trigger(tagged("INSERT")), When.BEFORE)
    async with open_proxy(table, fault) as proxy:
        insert = asyncio.create_task(with_asyncpg(proxy.dsn, 1))
        (fired,) = await proxy.until_fired()
        execute(table, f"SELECT pg_terminate_backend({fired.backend_pid}, 10000)")
        await asyncio.wait([insert], timeout=HANGS_FOR_S)
        assert not insert.done()
        proxy.release()
        with pytest.raises(BROKEN):
            await asyncio.wait_for(insert, LIMIT_S)
    assert ids(table) == []


async def test_a_black_hole_in_a_copy_does_not_block_the_writer(table: str) -> None:
    """All is taken, as by a network that buffers; the end of the COPY hangs."""
    fault = Fault(Kind.BLACK_HOLE, Trigger(COPY_DATA, nth=2))
    async with open_proxy(table, fault) as proxy:
        connection = await psycopg.AsyncConnection.connect(proxy.dsn)
        copying = asyncio.create_task(copy_parts(connection, b"1\n" * (1 << 16), 40))
        await proxy.until_fired()
        await asyncio.to_thread(until, "all is taken", lambda: proxy.copy_bytes == 40 * (2 << 16))
        await asyncio.wait([copying], timeout=HANGS_FOR_S)
        assert not copying.done()
        connection.pgconn.finish()  # as a watchdog does
        copying.cancel()
        with pytest.raises((asyncio.CancelledError, *BROKEN)):
            await copying
    assert ids(table) == []


async def test_half_closed_towards_the_client(table: str) -> None:
    fault = Fault(Kind.HALF_CLOSE, Trigger(tagged("INSERT")), side=Side.SERVER)
    async with open_proxy(table, fault) as proxy:
        with pytest.raises(BROKEN):
            await with_asyncpg(proxy.dsn, 1)
        assert len(proxy.fired) == 1
    assert ids(table) == []


async def test_half_closed_towards_the_server(table: str) -> None:
    """The server reads the end, rolls back and closes."""
    fault = Fault(Kind.HALF_CLOSE, Trigger(tagged("INSERT")), side=Side.CLIENT)
    async with open_proxy(table, fault) as proxy:
        with pytest.raises(BROKEN):
            await with_psycopg(proxy.dsn, 1)
        pid = proxy.fired[0].backend_pid
        await asyncio.to_thread(until, "its end", lambda: not backend_lives(table, pid))
    assert ids(table) == []


@pytest.mark.parametrize(("kind", "reset"), [(Kind.CUT, False), (Kind.RESET, True)])
async def test_how_a_cut_looks_to_the_client(table: str, kind: Kind, reset: bool) -> None:
    async with open_proxy(table, Fault(kind, Trigger(START_UP))) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(proxy))
        writer.write(b"\0\0\0\x08\x00\x03\x00\x00")
        if reset:
            with pytest.raises(ConnectionResetError):
                await asyncio.wait_for(reader.read(), LIMIT_S)
        else:
            assert await asyncio.wait_for(reader.read(), LIMIT_S) == b""
        writer.transport.abort()


async def test_callbacks_run_before_and_after_the_message(table: str) -> None:
    seen: list[tuple[str, list[int]]] = []

    def look(name: str) -> Callable[[Fired], Awaitable[None]]:
        async def call(fired: Fired) -> None:
            await asyncio.sleep(HANGS_FOR_S)  # the connection's traffic waits
            seen.append((name, ids(table)))

        return call

    faults = [
        Fault(Kind.CALL, Trigger(COMMIT), When.BEFORE, call=look("before")),
        Fault(Kind.CALL, Trigger(COMMITTED), When.BEFORE, call=look("answered")),
        cut_commit_after(nth=2, call=look("lost")),
    ]
    async with open_proxy(table, *faults) as proxy:
        await with_psycopg(proxy.dsn, 1)
        assert seen == [("before", []), ("answered", [1])]
        with pytest.raises(BROKEN):
            await with_psycopg(proxy.dsn, 2)
        assert seen[2:] == [("lost", [1, 2])]
        assert len(proxy.fired) == 3


@pytest.mark.parametrize("cut", [cut_commit_blind, cut_commit_after])
async def test_nothing_arrives_during_a_callback(table: str, cut: Callable[..., Fault]) -> None:
    """The answer is there, but the connection waits for the callback, then it is gone."""

    async def wait(fired: Fired) -> None:
        await asyncio.to_thread(until, "the commit", lambda: ids(table) == [1])
        await asyncio.sleep(HANGS_FOR_S)

    async with open_proxy(table, cut(call=wait)) as proxy:
        with pytest.raises(BROKEN):
            await with_asyncpg(proxy.dsn, 1)
        assert len(proxy.fired) == 1


@pytest.mark.parametrize("cut", [cut_commit_before, cut_commit_blind, cut_commit_after])
async def test_a_callback_that_ends_the_backend_runs_to_its_end(
    table: str, cut: Callable[..., Fault]
) -> None:
    ended: list[int] = []

    async def terminate(fired: Fired) -> None:
        execute(table, f"SELECT pg_terminate_backend({fired.backend_pid}, 10000)")
        await asyncio.sleep(HANGS_FOR_S)
        ended.append(fired.backend_pid)

    async with open_proxy(table, cut(call=terminate)) as proxy:
        with pytest.raises(BROKEN):
            await with_psycopg(proxy.dsn, 1)
        assert ended == [fired.backend_pid for fired in proxy.fired]
        assert len(ended) == 1


async def test_a_server_that_dies_before_it_answers(table: str) -> None:
    """The answer that is to be lost never comes; the callback runs, and says so."""
    execute(table, "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")
    with psycopg.connect(table) as other:
        other.execute("INSERT INTO t VALUES (1)")  # the COMMIT waits for the fate of this row
        async with open_proxy(table, cut_commit_after()) as proxy:
            write = asyncio.create_task(with_psycopg(proxy.dsn, 1))
            blocked = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            await asyncio.to_thread(until, "it waits", lambda: len(query(table, blocked)) == 1)
            assert proxy.fired == []
            execute(table, f"SELECT pg_terminate_backend({query(table, blocked)[0][0]}, 10000)")
            with pytest.raises(BROKEN):
                await asyncio.wait_for(write, LIMIT_S)
            assert [fired.tag for fired in proxy.fired] == [""]


async def test_a_callback_outlives_the_client(table: str) -> None:
    ended: list[int] = []

    async def leave(fired: Fired) -> None:
        vanish(connection)
        await asyncio.sleep(HANGS_FOR_S)
        ended.append(fired.nth)

    fault = Fault(Kind.CALL, Trigger(tagged("INSERT")), call=leave)
    async with open_proxy(table, fault) as proxy:
        connection = await psycopg.AsyncConnection.connect(proxy.dsn)
        with pytest.raises(BROKEN):
            await connection.execute("INSERT INTO t VALUES (1)")
        await connection.close()
        await proxy.until_fired()
    assert ended == [1]


async def test_an_answer_is_awaited_for_a_client_that_left(table: str) -> None:
    execute(table, "ALTER TABLE t ADD UNIQUE (id) DEFERRABLE INITIALLY DEFERRED")
    with psycopg.connect(table) as other:
        other.execute("INSERT INTO t VALUES (1)")
        async with open_proxy(table, cut_commit_after()) as proxy:
            connection = await asyncpg.connect(proxy.dsn)
            await connection.execute("BEGIN; INSERT INTO t VALUES (1)")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(connection.execute("COMMIT")), HANGS_FOR_S)
            connection.terminate()
            await asyncio.sleep(HANGS_FOR_S)
            assert list(proxy.backend_pids) == [1]
            other.rollback()
            assert [fired.tag for fired in await proxy.until_fired()] == ["COMMIT"]
    assert ids(table) == [1]


async def test_a_stalled_connection_can_be_cut(table: str) -> None:
    async with open_proxy(table) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        proxy.strike(Fault(Kind.STALL, Trigger(QUERY)))
        write = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
        await asyncio.to_thread(until, "it is sent", lambda: len(proxy.queries) == 1)
        execute(table, f"SELECT pg_terminate_backend({connection.get_server_pid()}, 10000)")
        await asyncio.sleep(HANGS_FOR_S)  # what the server says about it waits too
        proxy.strike(Fault(Kind.CUT, Trigger(QUERY)))
        with pytest.raises(BROKEN):
            await asyncio.wait_for(write, LIMIT_S)
        await asyncio.to_thread(until, "its end", lambda: not proxy.backend_pids)
    assert ids(table) == []


async def test_what_a_callback_raises_is_the_tests_error(table: str) -> None:
    async def fail(fired: Fired) -> None:
        raise ValueError("seen in a callback")

    with pytest.raises(ExceptionGroup) as caught:
        await _write_into_failure(table, cut_commit_before(call=fail))
    assert caught.group_contains(ValueError, match="seen in a callback")
    assert ids(table) == []


async def _write_into_failure(dsn: str, fault: Fault) -> None:
    async with open_proxy(dsn, fault) as proxy:
        with pytest.raises(BROKEN):
            await with_asyncpg(proxy.dsn, 1)


async def test_refused_connections(table: str) -> None:
    async with open_proxy(table) as proxy:
        proxy.refuse(2)
        for _ in range(2):
            with pytest.raises(BROKEN):
                await with_psycopg(proxy.dsn, 1)
        await with_psycopg(proxy.dsn, 2)
        proxy.refuse(1, sqlstate="53300")
        with pytest.raises(asyncpg.TooManyConnectionsError):
            await with_asyncpg(proxy.dsn, 3)
        proxy.refuse(1, sqlstate="57P03")
        with pytest.raises(psycopg.OperationalError, match="refused by the tests' proxy"):
            await with_psycopg(proxy.dsn, 3)
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(BROKEN):
                await with_asyncpg(proxy.dsn, 4)
        proxy.release()
        await with_asyncpg(proxy.dsn, 5)
        assert (proxy.refused, proxy.connections) == (7, 9)
    assert ids(table) == [2, 5]


async def test_a_silent_refusal_hangs_and_cancelling_is_not_refused(table: str) -> None:
    async with open_proxy(table) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        proxy.refuse(silent=True)
        with pytest.raises(TimeoutError):
            await asyncpg.connect(proxy.dsn, timeout=HANGS_FOR_S)
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=HANGS_FOR_S)
        assert await connection.fetchval("SELECT 2", timeout=LIMIT_S) == 2
        await connection.close()
        assert proxy.refused == 1


async def test_the_server_may_be_restarted(own_cluster: Cluster) -> None:
    execute(own_cluster.dsn, "CREATE TABLE t (id int)")
    async with open_proxy(own_cluster.dsn, tolerate_outages=True) as proxy:
        await with_psycopg(proxy.dsn, 1)
        own_cluster.stop("immediate")
        for write in (with_psycopg, with_asyncpg):
            with pytest.raises(BROKEN):
                await write(proxy.dsn, 2)
        assert proxy.unreachable == 2
        own_cluster.start()
        await with_asyncpg(proxy.dsn, 3)
    assert ids(own_cluster.dsn) == [1, 3]


def _port(proxy: Proxy) -> int:
    return int(parameters(proxy.dsn)["port"])
