"""Faults that the proxy commits, placed by what passes through it and never by the clock.

    cut_commit_after(nth=7, call=kill_the_server)
    Fault(Kind.BLACK_HOLE, Trigger(COPY_DATA, nth=3), side=Side.CLIENT)

A trigger counts messages over all connections of the proxy, in the order in which they pass.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from tests.proxy.messages import Message, Record, Side, command_tag, ends_in_commit


@dataclass(frozen=True, slots=True)
class Passing:
    """A message on its way.

    record: what a client's message says, see `decode`. query: the text of the statements that it
    prepares, binds or runs, "" where it has none.
    """

    message: Message
    connection: int
    record: Record | None = None
    query: str = ""

    @property
    def tag(self) -> str:
        """The command tag of a server's CommandComplete, else ""."""
        return command_tag(self.message)

    @property
    def is_commit(self) -> bool:
        """Whether the client has a COMMIT run: by Query (as the last statement) or Execute."""
        of_client = self.message.side is Side.CLIENT
        return of_client and self.message.kind in ("Q", "E") and ends_in_commit(self.query)


Match: TypeAlias = Callable[[Passing], bool]


def from_client(kind: str) -> Match:
    """A client's messages with that type byte."""
    return lambda passing: passing.message.side is Side.CLIENT and passing.message.kind == kind


def from_server(kind: str) -> Match:
    """A server's messages with that type byte."""
    return lambda passing: passing.message.side is Side.SERVER and passing.message.kind == kind


def tagged(start: str) -> Match:
    """A server's CommandComplete whose tag starts so: "INSERT", "COPY 5000"."""
    return lambda passing: passing.tag.startswith(start)


def running(part: str) -> Match:
    """A client's Query or Execute of a statement whose text holds this."""
    return lambda passing: (
        passing.message.side is Side.CLIENT
        and passing.message.kind in ("Q", "E")
        and part in passing.query
    )


START_UP = from_client("")
QUERY = from_client("Q")
PARSE = from_client("P")
BIND = from_client("B")
EXECUTE = from_client("E")
SYNC = from_client("S")
COPY_DATA = from_client("d")
COPY_DONE = from_client("c")
COMMAND_COMPLETE = from_server("C")
ERROR = from_server("E")
READY = from_server("Z")


def COMMIT(passing: Passing) -> bool:
    """A client's COMMIT."""
    return passing.is_commit


def COMMITTED(passing: Passing) -> bool:
    """The server's word that a COMMIT committed."""
    return passing.tag.startswith("COMMIT")


def ROWS(passing: Passing) -> bool:
    """A client's message that carries rows: CopyData, or the execution of an INSERT."""
    return COPY_DATA(passing) or (
        running("")(passing) and passing.query.lstrip()[:6].upper() == "INSERT"
    )


@dataclass(frozen=True, slots=True)
class Trigger:
    """The `nth` message that matches, counted from 1.

    since: count a match only where a message matching `since` passed on the same connection after
    the match before it: `Trigger(COMMIT, since=ROWS)` counts transactions that carry rows.
    """

    match: Match
    nth: int = 1
    since: Match | None = None


class Kind(StrEnum):
    """What happens. See `Fault.side` for what each does with it."""

    CUT = "cut"
    """Both connections end in good order (FIN)."""
    RESET = "reset"
    """The same, but the client is told by RST."""
    HALF_CLOSE = "half_close"
    """The receiver reads the end of the stream; the sockets stay open, the other way works on."""
    STALL = "stall"
    """Nothing is read or passed on any more until `Proxy.release`, then all of it is."""
    BLACK_HOLE = "black_hole"
    """What is sent vanishes, the end of the sender too: no FIN, no RST, until `Proxy.release`."""
    CALL = "call"
    """Nothing but the callback, while this connection's traffic waits."""


class When(StrEnum):
    """What becomes of the message that triggers."""

    BEFORE = "before"
    """It is not passed on (under STALL and CALL: only later)."""
    AFTER = "after"
    """It was passed on to the receiver's kernel. Nothing that comes back is passed on."""
    ANSWERED = "answered"
    """It is passed on, its answer awaited up to ReadyForQuery and swallowed. A client's only."""


@dataclass(frozen=True, slots=True)
class Fired:
    """A fault that happened, or (to a callback) is about to.

    nth: which match of its trigger it was. backend_pid: of the connection's backend, 0 before
    the server told. tag: under ANSWERED what the swallowed answer said: "COMMIT", "ROLLBACK"
    (kept nothing), "" for an error or where the server died before it answered.
    """

    fault: Fault
    connection: int
    backend_pid: int
    nth: int
    tag: str = ""


Call: TypeAlias = Callable[[Fired], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault, fired `times` times: at its trigger, then at each `every`-th match after it.

    side: None means both. Under STALL, BLACK_HOLE and HALF_CLOSE: what this side sends. Under CUT
        and RESET: this side's connection is closed, the other stays open and silent, as after a
        lost FIN, until `Proxy.release`.
    everywhere: strike all open connections, not only the one with the trigger.
    call: awaited at the moment of the fault, before it is committed, while the traffic of the
        connection waits: it must not use that connection. What it raises, `open_proxy` raises.
    """

    kind: Kind
    trigger: Trigger
    when: When = When.AFTER
    side: Side | None = None
    times: int = 1
    every: int = 1
    everywhere: bool = False
    call: Call | None = None


def cut_commit_before(
    nth: int = 1,
    *,
    since: Match | None = None,
    times: int = 1,
    every: int = 1,
    call: Call | None = None,
) -> Fault:
    """The connection ends when the client's COMMIT arrives, which the server never gets."""
    trigger = Trigger(COMMIT, nth, since)
    return Fault(Kind.CUT, trigger, When.BEFORE, times=times, every=every, call=call)


def cut_commit_after(
    nth: int = 1,
    *,
    since: Match | None = None,
    times: int = 1,
    every: int = 1,
    call: Call | None = None,
) -> Fault:
    """COMMIT is forwarded and answered, the answer swallowed, then the connection ends."""
    trigger = Trigger(COMMIT, nth, since)
    return Fault(Kind.CUT, trigger, When.ANSWERED, times=times, every=every, call=call)


def cut_commit_blind(
    nth: int = 1,
    *,
    since: Match | None = None,
    times: int = 1,
    every: int = 1,
    call: Call | None = None,
    half_open: bool = False,
) -> Fault:
    """COMMIT is forwarded and the connection ends at once, without waiting for the answer.

    half_open: the server's side stays open until `Proxy.release`, as after a lost FIN.
    Whether the server has committed by then, nobody knows: that is the point.
    """
    trigger = Trigger(COMMIT, nth, since)
    side = Side.CLIENT if half_open else None
    return Fault(Kind.CUT, trigger, When.AFTER, side, times, every, call=call)


@dataclass(slots=True)
class Armed:
    """A fault that waits for its trigger, with its counts."""

    fault: Fault
    seen: int = 0
    fired: int = 0
    _ready_on: set[int] = field(default_factory=set)

    def due(self, passing: Passing) -> bool:
        """Count a message; whether the fault is to be fired at it."""
        trigger = self.fault.trigger
        if not trigger.match(passing):
            if trigger.since is not None and trigger.since(passing):
                self._ready_on.add(passing.connection)
            return False
        if trigger.since is not None:
            if passing.connection not in self._ready_on:
                return False
            self._ready_on.discard(passing.connection)
        self.seen += 1
        if self.fired >= self.fault.times:
            return False
        return self.seen >= trigger.nth + self.fired * self.fault.every
