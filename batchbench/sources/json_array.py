"""One JSON array of objects. Types as in `ndjson`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import ijson
import pyarrow as pa

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.columns import batch_of_dicts
from batchbench.sources.files import Bytes
from batchbench.sources.half_pairs import HalfPairs, unmarked
from batchbench.sources.mapping import Paths
from batchbench.sources.ndjson import BLOCK_BYTES, nearest, remembered
from batchbench.sources.options import SourceOptions
from batchbench.sources.source import OneTable, SchemaKind, located, without_absent

ARRAY_ROWS = 5_000
_END = object()


class JsonArraySource(OneTable):
    """One JSON array of objects, read as a stream."""

    schema_kind: SchemaKind = "observed"

    def __init__(self, data: Bytes, options: SourceOptions = SourceOptions()) -> None:  # noqa: B008
        self._data = data
        self._options = options
        self._paths = Paths.of(options.columns)
        self.name = data.name
        self.one_shot = data.one_shot
        self._held: Iterator[pa.RecordBatch] | None = None
        self._first: pa.RecordBatch | None = None

    def schema(self) -> pa.Schema:
        """Columns of the first rows; a one-shot source keeps them for `batches`."""
        pieces = self._pieces()
        first = next(pieces, None)
        if self.one_shot:
            self._held, self._first = pieces, first
        return pa.schema([]) if first is None else without_absent(first.schema)

    def fingerprint(self) -> str:
        """Of the file's bytes."""
        return self._data.fingerprint()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        refuses = self._options.missing == "error"
        return located(self._all(), self.name, max_rows, max_bytes, absent_is_error=refuses)

    def _all(self) -> Iterator[pa.RecordBatch]:
        pieces, first = self._held or self._pieces(), self._first
        self._held = self._first = None
        if first is not None:
            yield first
        yield from pieces

    def _pieces(self) -> Iterator[pa.RecordBatch]:
        known: dict[str, pa.Field] = {}
        rows: list[Mapping[str, Any]] = []
        count = 0
        for row in self._objects():
            rows.append(row)
            if len(rows) == ARRAY_ROWS:
                columns = self._columns(rows, known, count)
                known = remembered(known, columns.schema)
                count += len(rows)
                rows = []
                yield columns
        if rows:
            yield self._columns(rows, known, count)

    def _columns(
        self, rows: list[Mapping[str, Any]], known: Mapping[str, pa.Field], count: int
    ) -> pa.RecordBatch:
        where = f"{self.name}, after row {count:,}"
        tells_absent = self._options.missing != "null"
        mapped = self._paths is not None
        return batch_of_dicts(rows, known, where, tells_absent=tells_absent, mapped=mapped)

    def _objects(self) -> Iterator[Mapping[str, Any]]:
        count = 0
        with self._data.open() as reader:
            # no use_float: floats come as Decimal, so that lost digits are seen
            halves = HalfPairs(reader)
            items = ijson.items(halves, "item", buf_size=BLOCK_BYTES)
            while True:
                try:
                    row = next(items, _END)
                except (ijson.JSONError, ValueError):  # ints of too many digits, not UTF-8
                    # from None: the parser's message quotes the text
                    raise InputError(
                        f"{self.name}: is not valid JSON after element {count:,}; the file may "
                        "be cut off, get a complete copy or repair it"
                    ) from None
                if row is _END:
                    return
                count += 1
                if not isinstance(row, dict):
                    raise InputError(
                        f"{self.name}: element {count:,} of the array is no object; each must be "
                        "an object with the columns as keys"
                    )
                exact = _exact(row, halves.seen)
                if self._paths is not None:
                    exact = self._paths.lift(exact, f"{self.name}, element {count:,}")
                yield exact


def _exact(value: Any, halves: bool) -> Any:
    """Numbers as `ndjson` has them, and marked halves of surrogate pairs."""
    if isinstance(value, Decimal):
        return nearest(value)
    if isinstance(value, list):
        return [_exact(element, halves) for element in value]
    if isinstance(value, dict):
        return {key: _exact(element, halves) for key, element in value.items()}
    if halves and isinstance(value, str):
        return unmarked(value)
    return value
