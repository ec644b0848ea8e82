"""PostgreSQL's protocol messages, as far as the tests look into them.

Records hold counts and statement texts, never values. Source of the formats: PostgreSQL
documentation, "Message Formats".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

SSL_REQUEST, GSSENC_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102

# Only as the last statement of a text: what stands after a semicolon inside a literal is data.
_COMMIT = re.compile(
    r"(?:^|;)\s*(?:COMMIT|END)(?:\s+(?:WORK|TRANSACTION|AND\s+(?:NO\s+)?CHAIN|PREPARED\s+'[^']*'))*"
    r"[\s;]*$",
    re.IGNORECASE,
)


class Side(StrEnum):
    """Who sent a message."""

    CLIENT = "client"
    SERVER = "server"

    @property
    def other(self) -> Side:
        """Who gets it."""
        return Side.SERVER if self is Side.CLIENT else Side.CLIENT


@dataclass(frozen=True, slots=True)
class Message:
    """One protocol message. `kind` is its type byte, "" for a start-up message, which has none."""

    side: Side
    kind: str
    body: bytes

    def encode(self) -> bytes:
        """The message as it goes over the wire."""
        return self.kind.encode() + struct.pack("!I", len(self.body) + 4) + self.body


@dataclass(frozen=True, slots=True)
class Parse:
    """A statement was prepared. `parameter_types` counts the types that the client declared."""

    connection: int
    statement: str
    query: str
    parameter_types: int


@dataclass(frozen=True, slots=True)
class Bind:
    """Parameters were bound to a prepared statement."""

    connection: int
    portal: str
    statement: str
    parameters: int


@dataclass(frozen=True, slots=True)
class Execute:
    """A portal was run."""

    connection: int
    portal: str


@dataclass(frozen=True, slots=True)
class Query:
    """Statements were sent in the simple protocol."""

    connection: int
    text: str


@dataclass(frozen=True, slots=True)
class CopyData:
    """A part of a COPY stream; `payload_bytes` without the message's own 5."""

    connection: int
    payload_bytes: int


Record: TypeAlias = Parse | Bind | Execute | Query | CopyData


def decode(message: Message, connection: int) -> Record | None:
    """What a client's message says; None for a kind that is not recorded."""
    body = message.body
    if message.kind == "P":
        statement, query, rest = body.split(b"\0", 2)
        return Parse(connection, _text(statement), _text(query), _uint16(rest, 0))
    if message.kind == "B":
        portal_end = body.index(b"\0")
        name_end = body.index(b"\0", portal_end + 1)
        formats = _uint16(body, name_end + 1)
        count = _uint16(body, name_end + 3 + 2 * formats)
        statement = body[portal_end + 1 : name_end]
        return Bind(connection, _text(body[:portal_end]), _text(statement), count)
    if message.kind == "E":
        return Execute(connection, _text(body[: body.index(b"\0")]))
    if message.kind == "Q":
        return Query(connection, _text(body.rstrip(b"\0")))
    if message.kind == "d":
        return CopyData(connection, len(body))
    return None


def command_tag(message: Message) -> str:
    """The tag of a server's CommandComplete ("INSERT 0 5"), "" for any other message."""
    if message.side is not Side.SERVER or message.kind != "C":
        return ""
    return _text(message.body.rstrip(b"\0"))


def ends_in_commit(text: str) -> bool:
    """Whether the last statement of a text is a COMMIT (END, COMMIT PREPARED)."""
    return _COMMIT.search(text) is not None


def error_response(sqlstate: str, text: str) -> Message:
    """What a server says that turns a connection down."""
    fields = f"SFATAL\0VFATAL\0C{sqlstate}\0M{text}\0\0"
    return Message(Side.SERVER, "E", fields.encode())


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _uint16(body: bytes, offset: int) -> int:
    (number,) = struct.unpack_from("!H", body, offset)
    return int(number)
