"""Python rows straight to the wire, through psycopg's own dumpers: in C, a row at a time.

Making columns of Python rows costs several times what encoding them does. psycopg's dumpers are
quick because they trust their input: an int that is too long for its column loses its upper bits,
a bool passes for an int, a datetime for a date. So an encoder that `looks` looks first, by the
types and bounds of whole columns, at those whose dumpers would not tell; the other dumpers refuse
what is not theirs. `RowEncoder.value_bytes` looks at all columns, and tells which rows have to
become columns, whose casts can tell more (see `batchbench.casts`).
"""

from __future__ import annotations

import datetime as dt
import threading
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, islice, repeat
from operator import attrgetter, itemgetter
from types import SimpleNamespace
from typing import Any
from uuid import UUID

from batchbench.batch import ROW_TYPES, PythonRow
from batchbench.errors import WriteError
from batchbench.table import PgType
from batchbench.wire.stream import COPY_HEADER, COPY_TRAILER

PIECE_BYTES = 96 << 10
"""Encoded at a time, about, between two looks at the network."""

RowParts = Sequence[Sequence[PythonRow]]
"""Rows as they were read together."""

_DATA_EXCEPTION = "22000"
_NONE = type(None)

# kind of the column's type -> the OID that names its dumper
_DUMPERS = {
    "int2": 21,
    "int4": 23,
    "int8": 20,
    "float8": 701,
    "bool": 16,
    "text": 25,
    "varchar": 25,
    "uuid": 2950,
    "date": 1082,
    "timestamp": 1114,
    "timestamptz": 1184,
    "bytea": 17,
    "jsonb": 3802,
}

# kind -> the Python types that go in unchanged.
_TAKEN: dict[str, frozenset[type]] = {
    "int2": frozenset({int, _NONE}),
    "int4": frozenset({int, _NONE}),
    "int8": frozenset({int, _NONE}),
    "float8": frozenset({float, _NONE}),
    "bool": frozenset({bool, _NONE}),
    "date": frozenset({dt.date, _NONE}),
    "timestamp": frozenset({dt.datetime, _NONE}),
    "timestamptz": frozenset({dt.datetime, _NONE}),
    "bytea": frozenset({bytes, _NONE}),
    "jsonb": frozenset({str, _NONE}),
}
_TEXTS = ("text", "varchar")
_TRUSTED = frozenset({"int2", "int4", "int8", "float8", "bool", "date", "bytea"})
"""Kinds whose dumpers take more than what goes in unchanged; the others refuse it."""

_FEW = 3  # columns: where fewer are wanted, taking each out of its rows is quicker
_FIRST_ROWS = 16  # encoded to see how long rows are
_PIECE_ROWS = 1_024  # the interpreter is kept for a quarter of a millisecond
_PIECES_AHEAD = 5  # about what a socket holds
_ZONE = attrgetter("tzinfo")
_WIDTHS = {"int2": "h", "int4": "i", "int8": "q"}


@dataclass(frozen=True, slots=True)
class RowEncoder:
    """Compiled for the kinds of a table's columns. Rows have one value a column, in its order.

    looks: whether `pieces` is for rows that `value_bytes` has not seen, and refuses values that
    would not go in unchanged.
    """

    kinds: tuple[str, ...]
    looks: bool = False

    def value_bytes(self, rows: Sequence[PythonRow]) -> int | None:
        """What the values of varying size take on the wire; None where some value of any column
        would not go in unchanged, as far as its dumper would not tell.
        """
        total, width = 0, len(self.kinds)
        if not set(map(type, rows)) <= ROW_TYPES or set(map(len, rows)) != {width}:
            return None
        flat = list(chain.from_iterable(rows))  # a pass over the rows for each column takes longer
        for i, kind in enumerate(self.kinds):
            found = _value_bytes(kind, flat[i::width])
            if found is None:
                return None
            total += found
        return total

    def first_bytes(self, rows: Sequence[PythonRow]) -> int | None:
        """Bytes that a row takes on the wire, on average of the first ones; None where one of these
        would not go in unchanged. rows: at least one.
        """
        first = rows[:_FIRST_ROWS]
        try:
            return sum(map(len, replace(self, looks=True).pieces(first))) // len(first)
        except WriteError:
            return None

    def _looks_right(self, rows: Sequence[PythonRow]) -> bool:
        """False where a value would not go in unchanged, and its dumper would take it."""
        if not set(map(type, rows)) <= ROW_TYPES:
            return False
        places = [i for i, kind in enumerate(self.kinds) if kind in _TRUSTED]
        if len(places) < _FEW:
            columns = [list(map(itemgetter(i), rows)) for i in places]
        else:
            flat = list(chain.from_iterable(rows))
            columns = [flat[i :: len(self.kinds)] for i in places]
        return all(
            _goes_in(self.kinds[i], values) for i, values in zip(places, columns, strict=True)
        )

    def pieces(self, rows: Sequence[PythonRow]) -> Iterator[bytearray]:
        """The rows of a COPY stream, in pieces of about `PIECE_BYTES`."""
        for piece, _ in self.counted_pieces(rows):
            yield piece

    def counted_pieces(self, rows: Sequence[PythonRow]) -> Iterator[tuple[bytearray, int]]:
        """The same, with the rows of each piece.

        Raises WriteError of class ROW where a value of the next piece has no form on the wire, or,
        if it `looks`, would not go in unchanged.
        """
        c = _known_psycopg()
        dumpers, start, more = c.dumpers(self.kinds), 0, _FIRST_ROWS
        while start < len(rows):
            part, piece = rows[start : start + more], bytearray()
            try:
                if self.looks and not self._looks_right(part):
                    raise ValueError
                deque(map(c.encode_row, part, repeat(dumpers), repeat(piece)), 0)  # a loop in C
            except c.refused as error:
                raise _unfit(error) from None  # its text may hold the value
            yield piece, len(part)
            start += len(part)
            more = max(1, min(_PIECE_ROWS, PIECE_BYTES * len(part) // len(piece)))

    def parameters(self, rows: Iterable[PythonRow]) -> list[bytes | None]:
        """Every value of every row, for a Bind message. Raises as `pieces`."""
        c = _known_psycopg()
        dumpers, formats = c.dumpers(self.kinds), [c.python_binary] * len(self.kinds)
        values: list[bytes | None] = []
        try:
            for row in rows:
                values += dumpers.dump_sequence(row, formats)
        except c.refused as error:
            raise _unfit(error) from None
        return values


class RowStream:
    """Rows as a COPY stream, encoded as it is sent, by whoever sends it; see
    `batchbench.drivers.Pieces`. psycopg's dumpers keep the interpreter to themselves: a thread of
    their own would make the sending wait for it. It can be sent more than once.

    Where the encoder looks and refuses a value, the stream ends in order ahead of the piece that
    has it.

    byte_count, sent_rows: of what was sent of it the last time.
    following: the stream that is sent next, if that is known: it is begun once this one is sent.
    """

    def __init__(self, encoder: RowEncoder, parts: RowParts) -> None:
        self._encoder, self._parts = encoder, parts
        self._lock, self._begun = threading.Lock(), self._pieces()
        self._ahead: list[tuple[bytearray, int]] = []
        self.byte_count = self.sent_rows = 0
        self.following: RowStream | None = None
        self.held_bytes = (_PIECES_AHEAD + 2) * PIECE_BYTES
        """Bytes of memory that it takes at most, without the rows."""

    def ready(self) -> Iterator[bytes | bytearray]:
        """All of it, encoded as it is taken. Raises WriteError unless the encoder looks."""
        self.byte_count, self.sent_rows = len(COPY_HEADER) + len(COPY_TRAILER), 0
        with self._lock:
            ahead, begun = self._ahead, self._begun
            self._ahead, self._begun = [], self._pieces()
        yield COPY_HEADER
        for piece, row_count in chain(ahead, begun):
            self.byte_count += len(piece)
            self.sent_rows += row_count
            yield piece
        yield COPY_TRAILER

    def _pieces(self) -> Iterator[tuple[bytearray, int]]:
        try:
            for part in self._parts:
                yield from self._encoder.counted_pieces(part)
        except WriteError:
            if not self._encoder.looks:
                raise

    def _begin(self) -> None:
        """Encode its first pieces, unless it is on its way."""
        if self._lock.acquire(blocking=False):
            try:
                self._ahead += islice(self._begun, _PIECES_AHEAD - len(self._ahead))
            finally:
                self._lock.release()

    def rest(self) -> None:
        """Nothing follows."""

    def sent(self) -> None:
        """Begin the stream that follows, while the server is busy with the end of this one."""
        following, self.following = self.following, None
        if following is not None:
            following._begin()


def row_encoder(types: Sequence[PgType]) -> RowEncoder | None:
    """An encoder for these columns; None where one of them, or this psycopg, has none."""
    kinds = tuple(type_.kind for type_ in types)
    if not all(kind in _DUMPERS for kind in kinds) or _psycopg() is None:
        return None
    return RowEncoder(kinds)


def _value_bytes(kind: str, values: list[Any]) -> int | None:
    """See `RowEncoder.value_bytes`; of one column."""
    if kind in _TEXTS:
        return _text_bytes(values)
    if kind == "uuid":
        found = set(map(type, values))
        is_some = any(issubclass(type_, UUID) for type_ in found)
        return 0 if is_some or found <= {_NONE} else None
    if not _goes_in(kind, values):
        return None
    return sum(map(len, filter(None, values))) if kind in ("bytea", "jsonb") else 0


def _goes_in(kind: str, values: list[Any]) -> bool:
    """Whether the values of a column, not of text or uuids, go in unchanged."""
    found = set(map(type, values))
    if not found <= _TAKEN[kind]:
        return False
    if _NONE in found:  # what is 0 fits too
        values = list(filter(None, values))
    return not values or _fits(kind, values)


def _fits(kind: str, values: list[Any]) -> bool:
    """values: at least one, all of the kind's type. Times whose zone has to be assumed, or taken
    off, are for the casts, as uuids in text are. Where some only are so, they cost their own rows:
    the dumpers refuse them.
    """
    if kind == "timestamptz":
        return any(map(_ZONE, values))
    if kind == "timestamp":
        return not all(map(_ZONE, values))
    if kind not in _WIDTHS:
        return True
    try:
        array(_WIDTHS[kind], values)  # the quickest look at their bounds
    except OverflowError:
        return False
    return True


def _known_psycopg() -> _Psycopg:
    found = _psycopg()
    if found is None:
        raise AssertionError("there is an encoder only where psycopg has dumpers in C")
    return found


def _text_bytes(values: list[Any]) -> int | None:
    """None unless all are text that PostgreSQL can hold."""
    try:
        joined = "".join([value for value in values if value is not None]).encode()
    except (TypeError, UnicodeEncodeError):
        return None
    return None if b"\0" in joined else len(joined)


def _unfit(error: Exception) -> WriteError:
    return WriteError(
        f"a row has a value that its column cannot hold ({type(error).__name__})",
        sqlstate=_DATA_EXCEPTION,
        condition="data_exception",
    )


@dataclass(frozen=True, slots=True)
class _Psycopg:
    """The parts of psycopg in C that encode rows without a connection.

    encode_row: appends a row of a binary COPY to a bytearray. transformer: makes what holds the
    dumpers, by its context. binary, python_binary: its two names for the binary format. refused:
    what is raised where a value, or the width of a row, is not as its dumper needs it.
    """

    encode_row: Callable[[PythonRow, Any, bytearray], None]
    transformer: Callable[[Any], Any]
    context: Any
    binary: Any
    python_binary: Any
    refused: tuple[type[Exception], ...]

    def dumpers(self, kinds: Sequence[str]) -> Any:
        """A binary dumper for each column."""
        made = self.transformer(self.context)
        made.set_dumper_types([_DUMPERS[kind] for kind in kinds], self.binary)
        return made


@cache
def _psycopg() -> _Psycopg | None:
    """None where psycopg is its slower self in Python, or another version than we know."""
    try:
        from psycopg import DataError, adapters, pq
        from psycopg._copy_base import format_row_binary
        from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer
    except ImportError:
        return None
    if pq.__impl__ not in ("c", "binary"):
        return None

    class _JsonbDumper(Dumper):
        """Text that is a JSON document. Source: jsonb_recv: version byte 1, then the text."""

        oid = _DUMPERS["jsonb"]
        format = pq.Format.BINARY

        def dump(self, obj: str) -> bytes:
            return b"\x01" + obj.encode()

    class _UuidDumper(Dumper):
        """psycopg's own asks for a property, which is one more call in Python for every value."""

        oid = _DUMPERS["uuid"]
        format = pq.Format.BINARY

        def dump(self, obj: UUID) -> bytes:
            return obj.int.to_bytes(16)

    own = AdaptersMap(adapters)
    own.register_dumper(str, _JsonbDumper)
    own.register_dumper(UUID, _UuidDumper)
    context = SimpleNamespace(adapters=own, connection=None)
    refused = (
        *(DataError, TypeError, ValueError, AttributeError, OverflowError),
        *(LookupError, NotImplementedError),  # of an object of another kind, asked by a dumper
    )
    binary, python_binary = pq.Format.BINARY, PyFormat.BINARY
    return _Psycopg(format_row_binary, Transformer, context, binary, python_binary, refused)
