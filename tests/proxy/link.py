"""One client's connection and the one to the server that belongs to it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from tests.proxy.faults import Armed, Fault, Fired, Kind, Passing, When
from tests.proxy.messages import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    SSL_REQUEST,
    Bind,
    Execute,
    Message,
    Parse,
    Query,
    Record,
    Side,
    command_tag,
    decode,
)

if TYPE_CHECKING:
    from tests.proxy.listener import Proxy

READ_LIMIT_BYTES = 1 << 20
Address: TypeAlias = str | tuple[str, int]
"""A Unix socket's path, or host and port."""


@dataclass(slots=True)
class _Lost:
    """A message whose answer is to be lost. groups_before: ReadyForQuery of earlier ones first."""

    armed: Armed
    nth: int
    is_commit: bool
    groups_before: int
    started: bool = False
    tag: str = ""


@dataclass(slots=True)
class Link:
    """Forwards in both directions; whole messages, one at a time a direction."""

    proxy: Proxy
    connection: int
    client: asyncio.StreamReader
    back: asyncio.StreamWriter
    first: Message
    backend_pid: int = 0
    _server: asyncio.StreamReader | None = None
    _out: asyncio.StreamWriter | None = None
    _statements: dict[str, str] = field(default_factory=dict)
    _portals: dict[str, str] = field(default_factory=dict)
    _busy: bool = False
    _held: set[Side] = field(default_factory=set)
    _swallowed: set[Side] = field(default_factory=set)
    _deaf: set[Side] = field(default_factory=set)  # whose end the other side does not learn of
    _lost: _Lost | None = None
    _ready_due: int = 0  # how many ReadyForQuery the server still owes
    _by_execute: bool = False  # the last statement was run by the extended protocol
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def connect(self, address: Address) -> None:
        """Open the connection to the server. Raises OSError where it is not there."""
        self._server, self._out = await _connect(address)
        # "Passed on" means "in the receiver's kernel": drain() waits for an empty buffer.
        for writer in (self._out, self.back):
            writer.transport.set_write_buffer_limits(high=0)

    async def serve(self) -> None:
        """Forward until either side ends."""
        assert self._server is not None
        assert self._out is not None
        try:
            try:
                await self.forward(self.first)
            except ConnectionError:  # a server that is leaving takes connections, and drops them
                return
            tasks = {
                asyncio.create_task(self._pump(Side.CLIENT, self.client)),
                to_client := asyncio.create_task(self._pump(Side.SERVER, self._server)),
            }
            try:
                if is_cancel_request(self.first):
                    await to_client  # the server acts, then closes; libpq waits for that
                else:
                    await _until_one_ends(tasks)
                    # What the server still says to a client that took leave goes nowhere.
            finally:
                for task in tasks:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            await close(self._out)
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def forward(self, message: Message) -> None:
        """Every message passes here, once, whole, before it is sent on: the place for faults."""
        side = message.side
        record = decode(message, self.connection) if side is Side.CLIENT else None
        if record is not None:
            self.proxy.records.append(record)
        await self._until(lambda: not self._busy and side not in self._held)
        if side in self._swallowed:
            return
        self._keep_count(message)
        if self._lost is not None and side is Side.SERVER:
            await self._lose(message, self._lost)
            return
        passing = Passing(message, self.connection, record, self._query(record))
        due = self.proxy.due(passing)
        if due:
            await self._strike(passing, due)
        else:
            await self._send(message)

    def apply(self, fault: Fault) -> None:
        """Commit a fault on this connection, now."""
        sides = set(Side) if fault.side is None else {fault.side}
        if fault.kind in (Kind.CUT, Kind.RESET):
            self._held.clear()
            if fault.side is not None:
                self._swallowed |= set(Side)
                self._deaf |= set(Side)
            for side in sides:
                self._close(side, reset=fault.kind is Kind.RESET)
        elif fault.kind is Kind.HALF_CLOSE:
            for side in sides:
                self._writer(side.other).write_eof()
            self._swallowed |= sides
        elif fault.kind is Kind.BLACK_HOLE:
            self._swallowed |= sides
            self._deaf |= sides
        elif fault.kind is Kind.STALL:
            self._held |= sides
        self._wake()

    def release(self) -> None:
        """Let stalled traffic go on; end a connection whose traffic was lost."""
        self._held.clear()
        if self._deaf:
            self._deaf.clear()
            for side in Side:
                self._close(side)
        self._wake()

    async def _pump(self, side: Side, source: asyncio.StreamReader) -> bool:
        """Forward what one side sends. Returns whether its end is the link's end."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                kind, length = struct.unpack("!cI", await source.readexactly(5))
                body = await source.readexactly(length - 4)
                await self.forward(Message(side, kind.decode("latin-1"), body))
        await self._until(lambda: not self._busy)
        if self._lost is not None and side is Side.SERVER:
            await self._finish(self._lost)
        await self._until(lambda: self._lost is None)
        return side not in self._deaf

    async def _strike(self, passing: Passing, due: list[tuple[Armed, int]]) -> None:
        """Fire what is due at a message: callbacks before it, the fault or it, callbacks after."""
        with self._frozen():
            before = [(a, nth) for a, nth in due if a.fault.when is When.BEFORE]
            for armed, nth in before:
                await self._commit_fault(armed, nth)
            kinds = {armed.fault.kind for armed, _ in before}
            if Kind.STALL not in kinds and kinds <= {Kind.CALL}:
                await self._pass(passing, due)
        if Kind.STALL in kinds:
            await self._until(lambda: passing.message.side not in self._held)
            await self._send(passing.message)

    async def _pass(self, passing: Passing, due: list[tuple[Armed, int]]) -> None:
        groups_before = self._ready_due
        if passing.message.kind in ("", "Q", "F", "S"):
            groups_before -= 1  # counted on arrival
        await self._send(passing.message)
        for armed, nth in due:
            if armed.fault.when is When.ANSWERED:
                self._lost = _Lost(armed, nth, passing.is_commit, groups_before)
            elif armed.fault.when is When.AFTER:
                await self._commit_fault(armed, nth)

    async def _lose(self, message: Message, lost: _Lost) -> None:
        """Swallow the answer that is to be lost, up to its end; what comes before it passes.

        The answers of statements that stand before a COMMIT in the same message pass too.
        """
        in_group = lost.groups_before == 0
        if message.kind == "Z" and not in_group:
            lost.groups_before -= 1
        if in_group:
            tag = command_tag(message)
            if lost.is_commit and (tag.startswith(("COMMIT", "ROLLBACK")) or message.kind == "E"):
                lost.started = True
            lost.tag = lost.tag or (tag if lost.started or not lost.is_commit else "")
        if in_group and message.kind == "Z":
            await self._finish(lost)
        elif not in_group or (lost.is_commit and not lost.started):
            await self._send(message)

    async def _finish(self, lost: _Lost) -> None:
        with self._frozen():
            await self._commit_fault(lost.armed, lost.nth, lost.tag)
            self._lost = None

    async def _commit_fault(self, armed: Armed, nth: int, tag: str = "") -> None:
        fault = armed.fault
        fired = Fired(fault, self.connection, self.backend_pid, nth, tag)
        if fault.call is not None:
            await fault.call(fired)
        self.apply(fault)
        if fault.everywhere:
            self.proxy.strike(fault)
        self.proxy.note(fired)

    async def _send(self, message: Message) -> None:
        out = self._writer(message.side.other)
        out.write(message.encode())
        await out.drain()

    def _keep_count(self, message: Message) -> None:
        """Follow how many ReadyForQuery are due, and who the backend is."""
        side, kind = message.side, message.kind
        if side is Side.CLIENT:
            if kind in ("", "Q", "F", "S"):
                self._ready_due += 1
            if kind in ("Q", "E"):
                self._by_execute = kind == "E"
        elif kind == "Z":
            self._ready_due -= 1
        elif kind == "G" and self._by_execute:
            self._ready_due -= 1  # the Sync after the Execute of a COPY is read as a part of it
        elif kind == "K":
            (self.backend_pid,) = struct.unpack_from("!I", message.body)

    def _query(self, record: Record | None) -> str:
        if isinstance(record, Query):
            return record.text
        if isinstance(record, Parse):
            self._statements[record.statement] = record.query
            return record.query
        if isinstance(record, Bind):
            self._portals[record.portal] = self._statements.get(record.statement, "")
            return self._portals[record.portal]
        if isinstance(record, Execute):
            return self._portals.get(record.portal, "")
        return ""

    def _writer(self, side: Side) -> asyncio.StreamWriter:
        """Whence `side` reads."""
        assert self._out is not None
        return self.back if side is Side.CLIENT else self._out

    def _close(self, side: Side, *, reset: bool = False) -> None:
        # What was passed on is with the kernel; abort drops only what nobody is reading.
        writer = self._writer(side)
        if reset and side is Side.CLIENT:
            set_reset(writer)
        writer.transport.abort()

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """Nothing else passes meanwhile, in either direction."""
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, ready: Callable[[], bool]) -> None:
        while not ready():
            await self._changed.wait()


async def _until_one_ends(tasks: set[asyncio.Task[bool]]) -> None:
    """Wait for the task whose end is the link's end, or for all of them."""
    pending = tasks
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is not None or task.result() for task in done):
            return


async def _connect(address: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(address, str):
        return await asyncio.open_unix_connection(address, limit=READ_LIMIT_BYTES)
    return await asyncio.open_connection(*address, limit=READ_LIMIT_BYTES)


async def start_up(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> Message | None:
    """The client's first message that is for the server; None where it leaves before.

    Encryption is declined here, whatever the server could do: we want to read along.
    """
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while True:
            (length,) = struct.unpack("!I", await client.readexactly(4))
            body = await client.readexactly(length - 4)
            (code,) = struct.unpack_from("!I", body)
            if code not in (SSL_REQUEST, GSSENC_REQUEST):
                return Message(Side.CLIENT, "", body)
            back.write(b"N")
            await back.drain()
    return None


def is_cancel_request(first: Message) -> bool:
    """Whether a connection's first message asks for the cancelling of another one's statement."""
    return first.body[:4] == struct.pack("!I", CANCEL_REQUEST)


def set_reset(writer: asyncio.StreamWriter) -> None:
    """Have a TCP connection end with RST when it is closed."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close and wait for it."""
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
