"""A server that ends, or stops reading, in the middle of a COPY or a query."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from batchbench.drivers import CAPABILITIES, Session, connect, within
from batchbench.errors import Failure, WriteError
from batchbench.servers import Cluster
from batchbench.table import TableName
from batchbench.wire import COPY_HEADER, COPY_TRAILER
from tests.fixtures.faults import kill_postmaster, until
from tests.fixtures.loading import execute, query

both_drivers = pytest.mark.parametrize("driver", list(CAPABILITIES))


@dataclass(frozen=True, slots=True)
class Rows:
    """A COPY stream of one text column: about 60 MB, more than any buffer on the way takes."""

    def ready(self) -> Sequence[bytes]:
        """All of it."""
        row = (1).to_bytes(2, "big") + (1000).to_bytes(4, "big") + b"x" * 1000
        return [COPY_HEADER, *[row * 500] * 120, COPY_TRAILER]

    def rest(self) -> None:
        """Nothing."""

    def sent(self) -> None:
        """Nothing."""


End = Callable[[Cluster, int], None]


def _terminate(cluster: Cluster, pid: int) -> None:
    with psycopg.connect(cluster.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 10000)", [pid])


def _stop(cluster: Cluster, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def _kill(cluster: Cluster, pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)


def _kill_server(cluster: Cluster, pid: int) -> None:
    kill_postmaster(cluster, at_once=True)


@both_drivers
@pytest.mark.parametrize("end", [_terminate, _stop, _kill, _kill_server])
async def test_a_copy_whose_server_ends_fails_at_once_and_in_silence(
    own_cluster: Cluster, driver: str, end: End, caplog: pytest.LogCaptureFixture
) -> None:
    """Also while it waits for the server to read on; the event loop has nothing to complain of."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    execute(own_cluster.dsn, "CREATE TABLE wide (a text)")
    session = await connect(driver, own_cluster.dsn)
    pid = int((await session.fetch("SELECT pg_backend_pid()::text"))[0][0] or 0)
    limit_s = 1.0 if end is _stop else 60.0
    try:
        with pytest.raises(WriteError) as caught:
            await asyncio.wait_for(_copy_until(session, own_cluster, pid, end, limit_s), 30)
    finally:
        if end is _stop:
            os.kill(pid, signal.SIGCONT)
    assert caught.value.failure is Failure.TRANSIENT
    await session.close()
    del session
    await _collect()
    assert complaints == []
    assert [record.getMessage() for record in caplog.records if record.levelname != "DEBUG"] == []


async def _copy_until(
    session: Session, cluster: Cluster, pid: int, end: End, limit_s: float
) -> None:
    """Harm the server once it has a part of the rows and reads no more."""
    os.kill(pid, signal.SIGSTOP)
    copying = asyncio.create_task(
        within(session, limit_s, session.copy(TableName("wide"), ["a"], Rows()))
    )
    done, _ = await asyncio.wait([copying], timeout=0.3)
    assert not done
    if end is _terminate:
        os.kill(pid, signal.SIGCONT)
    await asyncio.to_thread(end, cluster, pid)
    await copying


async def _collect() -> None:
    gc.collect()
    await asyncio.sleep(0)
    gc.collect()


@both_drivers
async def test_what_the_server_said_last_is_the_error(dsn18: str, driver: str) -> None:
    session = await connect(driver, dsn18)
    pid = (await session.fetch("SELECT pg_backend_pid()::text"))[0][0]
    asking = asyncio.create_task(session.fetch("SELECT pg_sleep(30)::text"))
    active = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND state = 'active'"
    await asyncio.to_thread(until, "it sleeps", lambda: bool(query(dsn18, active)))
    query(dsn18, f"SELECT pg_terminate_backend({pid}, 10000)")
    with pytest.raises(WriteError) as caught:
        await asking
    assert caught.value.sqlstate == "57P01"
    await session.close()


async def test_a_last_word_between_statements_leaves_nothing_to_the_loop(dsn18: str) -> None:
    """The server ends the session when nothing is asked of it; then a COPY is to begin."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context["message"]))
    execute(dsn18, "CREATE TABLE t (note text)")
    session: Any = await connect("asyncpg", dsn18)
    await session.begin()
    fields = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection\0\0"
    session._protocol.data_received(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
    with pytest.raises(WriteError) as caught:
        await session.copy(TableName("t"), ["note"], Rows())
    assert caught.value.failure is Failure.TRANSIENT
    session.abort()
    await session.close()
    del session, caught
    await asyncio.sleep(0)
    gc.collect()
    assert complaints == []


async def test_copies_that_wait_for_locks_take_no_thread_from_others(dsn18: str) -> None:
    """Their turn comes when a writer commits that needs a thread for its own rows."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    execute(dsn18, "CREATE TABLE wide (a text)")
    sessions = [await connect("psycopg", dsn18) for _ in range(3)]
    await sessions[0].begin()
    await sessions[0].run("LOCK TABLE wide IN EXCLUSIVE MODE")
    waiting = [
        asyncio.create_task(session.copy(TableName("wide"), ["a"], Rows()))
        for session in sessions[1:]
    ]
    locked = "SELECT count(*) FROM pg_locks WHERE relation = 'wide'::regclass AND NOT granted"
    await asyncio.to_thread(until, "both wait", lambda: query(dsn18, locked) == [(2,)])
    assert await sessions[0].copy(TableName("wide"), ["a"], Rows()) == 60_000
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    await sessions[0].commit()
    assert await waiting[1] == 60_000
    for session in sessions:
        await session.close()
