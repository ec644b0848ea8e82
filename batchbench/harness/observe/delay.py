"""Passes bytes between clients and a server, each direction late by half a round trip.

Run as a script, by path, with the standard library only, in a process of its own so that it
takes nothing from the engine's event loop or interpreter:

    python -I -S delay.py TARGET ONE_WAY_S

TARGET: "/folder/.s.PGSQL.5432" (or "@...", an abstract socket), or "ADDRESS PORT". It listens on
the same kind of address, prints where as one JSON line ("folder" of a Unix socket, or "port" of
127.0.0.1), and ends when its standard input does: that is a pipe which only the starting process
holds open, so `kill -9` of that ends it too.

Each block that is read gets the time when it may go on, and waits in a queue; meanwhile reading
goes on, so that bandwidth is not limited. A queue holds what a fast network would have under way
(`most_bytes`); when it is full, the sender has to wait, as for a network.

Select, not epoll: its limit on a wait is in microseconds, epoll's in milliseconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

READ_BYTES = 1 << 18
FAST_BYTES_PER_S = 4e9
LEAST_BYTES = 1 << 20
MOST_BYTES = 64 << 20
MOST_BLOCKS = 1 << 16
_BACKLOG = 256
_PR_SET_TIMERSLACK = 29  # prctl(2)


def most_bytes(one_way_s: float) -> int:
    """What may be under way in one direction of a connection."""
    return min(max(int(one_way_s * FAST_BYTES_PER_S), LEAST_BYTES), MOST_BYTES)


@dataclass(slots=True)
class Way:
    """One direction of a connection.

    not_before_s: when the first byte may be taken for sent. b"" in the queue is the end.
    """

    source: socket.socket
    sink: socket.socket
    delay_s: float
    not_before_s: float
    queue: deque[tuple[float, memoryview]] = field(default_factory=deque)
    held_bytes: int = 0
    ended: bool = False  # nothing more will be read
    finished: bool = False  # nothing more will be sent
    blocked: bool = False  # the sink's kernel takes no more now

    def reads(self) -> bool:
        """Whether the source is to be read."""
        full = self.held_bytes >= most_bytes(self.delay_s) or len(self.queue) >= MOST_BLOCKS
        return not self.ended and not full

    def read(self, now_s: float) -> None:
        """Take a block of the source; a source that broke has ended."""
        try:
            block = self.source.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            block = b""
        self.ended = not block
        if self.finished:  # the sink is gone; what still comes for it goes nowhere
            return
        self.queue.append((max(now_s, self.not_before_s) + self.delay_s, memoryview(block)))
        self.held_bytes += len(block)

    def due_s(self) -> float | None:
        """When something can be sent next; None while there is nothing, or the sink is blocked."""
        return self.queue[0][0] if self.queue and not self.blocked else None

    def send(self, now_s: float) -> None:
        """Send what is due, in order, as far as the sink takes it."""
        self.blocked = False
        while self.queue and self.queue[0][0] <= now_s:
            due_s, block = self.queue[0]
            try:
                sent = self._hand_on(block)
            except (BlockingIOError, InterruptedError):
                self.blocked = True
                return
            except OSError:
                self._give_up()
                return
            self.held_bytes -= sent
            if sent < len(block):
                self.queue[0] = (due_s, block[sent:])
            else:
                self.queue.popleft()

    def _hand_on(self, block: memoryview) -> int:
        if block:
            return self.sink.send(block)
        self.sink.shutdown(socket.SHUT_WR)
        self.finished = True
        return 0

    def _give_up(self) -> None:
        self.queue.clear()
        self.held_bytes = 0
        self.finished = True


@dataclass(slots=True)
class Link:
    """A client's connection and the one to the server that belongs to it."""

    client: socket.socket
    server: socket.socket
    ways: tuple[Way, Way]

    def over(self) -> bool:
        """Whether neither side can be told anything more.

        Where one side is gone, what the other sends is read and dropped until it ends too.
        """
        return all(way.finished for way in self.ways)

    def close(self) -> None:
        """Close both."""
        self.client.close()
        self.server.close()


@dataclass(slots=True)
class Relay:
    """All connections. target: a Unix socket's path, or address and port."""

    listener: socket.socket
    target: str | tuple[str, int]
    one_way_s: float
    links: list[Link] = field(default_factory=list)

    def serve(self, until: int) -> None:
        """Pass bytes on until the file descriptor `until` can be read."""
        while True:
            ways = [way for link in self.links for way in link.ways]
            reading = {way.source.fileno(): way for way in ways if way.reads()}
            sending = {way.sink.fileno(): way for way in ways if way.blocked}
            readable, writable, _ = select.select(
                [until, self.listener.fileno(), *reading], [*sending], [], self._wait_s(ways)
            )
            if until in readable:
                return
            now_s = time.monotonic()
            for number in readable:
                if number in reading:
                    reading[number].read(now_s)
            self._send(ways, [sending[number] for number in writable])
            if self.listener.fileno() in readable:
                self._accept()
            self._drop_finished()

    def _wait_s(self, ways: list[Way]) -> float | None:
        dues = [due_s for way in ways if (due_s := way.due_s()) is not None]
        return max(min(dues) - time.monotonic(), 0.0) if dues else None

    def _send(self, ways: list[Way], unblocked: list[Way]) -> None:
        for way in unblocked:
            way.blocked = False
        now_s = time.monotonic()
        for way in ways:
            due_s = way.due_s()
            if due_s is not None and due_s <= now_s:
                way.send(now_s)

    def _accept(self) -> None:
        try:
            client, _ = self.listener.accept()
        except OSError:  # it has gone again, or there are no descriptors left
            return
        try:
            server = self._dial(client)
        except OSError:
            _reset(client)
            return
        # As for TCP over such a network: the client knows of its connection after one round trip.
        open_s = time.monotonic() + 2 * self.one_way_s
        out = Way(client, server, self.one_way_s, open_s)
        back = Way(server, client, self.one_way_s, open_s)
        self.links.append(Link(client, server, (out, back)))

    def _dial(self, client: socket.socket) -> socket.socket:
        """Begin to connect; until that is done the socket takes nothing, then it takes or fails."""
        is_unix = isinstance(self.target, str)
        family = socket.AF_UNIX if is_unix else _family(str(self.target[0]))
        server = socket.socket(family, socket.SOCK_STREAM)
        for wire in (client, server):
            wire.setblocking(False)
            if not is_unix:
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if max(client.fileno(), server.fileno()) >= 1_000:  # select's own limit is 1,024
            server.close()
            raise OSError(errno.EMFILE, "too many connections for one relay")
        state = server.connect_ex(self.target)
        if state not in (0, errno.EINPROGRESS):
            server.close()
            raise OSError(state, os.strerror(state))
        return server

    def _drop_finished(self) -> None:
        for link in [link for link in self.links if link.over()]:
            link.close()
            self.links.remove(link)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _reset(wire: socket.socket) -> None:
    """Close at once, so that the client learns of it as of a server that is not there."""
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    wire.close()


@contextlib.contextmanager
def _listening(like_unix: bool) -> Iterator[tuple[socket.socket, dict[str, str | int]]]:
    """The listener, and what to tell of it."""
    if not like_unix:
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
            yield listener, {"port": listener.getsockname()[1]}
        return
    with tempfile.TemporaryDirectory(prefix="batchbench-") as folder:  # only for its owner
        path = Path(folder) / ".s.PGSQL.5432"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            yield listener, {"folder": folder}


def _sharpen_timers() -> None:
    """Linux lets a wait end 50 us late, so as to save power; here that would be a tenth of 1 ms."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1))


def main(arguments: list[str]) -> None:
    """Say where, then serve until the end of standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _sharpen_timers()
    where, one_way_s = arguments[0], float(arguments[1])
    target: str | tuple[str, int]
    is_unix = where.startswith(("/", "@"))
    if is_unix:
        target = "\0" + where[1:] if where.startswith("@") else where
    else:
        address, port = where.split(" ")
        target = (address, int(port))
    with _listening(is_unix) as (listener, told):
        listener.setblocking(False)
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        relay = Relay(listener, target, one_way_s)
        try:
            relay.serve(sys.stdin.fileno())
        finally:
            for link in relay.links:
                link.close()


if __name__ == "__main__":
    main(sys.argv[1:])
