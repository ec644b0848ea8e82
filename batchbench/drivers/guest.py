"""Sessions on a connection that is not ours alone: nothing of ours is left behind on it.

Through a pooler each transaction may be served by another server connection, and the next
transaction there is somebody else's. So settings are SET LOCAL, statements have no name, and no
statement runs outside a transaction: asyncpg sends it in two messages, between which the server
connection could change hands.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from batchbench.drivers import SESSION_SETTINGS, Pieces, Session, Statement
from batchbench.errors import WriteError
from batchbench.table import TableName

_LOCAL_SQL = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in SESSION_SETTINGS.items())


class GuestSession:
    """See `batchbench.drivers.Session`. What needs a transaction and has none gets its own."""

    def __init__(self, session: Session, *, owns_backend: bool) -> None:
        self.keeps_state = False
        self.owns_backend = owns_backend
        self._session = session
        self._open = False

    @property
    def server_version(self) -> int:
        return self._session.server_version

    @property
    def greeted_by(self) -> int:
        return self._session.greeted_by

    async def fetch(self, sql: str, *arguments: str | None) -> list[tuple[str | None, ...]]:
        async with self._inside():
            return await self._session.fetch(sql, *arguments)

    async def run(self, sql: str) -> int:
        if sql.isascii():  # one message: it needs no transaction, and may be one itself
            return await self._session.run(sql)
        async with self._inside():
            return await self._session.run(sql)

    async def execute(self, statement: Statement, parameters: Sequence[bytes | None]) -> int:
        async with self._inside():
            return await self._session.execute(replace(statement, reused=False), parameters)

    async def copy(self, table: TableName, columns: Sequence[str], stream: Pieces) -> int:
        async with self._inside():
            return await self._session.copy(table, columns, stream)

    async def begin(self, then: str = "") -> None:
        self._open = True
        await self._session.begin(f"{_LOCAL_SQL}; {then}" if then else _LOCAL_SQL)

    async def commit(self, first: str = "") -> None:
        await self._session.commit(first)
        self._open = False

    async def rollback(self) -> None:
        self._open = False
        await self._session.rollback()

    async def close(self) -> None:
        await self._session.close()

    def abort(self) -> None:
        self._session.abort()

    @contextlib.asynccontextmanager
    async def _inside(self) -> AsyncGenerator[None, None]:
        """A transaction around what is asked for outside of one."""
        if self._open:
            yield
            return
        await self.begin()
        try:
            yield
        except WriteError:
            with contextlib.suppress(WriteError):  # the first one says what is wrong
                await self.rollback()
            raise
        await self.commit()
