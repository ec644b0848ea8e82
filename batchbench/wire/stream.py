"""A binary COPY stream that is encoded while it is sent.

Source: PostgreSQL documentation, COPY, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder

from batchbench.table import PgType
from batchbench.wire.fields import wire_array

COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0)
COPY_TRAILER = struct.pack(">h", -1)

_PIECE_BYTES = 1 << 20

Rows = Callable[[int, int], bytes | memoryview]
"""(offset, row count) -> those rows, see `copy_rows`."""


def copy_rows(columns: Sequence[pa.Array], types: Sequence[PgType]) -> bytes | memoryview:
    """The rows of a binary COPY stream, without its header and trailer.

    columns: in the canonical form of their types. pgpq writes them row by row in one pass over
    memory, in less than half of the time that joining columns takes; its own ideas of what an Arrow
    type becomes do not matter to `wire_array`'s types (tests/test_wire.py).
    """
    arrays = [wire_array(values, type_) for values, type_ in zip(columns, types, strict=True)]
    batch = pa.RecordBatch.from_arrays(arrays, [str(place) for place in range(len(arrays))])
    encoder = ArrowToPostgresBinaryEncoder(batch.schema)
    encoder.write_header()
    begin, end = encoder.write_batch(batch), memoryview(encoder.finish())[: -len(COPY_TRAILER)]
    return begin + end if begin else end


class CopyStream:
    """A chunk of at least one row. Its first piece is encoded at once, the others while the one
    before is on its way: so a large chunk neither keeps the server waiting nor lies encoded in
    memory as a whole. It can be sent more than once.

    value_bytes: about what the values take; it sets the rows of a piece.
    begun: whether to encode the first piece at once; without it, only if the stream is sent.
    byte_count: bytes of what was sent of it the last time.
    """

    def __init__(self, rows: Rows, row_count: int, value_bytes: int, *, begun: bool = True) -> None:
        self._rows = rows
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

    def sent(self) -> None:
        """Nothing to do then."""

    def _rest(self, coming: int) -> Iterator[bytes | memoryview]:
        for offset in range(coming, self._row_count, self._piece_rows):
            piece = self._piece(offset)
            self.byte_count += len(piece)
            yield piece
        self.byte_count += len(COPY_TRAILER)
        yield COPY_TRAILER

    def _piece(self, offset: int) -> bytes | memoryview:
        return self._rows(offset, min(self._piece_rows, self._row_count - offset))
