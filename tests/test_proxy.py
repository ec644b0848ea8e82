"""The recording proxy itself: `tests/proxy.py`."""

from __future__ import annotations

import asyncio
import os
import struct

import asyncpg
import psycopg
import pytest

from batchbench.drivers.address import parameters
from tests.proxy import Bind, CopyData, Message, Parse, Query, Side, decode, open_proxy


def client(kind: str, body: bytes) -> Message:
    return Message(Side.CLIENT, kind, body)


def test_counts_are_unsigned() -> None:
    """65,535 parameters must not read as -1."""
    body = b"p\0s\0" + struct.pack("!HHHH", 2, 1, 1, 65_535)
    assert decode(client("B", body), 7) == Bind(7, "p", "s", 65_535)
    body = "s\0SELECT 'ü'\0".encode() + struct.pack("!H", 40_000)
    assert decode(client("P", body), 7) == Parse(7, "s", "SELECT 'ü'", 40_000)


def test_other_messages_are_not_recorded() -> None:
    assert decode(client("S", b""), 1) is None
    assert decode(client("Q", b"SELECT 1\0"), 1) == Query(1, "SELECT 1")
    assert decode(client("d", b"12345"), 1) == CopyData(1, 5)


@pytest.mark.parametrize("count", [1, 32_767])
async def test_what_asyncpg_sends(dsn: str, count: int) -> None:
    async with open_proxy(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        query = "SELECT 1 WHERE 0 IN (" + ",".join(f"${i + 1}" for i in range(count)) + ")"
        assert await connection.fetchval(query, *range(count)) == 1
        await connection.close()
        assert [bind.parameters for bind in proxy.binds if bind.parameters] == [count]
        assert proxy.max_parameters == count
        parse = next(parse for parse in proxy.parses if parse.query == query)
        assert parse.statement == proxy.binds[0].statement
        assert bool(parse.statement) == (count == 1)  # asyncpg names what it caches
        assert len(proxy.executes) == len(proxy.binds)
        assert proxy.connections == 1


async def test_what_psycopg_sends(dsn: str) -> None:
    values = list(range(65_535))
    marks = ",".join(["%s"] * len(values))
    async with open_proxy(dsn) as proxy:
        async with await psycopg.AsyncConnection.connect(proxy.dsn) as connection:
            await connection.execute(f"SELECT 1 WHERE 0 IN ({marks})", values)
            assert proxy.max_parameters == 65_535
            assert proxy.parses[-1].parameter_types == 65_535
            with pytest.raises(psycopg.OperationalError):
                await connection.execute(f"SELECT 1 WHERE 0 IN ({marks},%s)", [*values, 1])
            assert proxy.max_parameters == 65_535
        assert Query(1, "BEGIN") in proxy.queries


async def test_a_message_of_many_megabytes_arrives_whole(dsn: str) -> None:
    blob = os.urandom(1 << 20) * 24
    async with open_proxy(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        assert await connection.fetchval("SELECT $1::bytea", blob) == blob
        await connection.close()
        assert proxy.max_parameters == 1


async def test_copy_bytes_are_counted(dsn: str) -> None:
    lines = b"".join(b"%d\n" % i for i in range(100_000))
    async with open_proxy(dsn) as proxy:
        async with await psycopg.AsyncConnection.connect(proxy.dsn) as connection:
            await connection.execute("CREATE TABLE copied (i int)")
            cursor = connection.cursor()
            async with cursor.copy("COPY copied FROM STDIN") as copy:
                await copy.write(lines)
            await cursor.execute("SELECT count(*) FROM copied")
            assert await cursor.fetchone() == (100_000,)
        assert proxy.copy_bytes == len(lines)


async def test_messages_are_found_in_any_segmentation(dsn18: str) -> None:
    """Sent a byte at a time, and several in one packet."""
    known = parameters(dsn18)
    start = f"user\0{known['user']}\0database\0{known['dbname']}\0\0".encode()
    query = Message(Side.CLIENT, "Q", b"SELECT 1\0").encode()
    async with open_proxy(dsn18) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", _port(proxy.dsn))
        writer.write(struct.pack("!II", 8, 80877103))  # asks for TLS, is told no
        assert await reader.readexactly(1) == b"N"
        body = struct.pack("!I", 196608) + start
        for byte in struct.pack("!I", len(body) + 4) + body + query:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(query * 3 + Message(Side.CLIENT, "X", b"").encode())
        answer = await reader.read()
        assert answer.count(b"SELECT 1\0") == 4  # the command tags
        assert proxy.queries == [Query(1, "SELECT 1")] * 4
        writer.close()
        await writer.wait_closed()


async def test_cancelling_works_through_it(dsn: str) -> None:
    async with open_proxy(dsn) as proxy:
        connection = await asyncpg.connect(proxy.dsn)
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.2)
        assert await connection.fetchval("SELECT 2") == 2
        await connection.close()
        assert proxy.connections == 2


async def test_connections_are_told_apart_and_ended_with_the_proxy(dsn18: str) -> None:
    async with open_proxy(dsn18) as proxy:
        first = await asyncpg.connect(proxy.dsn)
        second = await asyncpg.connect(proxy.dsn)
        await asyncio.gather(first.execute("SELECT 1"), second.execute("SELECT 2"))
        assert {(q.connection, q.text) for q in proxy.queries} == {(1, "SELECT 1"), (2, "SELECT 2")}
    for connection in (first, second):
        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError, ConnectionError)):
            await connection.execute("SELECT 3", timeout=5)
        connection.terminate()


async def test_a_proxy_chains_over_tcp_and_a_broken_server_is_reported(dsn18: str) -> None:
    async with open_proxy(dsn18) as inner, open_proxy(inner.dsn) as outer:
        connection = await asyncpg.connect(outer.dsn)
        assert await connection.fetchval("SELECT $1::int", 4) == 4
        await connection.close()
        assert inner.binds == outer.binds
    nowhere = f"postgresql://u@127.0.0.1:{_port(inner.dsn)}/d"
    with pytest.raises(ExceptionGroup) as caught:
        await _fail_to_connect(nowhere)
    assert caught.group_contains(ConnectionRefusedError)


async def _fail_to_connect(dsn: str) -> None:
    async with open_proxy(dsn) as proxy:
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(proxy.dsn)


def _port(dsn: str) -> int:
    return int(parameters(dsn)["port"])
