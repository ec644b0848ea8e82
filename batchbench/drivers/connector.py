"""Where a load's connections come from: a connection string, or somebody's connection or pool."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from batchbench.drivers import CONNECT_TIMEOUT_S, Pooler, Session, connect
from batchbench.errors import ConfigError, ServerError

Dsn = str | Callable[[], str | Awaitable[str]]
"""A connection string, or what gives one: it is asked at every connect, for tokens that expire.
A function without async is called in a thread.
"""


class Connector(Protocol):
    """Gives sessions, to be closed by whoever asked for them."""

    @property
    def driver(self) -> str:
        """Of its connections."""

    @property
    def session_limit(self) -> int | None:
        """Most sessions at one time; None: as many as the server takes."""

    async def open(self) -> Session:
        """Raises ServerError, or ConfigError where asking again cannot help."""


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """Connections of our own."""

    driver: str
    dsn: Dsn
    pooler: Pooler

    @property
    def session_limit(self) -> None:
        return None

    async def open(self) -> Session:
        return await connect(self.driver, await _asked(self.dsn), pooler=self.pooler)


async def connector_for(dsn: object, connection: object, driver: str, pooler: Pooler) -> Connector:
    """Where connections come from. dsn: a `Dsn`, or a pool. driver, pooler: for our own.

    Raises ConfigError unless there is either a dsn or a connection, or for what is neither;
    ServerError where a connection cannot be used.
    """
    if (dsn is None) == (connection is None):
        raise ConfigError("name either a connection string or connection=, and not both")
    if isinstance(dsn, str) or callable(dsn):
        return Address(driver, dsn, pooler)
    from batchbench.drivers.lending import lent  # it imports both drivers: 3 MB and 20 ms

    return await lent(connection if dsn is None else dsn)


async def _asked(dsn: Dsn) -> str:
    """The connection string as it is now. What went wrong may hold the secret: it is not repeated.

    Raises ServerError where there is none, ConfigError where it is no text.
    """
    if isinstance(dsn, str):
        return dsn
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            answer = dsn() if inspect.iscoroutinefunction(dsn) else await asyncio.to_thread(dsn)
            text = await answer if inspect.isawaitable(answer) else answer
    except Exception as error:  # noqa: BLE001 - theirs: whatever it is, there is no connection
        raise ServerError(
            "cannot connect to PostgreSQL: the function that gives the connection string raised"
            f" {type(error).__name__}"
        ) from None
    if not isinstance(text, str):
        raise ConfigError(
            "the function that gives the connection string gave a value of type"
            f" {type(text).__name__}: it has to return a str"
        )
    return text
