"""The listening side of the proxy: `Proxy` and `open_proxy`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import quote

from batchbench.drivers.address import parameters
from tests.proxy.faults import Armed, Fault, Fired, Kind, Passing
from tests.proxy.link import (
    READ_LIMIT_BYTES,
    Address,
    Link,
    close,
    is_cancel_request,
    set_reset,
    start_up,
)
from tests.proxy.messages import (
    Bind,
    CopyData,
    Execute,
    Message,
    Parse,
    Query,
    Record,
    error_response,
)

_R = TypeVar("_R", Parse, Bind, Execute, Query, CopyData)


@dataclass(frozen=True, slots=True)
class _Refusal:
    """How connections are turned down. left: how many more, None for all until released."""

    left: int | None
    sqlstate: str
    silent: bool


@dataclass(slots=True)
class Proxy:
    """A running proxy. `dsn` leads through it; `records` grows in the order of arrival.

    connections: how many were accepted so far, cancel requests and refused ones included.
    fired: the faults that happened, in order. refused: connections that `refuse` turned down.
    unreachable: connections that ended because no server was there; an error of the test unless
    `tolerate_outages`.
    """

    dsn: str
    tolerate_outages: bool = False
    records: list[Record] = field(default_factory=list)
    connections: int = 0
    fired: list[Fired] = field(default_factory=list)
    refused: int = 0
    unreachable: int = 0
    _address: Address = ""
    _armed: list[Armed] = field(default_factory=list)
    _links: dict[int, Link] = field(default_factory=dict)
    _refusal: _Refusal | None = None
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _noted: asyncio.Event = field(default_factory=asyncio.Event)

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

    @property
    def backend_pids(self) -> dict[int, int]:
        """Of the open connections: number -> pid of the backend, 0 where it is not known yet."""
        return {number: link.backend_pid for number, link in self._links.items()}

    def arm(self, *faults: Fault) -> None:
        """Have these faults wait for their triggers, which count from now on."""
        self._armed += map(Armed, faults)

    def disarm(self) -> None:
        """Forget all faults that wait. What has happened already stays so, see `release`."""
        self._armed.clear()

    def strike(self, fault: Fault) -> None:
        """Commit a fault on all open connections now, whatever its trigger. Calls nobody back."""
        for link in list(self._links.values()):
            link.apply(fault)

    def refuse(self, count: int | None = None, *, sqlstate: str = "", silent: bool = False) -> None:
        """Turn down the next `count` connections, or all until `release`. Cancel requests pass.

        By RST; with `sqlstate` by an error of the server; `silent`: accepted, never answered.
        """
        self._refusal = _Refusal(count, sqlstate, silent)

    def release(self) -> None:
        """Let stalled traffic go on, end connections whose traffic was lost, refuse no more."""
        self._refusal = None
        self._released.set()
        self._released = asyncio.Event()
        for link in list(self._links.values()):
            link.release()

    def lead_to(self, dsn: str) -> None:
        """Lead new connections to another server; database and user stay those of `self.dsn`."""
        self._address = _address(parameters(dsn))

    async def until_fired(self, count: int = 1, limit_s: float = 10.0) -> list[Fired]:
        """Wait until `count` faults have happened in all. Raises TimeoutError after `limit_s`."""
        async with asyncio.timeout(limit_s):
            while len(self.fired) < count:
                await self._noted.wait()
        return list(self.fired)

    def due(self, passing: Passing) -> list[tuple[Armed, int]]:
        """For links: the faults to fire at a message, with the counts of their matches.

        All that only call, and the first of the others; a second one waits for its next match.
        """
        due = [armed for armed in self._armed if armed.due(passing)]
        calls = [armed for armed in due if armed.fault.kind is Kind.CALL]
        others = [armed for armed in due if armed.fault.kind is not Kind.CALL]
        chosen = calls + others[:1]
        for armed in chosen:
            armed.fired += 1
        return [(armed, armed.seen) for armed in chosen]

    def note(self, fired: Fired) -> None:
        """For links: a fault has happened."""
        self.fired.append(fired)
        self._noted.set()
        self._noted = asyncio.Event()

    async def serve(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        """For `open_proxy`: one connection, from its first byte to its end."""
        self.connections += 1
        number = self.connections
        first = await start_up(client, back)
        if first is None or await self._turned_down(first, client, back):
            return
        link = Link(self, number, client, back, first)
        try:
            await link.connect(self._address)
        except OSError:
            self.unreachable += 1
            set_reset(back)
            if self.tolerate_outages:
                return
            raise
        self._links[number] = link
        try:
            await link.serve()
        finally:
            del self._links[number]

    async def _turned_down(
        self, first: Message, client: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> bool:
        refusal = self._refusal
        if refusal is None or is_cancel_request(first):
            return False
        if refusal.left is not None:
            left = refusal.left - 1
            self._refusal = _Refusal(left, refusal.sqlstate, refusal.silent) if left else None
        self.refused += 1
        if refusal.silent:
            await _until_either(client.read(), self._released.wait())
        elif refusal.sqlstate:
            back.write(error_response(refusal.sqlstate, "refused by the tests' proxy").encode())
        else:
            set_reset(back)
        return True

    def _of(self, kind: type[_R]) -> list[_R]:
        return [record for record in self.records if isinstance(record, kind)]


@asynccontextmanager
async def open_proxy(
    dsn: str, *faults: Fault, tolerate_outages: bool = False
) -> AsyncIterator[Proxy]:
    """A proxy on 127.0.0.1 in front of the server that the DSN names (TCP or Unix socket).

    Each connection finds the server anew, so it may be restarted. Without `tolerate_outages`, a
    connection that finds none is an error of the test; with it, the client gets a RST.
    Ends its connections at the end, and raises what went wrong on them or in callbacks.
    """
    known = parameters(dsn)
    proxy = Proxy("", tolerate_outages, _address=_address(known))
    proxy.arm(*faults)
    tasks: dict[asyncio.Task[None], None] = {}
    failures: list[Exception] = []

    async def accept(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks[task] = None
        try:
            await proxy.serve(client, back)
        except asyncio.CancelledError:
            pass  # the end of the context; asyncio's streams would log it as an error
        except Exception as error:  # noqa: BLE001 - raised to the test at the end
            failures.append(error)
        finally:
            with suppress(asyncio.CancelledError):  # the same
                await close(back)
            del tasks[task]

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, limit=READ_LIMIT_BYTES)
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


async def _until_either(*waits: Coroutine[object, object, object]) -> None:
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        with suppress(ConnectionError):
            await asyncio.gather(*tasks, return_exceptions=True)


def _address(known: dict[str, str]) -> Address:
    host, port = known.get("hostaddr") or known.get("host", "localhost"), known.get("port", "5432")
    return f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, int(port))


def _dsn_through(known: dict[str, str], port: int) -> str:
    # gssencmode stays out, asyncpg would take it for a server setting; both kinds of encryption
    # are declined in `start_up` anyway.
    login = quote(known.get("user", "postgres"), safe="")
    if "password" in known:
        login += ":" + quote(known["password"], safe="")
    database = quote(known.get("dbname", ""), safe="")
    return f"postgresql://{login}@127.0.0.1:{port}/{database}?sslmode=disable"
