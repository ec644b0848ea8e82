"""Drivers: one small interface over asyncpg and psycopg 3.

A session's own statements read and write text only; rows go through `execute` and `copy`, which
take values already in PostgreSQL's binary form, so that both drivers store the same bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncGenerator, Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from batchbench.drivers.address import check_files, shown
from batchbench.drivers.translate import connect_error
from batchbench.errors import ConfigError, WriteError
from batchbench.limits import ASYNCPG_PARAMETERS, PROTOCOL_PARAMETERS
from batchbench.table import Table, TableName
from batchbench.table.catalogue import TABLE_SQL, catalogued

T = TypeVar("T")

CONNECT_TIMEOUT_S = 15.0

# Rows never depend on who wrote them: NOTICEs are off because a flood of them deadlocks
# psycopg's COPY, and the encoders write UTF-8.
SESSION_SETTINGS: Mapping[str, str] = {
    "client_min_messages": "error",
    "client_encoding": "UTF8",
    "timezone": "UTC",
}
SESSION_SQL = "; ".join(f"SET {name} = '{value}'" for name, value in SESSION_SETTINGS.items())

# The same where the process that runs it is the one that greeted us; else nothing, and no row.
_UNPOOLED_SQL = (
    "SELECT "
    + ", ".join(
        f"pg_catalog.set_config('{name}', '{value}', false)"
        for name, value in SESSION_SETTINGS.items()
    )
    + " WHERE pg_catalog.pg_backend_pid() = {}"
)

Pooler = Literal["auto", "transaction", "session", "none"]
"""What stands before the server: a pooler that gives each transaction, or each session, a server
connection; nothing; or "auto", which sees for itself.
"""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do.

    parameter_limit: most parameters that one statement may carry.
    """

    driver: str
    parameter_limit: int


CAPABILITIES: Mapping[str, Capabilities] = {
    "asyncpg": Capabilities("asyncpg", ASYNCPG_PARAMETERS),
    "psycopg": Capabilities("psycopg", PROTOCOL_PARAMETERS),
}

_MODULES = {
    "asyncpg": "batchbench.drivers.asyncpg_session",
    "psycopg": "batchbench.drivers.psycopg_session",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement with parameters $1, $2 ... and their type OIDs.

    reused: whether it will run again, so that it is worth preparing.
    """

    sql: str
    parameter_oids: tuple[int, ...]
    reused: bool = True


class Pieces(Protocol):
    """A byte stream in pieces; `batchbench.wire.CopyStream` is one."""

    def ready(self) -> Iterable[bytes | bytearray | memoryview]:
        """What begins the stream and is there already, or is made too quickly to be worth a
        thread. Raises WriteError where it cannot be made.
        """

    def rest(self) -> Iterator[bytes | memoryview] | None:
        """What follows; reading it blocks. None: nothing."""

    def sent(self) -> None:
        """To be called once all of it was sent, before the answer is waited for; a millisecond."""


class Session(Protocol):
    """One connection, used by one task at a time.

    keeps_state: whether what is set, prepared or made temporary on it is there for its later
    transactions, and may be. owns_backend: whether one server process serves it alone and ends
    with it, so that its pid says who holds what. nested: whether its transactions are savepoints
    in one of somebody else's, whose end is not ours to say.

    Every method raises WriteError where the server or the driver refuses; the connection is
    then in a failed transaction or closed, and only `rollback`, `close` and `abort` make sense.
    """

    keeps_state: bool
    owns_backend: bool
    nested: bool

    @property
    def server_version(self) -> int:
        """As in server_version_num: 180001."""

    @property
    def greeted_by(self) -> int:
        """The process that the server's greeting named. A pooler, which shares out its server
        connections, names none of them: a cancel request has to reach whatever serves us then.
        """

    async def fetch(self, sql: str, *arguments: str | None) -> list[tuple[str | None, ...]]:
        """Run a query whose parameters and result columns are all of type text."""

    async def run(self, sql: str) -> int:
        """Run statements without parameters, in one message; return the row count of the last
        command tag, 0 where it has none.
        """

    async def execute(self, statement: Statement, parameters: Sequence[bytes | None]) -> int:
        """Run a statement with binary parameters; return the row count of its command tag."""

    async def ask(self, statement: Statement, parameters: Sequence[bytes | None]) -> str | None:
        """Run a query with binary parameters; return its one value, which is of type text."""

    async def copy(self, table: TableName, columns: Sequence[str], stream: Pieces) -> int:
        """COPY a binary stream into a table; return the row count of the command tag.

        The stream is encoded in a thread, each piece while the one before is sent.
        """

    async def begin(self, then: str = "") -> None:
        """Open a transaction, and run `then` in it: in one message, at the latest ahead of the
        transaction's first statement.
        """

    async def commit(self, first: str = "") -> None:
        """Run `first`, then commit, in one message.

        Raises WriteError where the server rolled back instead (its tag is read).
        """

    async def rollback(self) -> None:
        """Roll back; nothing happens outside a transaction."""

    async def close(self) -> None:
        """Close in order, within a limit."""

    def abort(self) -> None:
        """Cut the connection at once; what waits on it fails as if the network had."""


async def connect(
    driver: str, dsn: str, *, timeout_s: float = CONNECT_TIMEOUT_S, pooler: Pooler = "auto"
) -> Session:
    """Open a session. pooler: "auto" takes whatever shares out server connections for one that
    does so by transactions, which is safe for all.

    Raises ServerError where the server cannot be used, ConfigError for an unknown driver.
    """
    if driver not in _MODULES:
        raise ConfigError(f"driver {driver!r} is unknown; known: {', '.join(_MODULES)}")
    check_files(dsn)
    session: Session = await importlib.import_module(_MODULES[driver]).open_session(dsn, timeout_s)
    try:
        return await within(session, timeout_s, _settled(session, pooler))
    except WriteError as error:
        session.abort()
        await session.close()
        raise connect_error(shown(dsn), error.sqlstate, str(error)) from error


async def _settled(session: Session, pooler: Pooler) -> Session:
    from batchbench.drivers.guest import GuestSession  # it builds on what stands here

    match pooler:
        case "auto":
            if await session.run(_UNPOOLED_SQL.format(session.greeted_by)):
                return session
        case "session" | "none":
            session.owns_backend = pooler == "none"
            await session.run(SESSION_SQL)
            return session
    return GuestSession(session, owns_backend=False)


async def within(session: Session, limit_s: float, step: Awaitable[T]) -> T:
    """Await an answer; after the limit the connection is cut, which fails the step.

    Cancelling alone would not do: on a network that swallows everything the drivers wait for the
    cancellation's own answer.
    """
    watchdog = asyncio.get_running_loop().call_later(limit_s, session.abort)
    try:
        return await step
    finally:
        watchdog.cancel()


async def ahead(items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Items of an iterator that blocks: each is made in a thread, while the one before is used."""
    coming = asyncio.ensure_future(asyncio.to_thread(next, items, None))
    try:
        while (item := await coming) is not None:
            coming = asyncio.ensure_future(asyncio.to_thread(next, items, None))
            yield item
    finally:
        await asyncio.wait([coming])  # a thread cannot be cancelled


async def pieces_of(stream: Pieces) -> AsyncGenerator[bytes | bytearray | memoryview, None]:
    """The pieces of a stream; those that must be encoded first are so in a thread, ahead of use."""
    for piece in stream.ready():
        yield piece
    reading = stream.rest()
    if reading is not None:
        async with contextlib.aclosing(ahead(reading)) as rest:
            async for piece in rest:
                yield piece
    stream.sent()


async def read_table(session: Session, name: TableName) -> Table:
    """Read a table from the catalogue. Raises TableError where it is missing or no table."""
    rows = await session.fetch(TABLE_SQL, name.sql)
    found = catalogued(rows[0][0] if rows else None, name)
    if not found.details:
        return found.table()
    rows = await session.fetch(found.details_sql, found.oid)
    return found.table(rows[0][0] if rows else None)
