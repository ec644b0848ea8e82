"""CSV: a header row, then rows of text.

Every column is text: nothing is guessed while loading (`inference.infer_types` looks at a whole
file). An empty field is null, a quoted empty field ("") the empty string; where another
`null_string` is named, an unquoted field that says so is null, and an empty one the empty string.
Quoted fields may hold delimiters, doubled quotes and line breaks. Blank lines are skipped, except
in a file of one column, where such a line is an empty field.
"""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.csv as pcsv

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.files import ByteReader, Bytes, OneWay
from batchbench.sources.options import SourceOptions
from batchbench.sources.source import OneTable, SchemaKind, located, unique_names

BLOCK_BYTES = (1 << 20, 8 << 20)
"""Bytes parsed at a time, and so the longest row: a file that has longer rows is read on with the
second. Small, because pyarrow reads up to 32 blocks ahead."""

HEADER_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
_NAME_IT = "name its encoding with --encoding, such as latin-1"


class DelimitedSource(OneTable):
    """A CSV file or stream. options: how it is written."""

    schema_kind: SchemaKind = "text"

    def __init__(self, data: Bytes, options: SourceOptions = SourceOptions()) -> None:  # noqa: B008
        self._data = data
        self._delimiter = options.delimiter or ","
        self._quote = options.quote
        self._null_string = options.null_string
        self.name = data.name
        self.one_shot = data.one_shot
        self._header: tuple[list[str], int] | None = None

    def schema(self) -> pa.Schema:
        """The header's names, all text. Raises InputError where the header cannot be used."""
        return pa.schema([(name, pa.string()) for name in self._read_header()[0]])

    def fingerprint(self) -> str:
        """Of the file's bytes."""
        return self._data.fingerprint()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        return located(self._pieces(), self.name, max_rows, max_bytes)

    def _read_header(self) -> tuple[list[str], int]:
        if self._header is None:
            self._header = self._parse_header(self._data.peek(HEADER_BYTES))
        return self._header

    def _parse_header(self, head: bytes) -> tuple[list[str], int]:
        start = len(_BOM) if head.startswith(_BOM) else 0
        if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise InputError(f"{self.name}: is UTF-16 text; name it with --encoding utf-16")
        end = _record_end(head, start, self._quote.encode())
        if end is None:
            raise InputError(
                f"{self.name}: no header row in the first {HEADER_BYTES >> 20} MiB (a quote that "
                "is never closed?); the first row must name the columns"
            )
        try:
            text = head[start:end].decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"{self.name}: the header row is not UTF-8 text; {_NAME_IT}"
            ) from error
        rows = csv.reader(
            text.splitlines(keepends=True),
            delimiter=self._delimiter,
            quotechar=self._quote or None,
            quoting=csv.QUOTE_MINIMAL if self._quote else csv.QUOTE_NONE,
        )
        names = next(rows, [])
        if not names:
            raise InputError(
                f"{self.name}: starts with a blank line; the first row must name the columns"
            )
        unique_names(names, self.name)
        return names, end

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        rows_read = 0
        for block_bytes in BLOCK_BYTES[:1] if self.one_shot else BLOCK_BYTES:
            position = 0
            try:
                for piece in self._parsed(block_bytes):
                    new = piece.slice(max(0, rows_read - position))
                    position += piece.num_rows
                    rows_read = max(rows_read, position)
                    yield new
            except _RowTooLongError:
                continue  # again with longer blocks, past the rows that were handed out
            return
        advice = "save the stream to a file" if self.one_shot else "use Parquet or NDJSON"
        raise InputError(
            f"{self.name}, after row {rows_read:,}: a row is longer than {block_bytes >> 20} MiB; "
            f"repair a quote that is never closed, or {advice} for rows of such length"
        )

    def _parsed(self, block_bytes: int) -> Iterator[pa.RecordBatch]:
        names, header_bytes = self._read_header()
        with self._data.open() as reader:
            _skip(reader, header_bytes)
            if not reader.peek(1):
                return
            rows_read = 0
            last = None
            watch = _QuoteWatch(reader, 2 * block_bytes, self._quote.encode())
            refused: list[Any] = []
            blocks = self._blocks(watch, names, block_bytes, refused)
            while True:
                try:
                    piece = next(blocks, None)
                except pa.ArrowInvalid as error:
                    # from None: pyarrow's message holds the row
                    if refused:
                        raise self._wrong_width(refused[0]) from None
                    raise self._broken(str(error), rows_read) from None
                if piece is None:
                    break
                rows_read += piece.num_rows
                last = piece if piece.num_rows else last
                yield piece
        if last is not None and watch.left_open(last[-1][-1].as_py()):
            raise InputError(
                f"{self.name}, row {rows_read:,}: a quoted field is never closed; repair the "
                "file or get a complete copy"
            )

    def _blocks(
        self, file: _QuoteWatch, names: list[str], block_bytes: int, refused: list[Any]
    ) -> Iterator[pa.RecordBatch]:
        read = pcsv.ReadOptions(column_names=names, use_threads=False, block_size=block_bytes)

        def refuse(row: Any) -> str:  # pyarrow swallows what a handler raises
            refused.append(row)
            return "error"

        parse = pcsv.ParseOptions(
            delimiter=self._delimiter,
            quote_char=self._quote or False,
            double_quote=bool(self._quote),
            newlines_in_values=True,
            ignore_empty_lines=len(names) > 1,
            invalid_row_handler=refuse,
        )
        convert = pcsv.ConvertOptions(
            column_types={name: pa.string() for name in names},
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[self._null_string],
        )
        with pa.PythonFile(file, mode="r") as stream:
            yield from pcsv.open_csv(stream, read, parse, convert)

    def _wrong_width(self, row: Any) -> InputError:
        return InputError(
            f"{self.name}, row {row.number:,}: has {row.actual_columns} fields, the header has "
            f"{row.expected_columns}; repair the row, or quote fields that hold a "
            f"{self._delimiter!r}"
        )

    def _broken(self, message: str, rows_read: int) -> Exception:
        # pyarrow has one class for all of them
        where = f"{self.name}, after row {rows_read:,}"
        if "UTF8" in message:
            return InputError(f"{where}: is not UTF-8 text; {_NAME_IT}")
        if "straddl" in message:
            return _RowTooLongError()
        return InputError(f"{where}: is not valid CSV; repair the file")


class _RowTooLongError(Exception):
    """A row does not fit into a block."""


def _record_end(head: bytes, start: int, quote: bytes) -> int | None:
    """Where the first record ends, its line break included; None where it does not."""
    position = start
    while (position := head.find(b"\n", position)) >= 0:
        position += 1
        if not quote or head.count(quote, start, position) % 2 == 0:
            return position
    whole = len(head) < HEADER_BYTES and (not quote or head.count(quote, start) % 2 == 0)
    return len(head) if whole else None


def _skip(reader: ByteReader, size: int) -> None:
    while size:
        size -= len(reader.read(size))


class _QuoteWatch(OneWay):
    """Passes bytes on and tells at the end whether a quoted field was left open.

    pyarrow takes a quote that is never closed for one that ends with the file, and so swallows
    all rows after it without an error.
    """

    def __init__(self, reader: ByteReader, tail_bytes: int, quote: bytes) -> None:
        self._quote = quote
        self._reader = reader
        self._tail_bytes = tail_bytes
        self._quotes = 0
        self._last: deque[bytes] = deque()
        self._last_bytes = 0

    def read(self, size: int = -1) -> bytes:
        part = self._reader.read(size)
        self._quotes += part.count(self._quote) if self._quote else 0
        self._last.append(part)
        self._last_bytes += len(part)
        while self._last_bytes - len(self._last[0]) >= self._tail_bytes:
            self._last_bytes -= len(self._last.popleft())
        return part

    def left_open(self, last_value: str | None) -> bool:
        """Whether the file ends within quotes. `last_value`: the last row's last field.

        Quotes are odd also where a field has a bare one in it (5" pipe), so the tail must show
        the field itself, opened and not closed.
        """
        if self._quotes % 2 == 0 or last_value is None:
            return False
        doubled = last_value.encode().replace(self._quote, self._quote * 2)
        return b"".join(self._last).endswith(self._quote + doubled)
