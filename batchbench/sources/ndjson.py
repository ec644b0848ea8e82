"""NDJSON: one object a line.

Types follow JSON: integers are int64, numbers with a point or exponent float64, strings text (no
guessing of dates). Numbers that these cannot hold exactly become decimals, or text beyond that.
Lists of one scalar type are lists; objects and other lists are JSON documents as text (fields
marked with `columns.JSON_METADATA`). A missing key is null, unless the options say otherwise. A key
that appears later adds a column from there on: its first batch has one column more, all later
ones too; what is missing is known for the columns seen so far.

A block whose columns and types are those already known is parsed by pyarrow, nine times faster
(not where paths are mapped, nor where a key is null here and missing there, and that matters);
every doubt sends it to `json.loads`, line by line, which is also where errors get line numbers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.columns import absent_keys, batch_of_dicts, is_json
from batchbench.sources.files import ByteReader, Bytes
from batchbench.sources.mapping import Paths
from batchbench.sources.options import SourceOptions
from batchbench.sources.source import ABSENT, OneTable, SchemaKind, located, without_absent

BLOCK_BYTES = 1 << 20
LINE_BYTES = 256 << 20
"""The longest line that is read; a longer one is no NDJSON."""

# Over 16 digits, whole beyond 2**53 by its exponent, or beyond float64: pyarrow makes 0 of 1e-400.
_LOSABLE_NUMBER = re.compile(rb"[0-9.]{17,}|[eE]\+?[0-9]{2}|[eE]-[0-9]{3}")
_INT_DIGITS = 4_300  # Python reads no longer int
_HUGE_INTEGER = re.compile(rb"[0-9]{%d}" % _INT_DIGITS)
_INTEGER_LIMIT = 2.0**53
_FAST = {pa.int64(), pa.float64(), pa.bool_(), pa.string(), pa.null()}
_PLAIN_KEY = re.compile(r"\w+", re.ASCII)
_ESCAPED_ASCII = re.compile(rb"\\u00[0-7]")
_BLANK = re.compile(rb"^[ \t\r]*$", re.MULTILINE)
_Fields = dict[str, pa.Field]


class NdjsonSource(OneTable):
    """Lines of JSON objects, from a file or a stream."""

    schema_kind: SchemaKind = "observed"

    def __init__(self, data: Bytes, options: SourceOptions = SourceOptions()) -> None:  # noqa: B008
        self._data = data
        self._options = options
        self.name = data.name
        self.one_shot = data.one_shot

    def schema(self) -> pa.Schema:
        """Columns of the first block; raises InputError where it cannot be parsed."""
        head = self._data.peek(BLOCK_BYTES)
        whole = head[: head.rfind(b"\n") + 1]
        if not whole:
            size = 2 * BLOCK_BYTES
            while len(head) == size // 2 and size <= LINE_BYTES and b"\n" not in head:
                head, size = self._data.peek(size), size * 2
            whole = head[: head.rfind(b"\n") + 1] or head
        first = next(_BlockParser(self.name, self._options).parse(whole), None)
        return pa.schema([]) if first is None else without_absent(first.schema)

    def fingerprint(self) -> str:
        """Of the file's bytes."""
        return self._data.fingerprint()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        refuses = self._options.missing == "error"
        return located(self._pieces(), self.name, max_rows, max_bytes, absent_is_error=refuses)

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        parser = _BlockParser(self.name, self._options)
        with self._data.open() as reader:
            for block in _blocks_of_lines(reader):
                yield from parser.parse(block)


def _blocks_of_lines(reader: ByteReader) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    while part := reader.read(BLOCK_BYTES):
        end = part.rfind(b"\n") + 1
        if end:
            yield b"".join([*held, part[:end]])
            held, size = [part[end:]], len(part) - end
            continue
        held.append(part)
        size += len(part)
        if size > LINE_BYTES:
            raise InputError(
                f"{reader.name}: a line is longer than {LINE_BYTES >> 20} MiB; NDJSON has one "
                "object on each line (a JSON array or a health payload is read with --format "
                "json or health)"
            )
    if size:
        yield b"".join(held)


class _BlockParser:
    """Parses block after block; remembers the columns seen and the lines passed."""

    def __init__(self, source: str, options: SourceOptions) -> None:
        self._source = source
        self._paths = Paths.of(options.columns)
        self._tells_absent = options.missing != "null"
        self._known: _Fields = {}
        self._line = 1

    def parse(self, block: bytes) -> Iterator[pa.RecordBatch]:
        if self._line == 1 and block.startswith(b"\xef\xbb\xbf"):
            block = block[3:]
        lines = block.count(b"\n") + (not block.endswith(b"\n"))
        columns = self._fast(block, lines)
        if columns is None:
            columns = self._exact(block)
        self._line += lines
        if columns is not None:
            yield columns

    def _fast(self, block: bytes, lines: int) -> pa.RecordBatch | None:
        """What pyarrow makes of the block; None where it may not be what JSON says."""
        fields = self._known.values()
        if self._paths is not None:
            return None
        if not fields or any(f.type not in _FAST or is_json(f) for f in fields):
            return None
        if _BLANK.search(block[:-1] if block.endswith(b"\n") else block):
            return None  # blank lines would spoil the count of rows below
        floats = [f.name for f in fields if f.type == pa.float64()]
        if floats and _LOSABLE_NUMBER.search(block):
            return None
        try:
            block.decode()  # pyarrow does not check
            table = pj.read_json(
                pa.BufferReader(block),
                read_options=pj.ReadOptions(use_threads=False, block_size=len(block) + 1),
                parse_options=pj.ParseOptions(
                    explicit_schema=pa.schema(list(fields)), unexpected_field_behavior="error"
                ),
            )
        except (pa.ArrowInvalid, UnicodeDecodeError):
            return None
        if table.num_rows != lines or any(_beyond_float(table[name]) for name in floats):
            return None
        batch = table.combine_chunks().to_batches()[0].cast(pa.schema(list(fields)))
        if not self._tells_absent:
            return batch
        absent = _absent(block, batch)
        return None if absent is None else batch.append_column(ABSENT, absent)

    def _exact(self, block: bytes) -> pa.RecordBatch | None:
        decoder = json.JSONDecoder(
            object_pairs_hook=_unique_keys,
            parse_float=_exact_float if _LOSABLE_NUMBER.search(block) else None,
            parse_int=_any_integer if _HUGE_INTEGER.search(block) else None,
        )
        rows = []
        for number, line in enumerate(block.split(b"\n"), self._line):
            if line and not line.isspace():
                rows.append(self._row(line, number, decoder))
        if not rows:
            return None
        last = self._line + block.count(b"\n") - 1
        where = f"{self._source}, lines {self._line}-{last}"
        mapped, tells = self._paths is not None, self._tells_absent
        columns = batch_of_dicts(rows, self._known, where, tells_absent=tells, mapped=mapped)
        self._known = remembered(self._known, columns.schema)
        return columns

    def _row(self, line: bytes, number: int, decoder: json.JSONDecoder) -> Mapping[str, Any]:
        where = f"{self._source}, line {number:,}"
        try:
            row = decoder.decode(line.decode())
        except UnicodeDecodeError:
            raise InputError(f"{where}: is not UTF-8 text; convert the file to UTF-8") from None
        except json.JSONDecodeError as error:
            # from None: the error holds the whole line
            raise InputError(
                f"{where}: is not valid JSON (character {error.colno}); repair or remove the line"
            ) from None
        except _DuplicateKeyError as error:
            raise InputError(f"{where}: has the key {error.key!r} twice; keep one") from None
        except RecursionError:
            raise InputError(f"{where}: is nested too deeply to be read") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{where}: is a JSON {_json_name(row)}; each line must be an object with the "
                "columns as keys"
            )
        return row if self._paths is None else self._paths.lift(row, where)


def _absent(block: bytes, rows: pa.RecordBatch) -> pa.Array | None:
    """`Batch.absent` of rows of scalars; None where it cannot be told for sure.

    pyarrow makes nulls of keys that are not there; how often the block has the key says of a
    column whether all its nulls are such, or none.
    """
    lacks = np.zeros(rows.shape, np.bool_)
    if any(values.null_count for values in rows.columns) and _ESCAPED_ASCII.search(block):
        return None  # a key may be spelled that way
    for place, (name, values) in enumerate(zip(rows.schema.names, rows.columns, strict=True)):
        if not values.null_count:
            continue
        if not _PLAIN_KEY.fullmatch(name):
            return None  # it may be spelled with escapes
        there = len(re.findall(rb'"%s"\s*:' % name.encode(), block))
        if there == len(values) - values.null_count:
            lacks[:, place] = values.is_null().to_numpy(zero_copy_only=False)
        elif there != len(values):
            return None
    return absent_keys(lacks)


def remembered(known: Mapping[str, pa.Field], schema: pa.Schema) -> _Fields:
    """The columns seen so far, each with the latest type that says something."""
    return {**known, **{f.name: f for f in without_absent(schema)}}


def _beyond_float(values: pa.ChunkedArray) -> bool:
    # an integer of 2**53 or more may have been rounded on its way into float64
    return bool(pc.any(pc.greater_equal(pc.abs(values), _INTEGER_LIMIT)).as_py())


def _exact_float(text: str) -> float | Decimal:
    return nearest(Decimal(text))


def nearest(exact: Decimal) -> float | Decimal:
    """The float that says the same, as its digits and, where it is a whole number, by its value."""
    number = float(exact)
    same = Decimal(repr(number)) == exact
    large = same and abs(number) >= _INTEGER_LIMIT
    return number if same and not (large and Decimal(number) != exact) else exact


def _any_integer(text: str) -> int | Decimal:
    return int(text) if len(text) <= _INT_DIGITS else Decimal(text)


class _DuplicateKeyError(Exception):
    def __init__(self, key: str) -> None:
        self.key = key


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [key for key, _ in pairs]
        raise _DuplicateKeyError(next(key for key in names if names.count(key) > 1))
    return row


def _json_name(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
