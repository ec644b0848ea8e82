"""psycopg 3: libpq underneath.

Rows do not pass psycopg's own dumpers: `PGconn.send_query_prepared` takes binary values as they
are, in one C call a statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import psycopg
from psycopg import generators, pq, waiting
from psycopg.abc import PQGen
from psycopg.pq.abc import PGresult

from batchbench.drivers import Pieces, Statement
from batchbench.drivers.address import connect_limit_s, shown, without_secrets
from batchbench.drivers.psycopg_copy import CopyThread
from batchbench.drivers.translate import broken_connection, connect_error, lent_error, write_error
from batchbench.errors import WriteError
from batchbench.table import TableName, quote

_CLOSE_TIMEOUT_S = 5.0
_UNDER_WAY_BYTES = 1 << 20
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COPY_IN)
_BINARY = 1
_IDLE = pq.TransactionStatus.IDLE

T = TypeVar("T")


async def open_session(dsn: str, timeout_s: float) -> PsycopgSession:
    """Connect. Raises ServerError where that fails."""
    limit_s = round(connect_limit_s(dsn, timeout_s))
    try:
        connection = await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=limit_s
        )
    except psycopg.Error as error:
        said = without_secrets(str(error), dsn)
        # Psycopg's error bears all parameters of the connection, the password too.
        raise connect_error(shown(dsn), _login_sqlstate(error), said) from None
    _let_more_be_under_way(connection.pgconn)
    return PsycopgSession(connection)


def _let_more_be_under_way(pgconn: pq.abc.PGconn) -> None:
    """On a Unix socket, whose buffer does not grow by itself: so that the server has rows to read
    while the thread that sends waits for the interpreter. The system may allow less.
    """
    with _socket_of(pgconn) as wire:
        if wire.family == socket.AF_UNIX:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _UNDER_WAY_BYTES)


def _socket_of(pgconn: pq.abc.PGconn) -> socket.socket:
    """Its socket under a descriptor of our own."""
    return socket.socket(fileno=os.dup(pgconn.socket))


def _login_sqlstate(error: psycopg.Error) -> str | None:
    if error.sqlstate is None and error.pgconn is not None and error.pgconn.needs_password:
        return "28P01"
    return error.sqlstate


async def borrow(
    connection: psycopg.AsyncConnection | psycopg.Connection, *, begin: bool
) -> PsycopgSession:
    """A session on somebody else's connection, which nobody else can use until it is let go: its
    lock is held. Raises ServerError where it cannot be used.

    begin: whether one that is not in autocommit begins its transaction.
    """
    _check_usable(connection)
    if begin and not connection.autocommit and connection.pgconn.transaction_status == _IDLE:
        await _begin_its_own(connection)
    if isinstance(connection, psycopg.AsyncConnection):
        await connection.lock.acquire()
        return PsycopgSession(connection, lock=connection.lock)
    if not connection.lock.acquire(blocking=False):
        raise lent_error("is busy with another statement")
    return PsycopgSession(_Awaited(connection.pgconn, connection.info), lock=connection.lock)


def _check_usable(connection: psycopg.AsyncConnection | psycopg.Connection) -> None:
    status = pq.TransactionStatus(connection.pgconn.transaction_status)
    if connection.closed or status == pq.TransactionStatus.UNKNOWN:
        raise lent_error("is closed")
    if connection.lock.locked() or status == pq.TransactionStatus.ACTIVE:
        raise lent_error("is busy with another statement")
    if status == pq.TransactionStatus.INERROR:
        raise lent_error("is in a failed transaction: roll it back first")
    if connection.pgconn.pipeline_status != pq.PipelineStatus.OFF:
        raise lent_error("is in pipeline mode: leave that first")


async def _begin_its_own(connection: psycopg.AsyncConnection | psycopg.Connection) -> None:
    """Let psycopg begin, in the way that the connection is set to."""
    try:
        if isinstance(connection, psycopg.AsyncConnection):
            await connection.execute("SELECT 1", prepare=False)
        else:
            await asyncio.to_thread(connection.execute, "SELECT 1", prepare=False)
    except psycopg.Error as error:
        raise lent_error(f"cannot begin a transaction: {_first_line(error)}") from error


@dataclass(frozen=True, slots=True)
class _Awaited:
    """A connection without async, to be waited for with it."""

    pgconn: pq.abc.PGconn
    info: psycopg.ConnectionInfo

    async def wait(self, generator: PQGen[T]) -> T:
        return await waiting.wait_async(generator, self.pgconn.socket)

    async def close(self) -> None:
        """Nothing: it is lent."""


class PsycopgSession:
    """See `batchbench.drivers.Session`. lock: held while the connection is lent."""

    def __init__(
        self,
        connection: psycopg.AsyncConnection[tuple[object, ...]] | _Awaited,
        lock: asyncio.Lock | threading.Lock | None = None,
    ) -> None:
        self._connection = connection
        self._lock = lock
        self.keeps_state = self.owns_backend = True
        self.nested = False
        self._prepared: dict[str, bytes] = {}
        self._thread: CopyThread | None = None
        self._held = ""  # how to begin a transaction whose first statement has not come yet
        # Behind a pooler sessions share backends: one's statement must not be another's.
        self._prefix = f"batchbench_{secrets.token_hex(6)}"

    @property
    def server_version(self) -> int:
        return self._connection.info.server_version

    @property
    def greeted_by(self) -> int:
        return self._pgconn.backend_pid

    async def fetch(self, sql: str, *arguments: str | None) -> list[tuple[str | None, ...]]:
        await self._send_held()
        values = [None if value is None else value.encode() for value in arguments]
        with _translated():
            self._pgconn.send_query_params(sql.encode(), values)
        result = await self._result()
        return [
            tuple(_text(result.get_value(row, column)) for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    async def run(self, sql: str) -> int:
        self._send(sql)
        return (await self._result()).command_tuples or 0

    def _send(self, sql: str) -> None:
        held, self._held = self._held, ""
        with _translated():
            self._pgconn.send_query(f"{held}{sql}".encode())

    async def _send_held(self) -> None:
        """Begin, ahead of a statement that cannot share its message."""
        if self._held:
            await self.run("")

    async def execute(self, statement: Statement, parameters: Sequence[bytes | None]) -> int:
        return (await self._answer(statement, parameters)).command_tuples or 0

    async def ask(self, statement: Statement, parameters: Sequence[bytes | None]) -> str | None:
        return _text((await self._answer(statement, parameters)).get_value(0, 0))

    async def _answer(self, statement: Statement, parameters: Sequence[bytes | None]) -> PGresult:
        await self._send_held()
        formats = [_BINARY] * len(parameters)
        with _translated():
            if statement.reused:
                name = await self._prepare(statement)
                self._pgconn.send_query_prepared(name, parameters, formats)
            else:
                self._pgconn.send_query_params(
                    statement.sql.encode(), parameters, statement.parameter_oids, formats
                )
        return await self._result()

    async def copy(self, table: TableName, columns: Sequence[str], stream: Pieces) -> int:
        names = ", ".join(quote(name) for name in columns)
        begin, self._held = self._held, ""
        sql = f"{begin}COPY {table.sql} ({names}) FROM STDIN (FORMAT binary)"
        if self._thread is None:
            self._thread = CopyThread()
        with _translated():
            try:
                results = await self._thread.copy(self._pgconn, sql.encode(), stream, self.abort)
            except ValueError as error:  # where the server has hung up
                self.abort()
                raise broken_connection("psycopg", "the end of a COPY was lost") from error
        return _good(results).command_tuples or 0

    async def begin(self, then: str = "") -> None:
        # Sent with the first statement, in one message where that is a COPY.
        self._held = f"BEGIN; {then}; " if then else "BEGIN; "

    async def commit(self, first: str = "") -> None:
        self._send(f"{first}; COMMIT" if first else "COMMIT")
        result = await self._result()
        if result.command_status != b"COMMIT":
            raise write_error("25P02", "the transaction had failed, so COMMIT rolled it back")

    async def rollback(self) -> None:
        self._held = ""
        if self.in_transaction:
            await self.run("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Whether one is open, failed or not."""
        return self._pgconn.transaction_status != _IDLE

    async def let_go(self) -> None:
        """Give a borrowed connection back."""
        self._end_thread()
        if self._lock is not None:
            self._lock.release()

    async def close(self) -> None:
        self._end_thread()
        with contextlib.suppress(TimeoutError, psycopg.Error):
            await asyncio.wait_for(self._connection.close(), _CLOSE_TIMEOUT_S)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.close()

    def abort(self) -> None:
        # Not finish(): it would close a descriptor that the event loop may be waiting on.
        with contextlib.suppress(OSError, psycopg.Error), _socket_of(self._pgconn) as wire:
            wire.shutdown(socket.SHUT_RDWR)

    @property
    def _pgconn(self) -> pq.abc.PGconn:
        return self._connection.pgconn

    async def _prepare(self, statement: Statement) -> bytes:
        name = self._prepared.get(statement.sql)
        if name is None:
            name = f"{self._prefix}_{len(self._prepared)}".encode()
            self._pgconn.send_prepare(name, statement.sql.encode(), statement.parameter_oids)
            await self._result()
            self._prepared[statement.sql] = name
        return name

    async def _result(self) -> PGresult:
        """The result of what was sent; of several statements, the first that failed or the last."""
        with _translated():
            results = await self._connection.wait(generators.execute(self._pgconn))
        return _good(results)


def _good(results: Sequence[PGresult]) -> PGresult:
    """The last of several. Raises WriteError for the first that failed."""
    for result in results:
        if result.status not in _GOOD:
            raise _from_result(result)
    return results[-1]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _from_result(result: PGresult) -> WriteError:
    def said(what: pq.DiagnosticField) -> str | None:
        return _text(result.error_field(what))

    field = pq.DiagnosticField
    return write_error(
        said(field.SQLSTATE) or "",
        said(field.MESSAGE_PRIMARY),
        schema=said(field.SCHEMA_NAME),
        table=said(field.TABLE_NAME),
        column=said(field.COLUMN_NAME),
        constraint=said(field.CONSTRAINT_NAME),
        context=said(field.CONTEXT),
    )


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise broken_connection("psycopg", _first_line(error)) from error
        raise write_error(
            error.sqlstate,
            error.diag.message_primary,
            schema=error.diag.schema_name,
            table=error.diag.table_name,
            column=error.diag.column_name,
            constraint=error.diag.constraint_name,
            context=error.diag.context,
        ) from None  # its text may hold row values
    except OSError as error:  # the event loop on a socket that is gone
        raise broken_connection("psycopg", type(error).__name__) from error


def _first_line(error: psycopg.Error) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
