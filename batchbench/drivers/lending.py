"""Connections and pools of somebody else: used as a guest, and given back as they were.

No driver's object is asked for more than its driver documents, but for what `borrow` in the two
session modules says. SQLAlchemy and psycopg_pool need not be installed: their objects are known by
what they can do.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import psycopg

from batchbench.config import without_passwords
from batchbench.drivers import (
    CONNECT_TIMEOUT_S,
    SESSION_SETTINGS,
    Session,
    asyncpg_session,
    psycopg_session,
    within,
)
from batchbench.drivers.asyncpg_session import AsyncpgSession
from batchbench.drivers.guest import GuestSession, NestedSession
from batchbench.drivers.psycopg_session import PsycopgSession
from batchbench.drivers.translate import lent_error
from batchbench.errors import ConfigError, ServerError, WriteError
from batchbench.table import literal


@dataclass(frozen=True, slots=True, repr=False)
class Lent:
    """One connection. In its open transaction ours are savepoints."""

    connection: Any

    @property
    def driver(self) -> str:
        return "psycopg" if _is_psycopg(self.connection) else "asyncpg"

    @property
    def session_limit(self) -> int:
        return 1

    async def open(self) -> Session:
        return await _guest(await _borrow(self.connection, begin=True))


@dataclass(frozen=True, slots=True, repr=False)
class LentPool:
    """A pool of connections, which are in nobody's transaction. driver: of the pool's connections.

    take, give_back: get a connection within the seconds given, and let it go.
    """

    driver: str
    session_limit: int
    take: Callable[[float], Awaitable[Any]]
    give_back: Callable[[Any], Awaitable[None]]

    async def open(self) -> Session:
        try:
            connection = await self.take(CONNECT_TIMEOUT_S)
        except (psycopg.Error, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            said = without_passwords(" ".join(str(error).split())) or "no connection became free"
            raise ServerError(f"the pool gave no connection: {said}") from None

        async def back() -> None:
            await self.give_back(connection)

        try:
            return await _guest(await _borrow(connection, begin=False), back)
        except ServerError as error:  # the pool puts another in its place
            await back()
            raise ServerError(f"of the pool's connections, {error}") from error
        except BaseException:
            await back()
            raise


async def lent(given: Any) -> Lent | LentPool:
    """How to open sessions on a connection or pool. Raises ConfigError for anything else."""
    if isinstance(given, asyncpg.Pool):
        return LentPool("asyncpg", given.get_max_size(), _asyncpg_take(given), given.release)
    if hasattr(given, "getconn") and inspect.iscoroutinefunction(given.putconn):
        return LentPool("psycopg", given.max_size, given.getconn, given.putconn)
    connection = await _unwrapped(given)
    if isinstance(connection, asyncpg.pool.PoolConnectionProxy):
        connection = connection._con
        if connection is None:
            raise lent_error("was given back to its pool: take another")
    if not (isinstance(connection, asyncpg.Connection) or _is_psycopg(connection)):
        raise ConfigError(
            f"a {type(given).__module__}.{type(given).__qualname__} is no connection or pool of"
            " asyncpg or psycopg, nor SQLAlchemy's connection over one of them"
        )
    return Lent(connection)


def _asyncpg_take(pool: Any) -> Callable[[float], Awaitable[Any]]:
    async def take(timeout_s: float) -> Any:
        return await pool.acquire(timeout=timeout_s)

    return take


def _is_psycopg(connection: object) -> bool:
    return isinstance(connection, psycopg.AsyncConnection | psycopg.Connection)


async def _unwrapped(given: Any) -> Any:
    """The driver's connection under one of SQLAlchemy's, whose transaction has then begun: it
    begins it with the first statement that it sends itself.
    """
    if hasattr(given, "get_raw_connection"):  # its AsyncConnection
        await given.exec_driver_sql("SELECT 1")
        given = await given.get_raw_connection()
    elif hasattr(given, "exec_driver_sql"):  # its Connection
        given.exec_driver_sql("SELECT 1")
        given = given.connection
    adapted = getattr(given, "dbapi_connection", None) or given
    if not hasattr(adapted, "driver_connection"):
        return adapted
    if getattr(adapted, "_transaction", given) is None and not adapted.autocommit:
        raise lent_error(
            "is in a transaction that SQLAlchemy has not begun yet: hand over its AsyncConnection,"
            " or run a statement first"
        )
    return adapted.driver_connection


async def _borrow(connection: Any, *, begin: bool) -> AsyncpgSession | PsycopgSession:
    """begin: whether a psycopg connection that is not in autocommit begins its transaction, as it
    would with its owner's next statement.
    """
    if not _is_psycopg(connection):
        return await asyncpg_session.borrow(getattr(connection, "_con", connection))
    return await psycopg_session.borrow(connection, begin=begin)


async def _guest(
    session: AsyncpgSession | PsycopgSession, give_back: Callable[[], Awaitable[None]] | None = None
) -> Session:
    try:
        return await within(session, CONNECT_TIMEOUT_S, _looked_at(session, give_back))
    except WriteError as error:
        await session.let_go()
        raise lent_error(f"cannot be used: {error}") from error
    except BaseException:
        await session.let_go()
        raise


async def _looked_at(
    session: AsyncpgSession | PsycopgSession, give_back: Callable[[], Awaitable[None]] | None
) -> Session:
    own = bool(
        await session.run(f"SELECT WHERE pg_catalog.pg_backend_pid() = {session.greeted_by}")
    )

    async def let_go() -> None:
        await session.let_go()
        if give_back is not None:
            await give_back()

    if not session.in_transaction:
        return GuestSession(session, owns_backend=own, let_go=let_go)
    names = ", ".join(f"pg_catalog.current_setting('{name}')" for name in SESSION_SETTINGS)
    found = zip(SESSION_SETTINGS, (await session.fetch(f"SELECT {names}"))[0], strict=True)
    restore = "; ".join(f"SET LOCAL {name} = {literal(value or '')}" for name, value in found)
    return NestedSession(session, owns_backend=own, let_go=let_go, restore_sql=restore)
