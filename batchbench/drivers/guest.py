"""Sessions on a connection that is not ours alone: nothing of ours is left behind on it.

Through a pooler each transaction may be served by another server connection, and the next
transaction there is somebody else's. So settings are SET LOCAL, statements have no name, and no
statement runs outside a transaction: asyncpg sends it in two messages, between which the server
connection could change hands.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import replace

from batchbench.drivers import SESSION_SETTINGS, Pieces, Session, Statement, within
from batchbench.errors import WriteError
from batchbench.table import TableName

LetGo = Callable[[], Awaitable[None]]

_CLOSE_TIMEOUT_S = 5.0
_SAVEPOINT = "batchbench_chunk"
_STAGES_SQL = """
SELECT string_agg(format('pg_temp.%I', relname), ', ') FROM pg_catalog.pg_class
WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relkind = 'r'
AND starts_with(relname, 'batchbench_')
"""
_LOCAL_SQL = "; ".join(f"SET LOCAL {name} = '{value}'" for name, value in SESSION_SETTINGS.items())


class GuestSession:
    """See `batchbench.drivers.Session`. What needs a transaction and has none gets its own."""

    def __init__(
        self, session: Session, *, owns_backend: bool, let_go: LetGo | None = None
    ) -> None:
        """let_go: what gives the connection back instead of closing it."""
        self.keeps_state = self.nested = False
        self.owns_backend = owns_backend
        self._session = session
        self._let_go = let_go
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

    async def ask(self, statement: Statement, parameters: Sequence[bytes | None]) -> str | None:
        async with self._inside():
            return await self._session.ask(replace(statement, reused=False), parameters)

    async def copy(self, table: TableName, columns: Sequence[str], stream: Pieces) -> int:
        async with self._inside():
            return await self._session.copy(table, columns, stream)

    async def begin(self, then: str = "") -> None:
        self._open = True
        await self._session.begin(_joined(_LOCAL_SQL, then))

    async def commit(self, first: str = "") -> None:
        await self._session.commit(first)
        self._open = False

    async def rollback(self) -> None:
        self._open = False
        await self._session.rollback()

    async def close(self) -> None:
        if self._let_go is None:
            await self._session.close()
            return
        try:
            if self._open:
                await within(self._session, _CLOSE_TIMEOUT_S, self.rollback())
        except WriteError:
            self.abort()
        finally:
            await self._let_go()

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


class NestedSession(GuestSession):
    """A session inside somebody else's open transaction, which it neither commits nor rolls back.

    Settings are SET LOCAL here too, and are put back before a savepoint is released; the temporary
    tables go when it is closed.
    """

    def __init__(
        self, session: Session, *, owns_backend: bool, let_go: LetGo, restore_sql: str
    ) -> None:
        """restore_sql: what makes the settings what they were."""
        super().__init__(session, owns_backend=owns_backend, let_go=let_go)
        self.nested = True
        self._restore_sql = restore_sql

    async def begin(self, then: str = "") -> None:
        self._open = True
        await self._session.run(_joined(f"SAVEPOINT {_SAVEPOINT}", _LOCAL_SQL, then))

    async def commit(self, first: str = "") -> None:
        released = f"RELEASE SAVEPOINT {_SAVEPOINT}"
        await self._session.run(_joined(first, self._restore_sql, released))
        self._open = False

    async def rollback(self) -> None:
        if self._open:
            self._open = False
            await self._session.run(
                f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}"
            )

    async def close(self) -> None:
        try:
            await within(self._session, _CLOSE_TIMEOUT_S, self._tidy())
        except WriteError:
            self.abort()  # what cannot be put back must not be committed
        finally:
            await super().close()

    async def _tidy(self) -> None:
        await self.rollback()
        stages = (await self.fetch(_STAGES_SQL))[0][0]
        if stages:
            await self._session.run(f"DROP TABLE {stages}")


def _joined(*statements: str) -> str:
    return "; ".join(filter(None, statements))
