"""A binary COPY stream that is encoded while it is sent.

Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from batchbench.wire.fields import Field, join_rows

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)

_PIECE_BYTES = 1 << 20

Fields = Callable[[int, int], Sequence[Field]]
"""(offset, row count) -> those rows, one field a column."""


def copy_rows(fields: Sequence[Field]) -> memoryview:
    """The rows of a binary COPY stream, without its header and trailer."""
    row_count = fields[0].row_count
    pieces: list[Any] = [np.full(row_count, len(fields), ">i2")]
    for column in fields:
        pieces += column.pieces()
    return join_rows(pieces, row_count)


class CopyStream:
    """A chunk of at least one row. Its first piece is encoded at once, the others while the one
    before is on its way: so a large chunk neither keeps the server waiting nor lies encoded in
    memory as a whole. It can be sent more than once.

    value_bytes: about what the values take; it sets the rows of a piece.
    begun: whether to encode the first piece at once; without it, only if the stream is sent.
    byte_count: bytes of what was sent of it the last time.
    """

    def __init__(
        self, fields: Fields, row_count: int, value_bytes: int, *, begun: bool = True
    ) -> None:
        self._fields = fields
        self._row_count = row_count
        self._value_bytes = max(value_bytes, row_count)
        self._piece_rows = max(1, _PIECE_BYTES * row_count // self._value_bytes)
        self._first = self._piece(0) if begun else None
        self.byte_count = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that it takes at most: the first piece, one on its way, one coming."""
        most_pieces = min(3, -(-self._row_count // self._piece_rows))
        if self._first is None:
            return min(self._value_bytes, most_pieces * _PIECE_BYTES)
        return len(self._first) * (1 if most_pieces == 1 else 3)

    def ready(self) -> list[bytes | memoryview]:
        """What begins the stream, in pieces that are there already."""
        begin: list[bytes | memoryview] = [COPY_HEADER]
        if self._first is not None:
            begin.append(self._first)
            if self._piece_rows >= self._row_count:
                begin.append(COPY_TRAILER)
        self.byte_count = sum(map(len, begin))
        return begin

    def rest(self) -> Iterator[bytes | memoryview] | None:
        """What follows, encoded piece by piece: to be read in a thread. None: there is nothing."""
        coming = 0 if self._first is None else self._piece_rows
        return self._rest(coming) if coming < self._row_count else None

    def _rest(self, coming: int) -> Iterator[bytes | memoryview]:
        for offset in range(coming, self._row_count, self._piece_rows):
            piece = self._piece(offset)
            self.byte_count += len(piece)
            yield piece
        self.byte_count += len(COPY_TRAILER)
        yield COPY_TRAILER

    def _piece(self, offset: int) -> memoryview:
        row_count = min(self._piece_rows, self._row_count - offset)
        return copy_rows(self._fields(offset, row_count))
