"""asyncpg: its own protocol implementation.

Rows do not pass asyncpg's own codecs: each parameter type gets a codec that hands bytes through,
which also gives asyncpg ready-made arrays (its set_type_codec refuses array types;
ConnectionSettings.add_python_codec, which it calls, does not).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from batchbench.drivers import Pieces, Statement, pieces_of
from batchbench.drivers.address import (
    Attempt,
    attempts,
    connect_limit_s,
    shown,
    without_secrets,
)
from batchbench.drivers.translate import broken_connection, connect_error, lent_error, write_error
from batchbench.errors import WriteError
from batchbench.table import TableName

_CLOSE_TIMEOUT_S = 5.0
_TEXT_OID = 25
_UNNAMED = ""
_COPY_MESSAGE_BYTES = 1 << 19


async def open_session(dsn: str, timeout_s: float) -> AsyncpgSession:
    """Connect to the first address that will have us, as libpq does. Raises ServerError."""
    limit_s = connect_limit_s(dsn, timeout_s)
    failures: list[_Refusal] = []
    for attempt in attempts(dsn):
        outcome = await _try(attempt, limit_s)
        if isinstance(outcome, AsyncpgSession):
            return outcome
        failures.append(outcome)
        await asyncio.sleep(0)  # what asyncpg gave up is closed at the loop's next turn
    last = failures[-1]
    said = last.said
    if len(failures) > 1:
        said = "; ".join(f"{failure.where}: {failure.said}" for failure in failures)
    raise connect_error(shown(dsn), last.sqlstate, without_secrets(said, dsn)) from last.error


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why an address was of no use."""

    where: str
    sqlstate: str | None
    said: str
    error: Exception


async def _try(attempt: Attempt, limit_s: float) -> AsyncpgSession | _Refusal:
    tls = {"ssl": True} if attempt.system_roots else {}
    try:
        connection = await asyncpg.connect(
            attempt.uri, timeout=limit_s, statement_cache_size=0, **tls
        )
    except asyncpg.PostgresError as error:
        return _Refusal(attempt.where, error.sqlstate, str(error), error)
    except (
        OSError,
        TimeoutError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        ValueError,
    ) as error:
        said = str(error) or f"no answer within {limit_s:.0f} s"
        return _Refusal(attempt.where, None, said, error)
    return AsyncpgSession(connection)


async def borrow(connection: Any) -> AsyncpgSession:
    """A session on somebody else's connection. Nobody else may use it until it is let go: its
    codecs are ours till then. Raises ServerError where it cannot be used.
    """
    if connection.is_closed():
        raise lent_error("is closed")
    if any(_is_ours(listener) for listener in connection._termination_listeners):
        raise lent_error("is busy with another load")
    try:
        await connection.execute("SELECT")
    except asyncpg.InterfaceError:
        raise lent_error("is busy with another statement") from None
    except asyncpg.InFailedSQLTransactionError:
        raise lent_error("is in a failed transaction: roll it back first") from None
    except (OSError, asyncpg.PostgresError) as error:
        raise lent_error(f"cannot be used: {type(error).__name__}") from error
    found = [(codecs, dict(codecs)) for codecs in _codecs(connection)]
    return AsyncpgSession(connection, found)


def _is_ours(listener: Any) -> bool:
    return isinstance(getattr(listener.cb, "__self__", None), AsyncpgSession)


def _codecs(connection: Any) -> list[dict[Any, Any]]:
    """Where a connection keeps its codecs: those set by its user, and those that follow from them.
    asyncpg has no way to read them, or to put one back (tests/test_lending.py).
    """
    settings = gc.get_referents(connection.get_settings())
    for held in settings:
        if type(held).__name__ == "DataCodecConfig":
            return [codecs for codecs in gc.get_referents(held) if isinstance(codecs, dict)]
    raise lent_error("keeps its codecs where this version of batchbench cannot: hand over a DSN")


class AsyncpgSession:
    """See `batchbench.drivers.Session`. found: the codecs of a connection that is lent, each table
    with what was in it.
    """

    def __init__(
        self, connection: Any, found: Sequence[tuple[dict[Any, Any], dict[Any, Any]]] = ()
    ) -> None:
        self._found = found
        self.keeps_state = self.owns_backend = True
        self.nested = False
        self._connection = connection
        self._transport = connection._transport
        self._protocol = connection._protocol
        self._gone = asyncio.Event()
        connection.add_termination_listener(self._notice_the_end)
        self._prepared: dict[str, Any] = {}
        self._raw_oids: set[int] = set()
        settings = connection.get_settings()
        settings.add_python_codec(
            _TEXT_OID, "text", "pg_catalog", [], "scalar", _encode_text, bytes.decode, "binary"
        )

    @property
    def server_version(self) -> int:
        version = self._connection.get_server_version()
        return int(version.major * 10_000 + version.micro)

    @property
    def greeted_by(self) -> int:
        return int(self._connection.get_server_pid())

    async def fetch(self, sql: str, *arguments: str | None) -> list[tuple[str | None, ...]]:
        with _translated(self._connection):
            prepared = await self._connection.prepare(sql, name=_UNNAMED)
            return [tuple(row) for row in await prepared.fetch(*arguments)]

    async def run(self, sql: str) -> int:
        with _translated(self._connection):
            return _tag_rows(await self._connection.execute(sql))

    async def execute(self, statement: Statement, parameters: Sequence[bytes | None]) -> int:
        with _translated(self._connection):
            prepared = await self._prepare(statement)
            await prepared.fetch(*parameters)
            return _tag_rows(prepared.get_statusmsg())

    async def ask(self, statement: Statement, parameters: Sequence[bytes | None]) -> str | None:
        with _translated(self._connection):
            value: str | None = await (await self._prepare(statement)).fetchval(*parameters)
            return value

    async def copy(self, table: TableName, columns: Sequence[str], stream: Pieces) -> int:
        with _translated(self._connection):
            async with contextlib.aclosing(self._messages(stream)) as messages:
                try:
                    tag = await self._connection.copy_to_table(
                        table.table,
                        schema_name=table.schema,
                        columns=list(columns),
                        source=messages,
                        format="binary",
                    )
                except asyncpg.InternalClientError:
                    self._take_forgotten()
                    raise
        return _tag_rows(tag)

    async def _messages(self, stream: Pieces) -> AsyncGenerator[memoryview, None]:
        """Cut a stream into messages of bounded size, so that asyncpg's flow control can act.

        Ends early where the connection has ended: the COPY's own answer then says so.
        """
        async with contextlib.aclosing(pieces_of(stream)) as pieces:
            async for part in pieces:
                view = memoryview(part)
                for start in range(0, len(view), _COPY_MESSAGE_BYTES):
                    if self._gone.is_set():
                        return
                    yield view[start : start + _COPY_MESSAGE_BYTES]
                    await asyncio.sleep(0)

    async def begin(self, then: str = "") -> None:
        await self.run(f"BEGIN; {then}" if then else "BEGIN")

    async def commit(self, first: str = "") -> None:
        with _translated(self._connection):
            tag = await self._connection.execute(f"{first}; COMMIT" if first else "COMMIT")
        if tag != "COMMIT":
            raise write_error("25P02", "the transaction had failed, so COMMIT rolled it back")

    async def rollback(self) -> None:
        if self.in_transaction:
            await self.run("ROLLBACK")

    @property
    def in_transaction(self) -> bool:
        """Whether one is open, failed or not. Raises WriteError where the connection is gone."""
        if self._connection.is_closed():  # asyncpg would answer no
            raise broken_connection("asyncpg", "it is closed")
        with _translated(self._connection):
            return bool(self._connection.is_in_transaction())

    async def let_go(self) -> None:
        """Give a borrowed connection back, its codecs as they were."""
        self._connection.remove_termination_listener(self._notice_the_end)
        for codecs, found in self._found:
            codecs.clear()
            codecs.update(found)

    async def close(self) -> None:
        with contextlib.suppress(TimeoutError, OSError, asyncpg.PostgresError):
            # Where it is closing, asyncpg would ask the server to cancel first; where it was closed
            # before it was ours, nobody says so any more (tests/test_connections.py).
            if self._transport.is_closing() and not self._connection.is_closed():
                await asyncio.wait_for(self._gone.wait(), _CLOSE_TIMEOUT_S)
            await self._connection.close(timeout=_CLOSE_TIMEOUT_S)

    def abort(self) -> None:
        # Not terminate(): asyncpg would then forget the future of a COPY under way, and the event
        # loop complain of it (tests/test_connections.py).
        self._transport.abort()

    def _notice_the_end(self, _: object) -> None:
        """The connection is lost. A COPY that waits for the server to read on would wait for ever:
        neither asyncio nor asyncpg wakes it.
        """
        self._gone.set()
        self._protocol.resume_writing()

    def _take_forgotten(self) -> None:
        """Where the server's last word came between two statements, asyncpg cannot begin a COPY and
        forgets the future of its answer: the event loop would complain of it. Nothing but the
        protocol holds that future (tests/test_faults_copy.py).
        """
        for held in gc.get_referents(self._protocol):
            if isinstance(held, asyncio.Future):
                held.add_done_callback(lambda future: future.cancelled() or future.exception())

    async def _prepare(self, statement: Statement) -> Any:
        prepared = self._prepared.get(statement.sql)
        if prepared is None:
            self._hand_through(statement.parameter_oids)
            name = None if statement.reused else _UNNAMED  # None: asyncpg gives it one
            prepared = await self._connection.prepare(statement.sql, name=name)
            _check_types(prepared, statement)
            if statement.reused:
                self._prepared[statement.sql] = prepared
        return prepared

    def _hand_through(self, oids: Sequence[int]) -> None:
        """Let parameters of these types pass as bytes. asyncpg forgets types it learnt then."""
        for oid in set(oids) - self._raw_oids - {_TEXT_OID}:
            self._connection.get_settings().add_python_codec(
                oid, str(oid), "pg_catalog", [], "scalar", _as_is, _as_is, "binary"
            )
            self._raw_oids.add(oid)


def _check_types(prepared: Any, statement: Statement) -> None:
    """Where the server inferred another type, the table has changed: our bytes would be read as
    something else, without an error where the widths are equal.
    """
    inferred = [parameter.oid for parameter in prepared.get_parameters()]
    expected = statement.parameter_oids
    if any(a != b for a, b in zip(inferred, expected, strict=True) if b):
        raise write_error("0A000", "the table's column types have changed")


def _as_is(value: bytes) -> bytes:
    return value


def _encode_text(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _tag_rows(tag: str) -> int:
    """The row count of a command tag: "INSERT 0 5" -> 5, "COPY 5" -> 5, "SET" -> 0."""
    count = tag.rsplit(" ", 1)[-1]
    return int(count) if count.isdigit() else 0


def _from_server(error: asyncpg.PostgresError) -> WriteError:
    fields = error.as_dict()
    return write_error(
        error.sqlstate or "",
        fields.get("message"),
        schema=fields.get("schema_name"),
        table=fields.get("table_name"),
        column=fields.get("column_name"),
        constraint=fields.get("constraint_name"),
        context=fields.get("context"),
    )


@contextlib.contextmanager
def _translated(connection: Any) -> Iterator[None]:
    try:
        yield
    except asyncpg.ConnectionDoesNotExistError as error:  # asyncpg's own, not the server's
        if isinstance(error.__cause__, asyncpg.PostgresError):  # its last word
            raise _from_server(error.__cause__) from None
        raise broken_connection("asyncpg", "it was closed in mid-operation") from error
    except asyncpg.PostgresError as error:
        raise _from_server(error) from None  # its text may hold row values
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The last is what a protocol that was cut in mid-message says of itself.
        raise broken_connection("asyncpg", type(error).__name__) from error
    except (AttributeError, TypeError) as error:  # asyncpg trips over a transport that is gone
        if connection.is_closed():
            raise broken_connection("asyncpg", type(error).__name__) from error
        raise
