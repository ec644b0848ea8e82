"""A TCP proxy in front of a PostgreSQL server that records what clients really send.

    async with open_proxy(dsn) as proxy:
        ... connect to proxy.dsn ...
        assert max(bind.parameters for bind in proxy.binds) <= 65_535

It runs on the test's own event loop: clients must be asynchronous, or in a thread or process.
Whole messages are forwarded, one at a time, all through `_Link.forward`. Records hold counts and
statement texts, never values. Source of the formats: PostgreSQL documentation, "Message Formats".
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias, TypeVar
from urllib.parse import quote

from batchbench.drivers.address import parameters

_READ_LIMIT_BYTES = 1 << 20
_SSL_REQUEST, _GSSENC_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102


class Side(StrEnum):
    """Who sent a message."""

    CLIENT = "client"
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Message:
    """One protocol message. `kind` is its type byte, "" for a start-up message, which has none."""

    side: Side
    kind: str
    body: bytes

    def encode(self) -> bytes:
        """The message as it goes over the wire."""
        return self.kind.encode() + struct.pack("!I", len(self.body) + 4) + self.body


@dataclass(frozen=True, slots=True)
class Parse:
    """A statement was prepared. `parameter_types` counts the types that the client declared."""

    connection: int
    statement: str
    query: str
    parameter_types: int


@dataclass(frozen=True, slots=True)
class Bind:
    """Parameters were bound to a prepared statement."""

    connection: int
    portal: str
    statement: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Execute:
    """A portal was run."""

    connection: int
    portal: str


@dataclass(frozen=True, slots=True)
class Query:
    """Statements were sent in the simple protocol."""

    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class CopyData:
    """A part of a COPY stream; `payload_bytes` without the message's own 5."""

    connection: int
    payload_bytes: int


Record: TypeAlias = Parse | Bind | Execute | Query | CopyData
_R = TypeVar("_R", Parse, Bind, Execute, Query, CopyData)


def decode(message: Message, connection: int) -> Record | None:
    """What a client's message says; None for a kind that is not recorded."""
    body = message.body
    if message.kind == "P":
        statement, query, rest = body.split(b"\0", 2)
        return Parse(connection, _text(statement), _text(query), _uint16(rest, 0))
    if message.kind == "B":
        portal_end = body.index(b"\0")
        name_end = body.index(b"\0", portal_end + 1)
        formats = _uint16(body, name_end + 1)
        count = _uint16(body, name_end + 3 + 2 * formats)
        statement = body[portal_end + 1 : name_end]
        return Bind(connection, _text(body[:portal_end]), _text(statement), count)
    if message.kind == "E":
        return Execute(connection, _text(body[: body.index(b"\0")]))
    if message.kind == "Q":
        return Query(connection, _text(body.rstrip(b"\0")))
    if message.kind == "d":
        return CopyData(connection, len(body))
    return None


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _uint16(body: bytes, offset: int) -> int:
    (number,) = struct.unpack_from("!H", body, offset)
    return int(number)


@dataclass(slots=True)
class Proxy:
    """A running proxy. `dsn` leads through it; `records` grows in the order of arrival."""

    dsn: str
    records: list[Record] = field(default_factory=list)
    connections: int = 0

    @property
    def parses(self) -> list[Parse]:
        """Statements that were prepared."""
        return self._of(Parse)

    @property
    def binds(self) -> list[Bind]:
        """Statements' parameters."""
        return self._of(Bind)

    @property
    def executes(self) -> list[Execute]:
        """Portals that were run."""
        return self._of(Execute)

    @property
    def queries(self) -> list[Query]:
        """Statements of the simple protocol."""
        return self._of(Query)

    @property
    def copy_bytes(self) -> int:
        """Bytes of COPY streams from clients."""
        return sum(record.payload_bytes for record in self._of(CopyData))

    @property
    def max_parameters(self) -> int:
        """The most parameters that one statement carried, 0 where none was bound."""
        return max((bind.parameters for bind in self.binds), default=0)

    def _of(self, kind: type[_R]) -> list[_R]:
        return [record for record in self.records if isinstance(record, kind)]


@dataclass(slots=True)
class _Link:
    """One client's connection and the one to the server that belongs to it."""

    proxy: Proxy
    connection: int
    server_address: str | tuple[str, int]

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """Forward in both directions until either side ends."""
        first = await _start_up(client, back)
        if first is None:
            return
        server, out = await self._connect()
        try:
            await self.forward(first, out)
            tasks = [
                asyncio.create_task(self._pump(Side.CLIENT, client, out)),
                asyncio.create_task(self._pump(Side.SERVER, server, back)),
            ]
            try:
                if first.body[:4] == struct.pack("!I", _CANCEL_REQUEST):
                    await tasks[1]  # the server acts, then closes; libpq waits for that
                else:
                    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                    # What the server still says to a client that took leave goes nowhere.
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await _close(out)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def forward(self, message: Message, out: asyncio.StreamWriter) -> None:
        """Every message passes here, once, whole, before it is sent on: the place for faults."""
        if message.side is Side.CLIENT:
            record = decode(message, self.connection)
            if record is not None:
                self.proxy.records.append(record)
        out.write(message.encode())
        await out.drain()

    async def _pump(
        self, side: Side, source: asyncio.StreamReader, out: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                kind, length = struct.unpack("!cI", await source.readexactly(5))
                body = await source.readexactly(length - 4)
                await self.forward(Message(side, kind.decode("latin-1"), body), out)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.server_address, str):
            return await asyncio.open_unix_connection(self.server_address, limit=_READ_LIMIT_BYTES)
        return await asyncio.open_connection(*self.server_address, limit=_READ_LIMIT_BYTES)


async def _start_up(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> Message | None:
    """The client's first message that is for the server; None where it leaves before.

    Encryption is declined here, whatever the server could do: we want to read along.
    """
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            (length,) = struct.unpack("!I", await client.readexactly(4))
            body = await client.readexactly(length - 4)
            (code,) = struct.unpack_from("!I", body)
            if code not in (_SSL_REQUEST, _GSSENC_REQUEST):
                return Message(Side.CLIENT, "", body)
            back.write(b"N")
            await back.drain()
    return None


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


@asynccontextmanager
async def open_proxy(dsn: str) -> AsyncIterator[Proxy]:
    """A proxy on 127.0.0.1 in front of the server that the DSN names (TCP or Unix socket).

    Ends its connections at the end, and raises what went wrong on them.
    """
    known = parameters(dsn)
    proxy = Proxy("")
    tasks: dict[asyncio.Task[None], None] = {}
    failures: list[Exception] = []

    async def accept(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks[task] = None
        proxy.connections += 1
        try:
            await _Link(proxy, proxy.connections, _address(known)).serve(client, back)
        except asyncio.CancelledError:
            pass  # the end of the context; asyncio's streams would log it as an error
        except Exception as error:  # noqa: BLE001 - raised to the test at the end
            failures.append(error)
        finally:
            await _close(back)
            del tasks[task]

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_READ_LIMIT_BYTES)
    try:
        proxy.dsn = _dsn_through(known, listener.sockets[0].getsockname()[1])
        yield proxy
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
    if failures:
        raise ExceptionGroup("on the proxy's connections", failures)


def _address(known: dict[str, str]) -> str | tuple[str, int]:
    host, port = known.get("hostaddr") or known.get("host", "localhost"), known.get("port", "5432")
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port))


def _dsn_through(known: dict[str, str], port: int) -> str:
    # gssencmode stays out, asyncpg would take it for a server setting; both kinds of encryption
    # are declined in `_start_up` anyway.
    login = quote(known.get("user", "postgres"), safe="")
    if "password" in known:
        login += ":" + quote(known["password"], safe="")
    database = quote(known.get("dbname", ""), safe="")
    return f"postgresql://{login}@127.0.0.1:{port}/{database}?sslmode=disable"
