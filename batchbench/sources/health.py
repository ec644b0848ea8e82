"""Health JSON payloads: one stream of records that fans out to several tables.

Two shapes, told apart record by record:
- flat: {"data": {"metrics": [{"type": "HeartRate", "user_id": ..., ...}], "workouts": [...]}},
  keys named like the columns;
- app export: {"data": {"metrics": [{"name": "heart_rate", "units": "count/min", "data":
  [{"date": ..., "Avg": 64}]}], "workouts": [{"name": "Running", "start": ..., ...}]}}.

Read event by event with ijson: memory grows with neither a payload nor one metric's samples.
Where an export puts a metric's samples before its name, the names are gathered in a pass of
their own.
"""

from __future__ import annotations

import tempfile
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import ijson
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.batch import Batch, Location
from batchbench.errors import InputError
from batchbench.sources.columns import column
from batchbench.sources.files import ByteReader, Bytes, FileBytes
from batchbench.sources.half_pairs import HalfPairs, unmarked
from batchbench.sources.health_events import Event, Heading, PayloadReader, Record
from batchbench.sources.health_records import UnloadableError, translated
from batchbench.sources.source import SchemaKind, regroup

HELD_ROWS = 8_192
"""Most records of one metric that are held before they become a batch."""

_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """What a payload needs to become rows.

    columns: for each metric type that has a table, the table's columns; every batch has all of
        them. Metric types that are not in it are counted as not loaded.
    user_id: for records that carry none (an app export never does).
    """

    columns: Mapping[str, pa.Schema]
    user_id: str | None = None


class HealthSource:
    """One payload. Each batch's `target` is its metric type; rows are numbered per metric."""

    one_shot = False
    schema_kind: SchemaKind = "declared"

    def __init__(self, data: Bytes, options: HealthOptions) -> None:
        self._data = data
        self._options = options
        self._spool: IO[bytes] | None = None
        self._known_headings: list[Heading] | None = None
        self._not_loaded: Counter[str] = Counter()
        self._remarks: Counter[str] = Counter()
        self.name = data.name

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """The columns of each metric type, as the options give them."""
        return self._options.columns

    def schema(self) -> None:
        """None: see `targets`."""
        return

    def not_loaded(self) -> Mapping[str, int]:
        """Records without a target by type, and records that could not become a row by reason,
        of the latest reading."""
        return dict(self._not_loaded)

    def remarks(self) -> Mapping[str, int]:
        """Keys with a value but no column, and conversions, counted in the latest reading."""
        return dict(self._remarks)

    def fingerprint(self) -> str:
        """Of the file's bytes."""
        return self._data.fingerprint()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`. Raises InputError where an export's user_id is not given.

        A sample is one row: samples of several metrics at the same time, such as steps and
        distance, are not merged into one activity row (that would take memory that grows with
        the payload), so that they clash on the table's key.
        """
        self._not_loaded.clear()
        self._remarks.clear()
        held = {
            metric: _Held(metric, f"{self.name} {metric}", schema)
            for metric, schema in self._options.columns.items()
        }
        for metric, row in self._rows():
            waiting = held[metric]
            waiting.rows.append(row)
            if len(waiting.rows) >= min(max_rows, HELD_ROWS):
                yield from waiting.taken(max_rows, max_bytes)
        for waiting in held.values():
            yield from waiting.taken(max_rows, max_bytes)

    def _rows(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        known = {metric: set(schema.names) for metric, schema in self._options.columns.items()}
        for record in self._records():
            try:
                metric, row = translated(record, self._options.user_id, self._remarks)
            except UnloadableError as reason:
                self._not_loaded[_shown(str(reason))] += 1
                continue
            if metric not in known:
                self._not_loaded[_shown(metric)] += 1
                continue
            if not record.flat and "user_id" in known[metric] and row.get("user_id") is None:
                raise InputError(
                    f"{self.name}: {metric} records carry no user_id, as in every app export; "
                    "give it with --user-id"
                )
            for key in row.keys() - known[metric]:
                if row[key] is None:
                    continue  # flat records bring the keys of all metrics, as nulls
                self._remarks[f"{metric}: key {key!r} has no column, left out"] += 1
            yield metric, row

    def _records(self) -> Iterator[Record]:
        with self._file().open() as file:
            reader = PayloadReader(self._events(file), self._headings)
            try:
                yield from reader.records()
            except RecursionError:
                raise InputError(f"{self.name}: is nested too deeply to be read") from None
        if not reader.found:
            raise InputError(
                f'{self.name}: has no "metrics" or "workouts" array under "data"; it is not a '
                "health payload of a known shape (say --format json or ndjson for other JSON)"
            )

    def _headings(self) -> list[Heading]:
        if self._known_headings is None:
            with self._file().open() as file:
                reader = PayloadReader(self._events(file), list)
                self._known_headings = reader.all_headings()
        return self._known_headings

    def _events(self, file: ByteReader) -> Iterator[Event]:
        halves = HalfPairs(file)
        events = ijson.basic_parse(halves, use_float=True, buf_size=_READ_BYTES)
        try:
            for event, value in events:
                marked = halves.seen and event == "string"
                yield event, unmarked(value) if marked else value
        except (ijson.JSONError, UnicodeDecodeError):
            # from None: the parser's message quotes the text
            raise InputError(
                f"{self.name}: is not valid JSON, or is cut off; get a complete copy of the "
                "payload or repair it"
            ) from None

    def _file(self) -> FileBytes:
        """The payload as a file that can be read again: a stream is written to disk first."""
        if isinstance(self._data, FileBytes):
            return self._data
        if self._spool is None:
            self._spool = tempfile.NamedTemporaryFile(prefix="batchbench-")  # noqa: SIM115
            with self._data.open() as stream:
                while part := stream.read(_READ_BYTES):
                    self._spool.write(part)
            self._spool.flush()
            weakref.finalize(self, self._spool.close)
        return FileBytes(self._spool.name, self.name)


@dataclass(slots=True)
class _Held:
    """Rows of one metric that wait to become a batch."""

    metric: str
    source: str
    schema: pa.Schema
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    first_row: int = 1

    def taken(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """Make batches of all rows held."""
        if not self.rows:
            return
        fields, arrays = [], []
        where = f"{self.source}, from row {self.first_row:,}"
        for declared in self.schema:
            values = [row.get(declared.name) for row in self.rows]
            found, array = column(declared.name, values, None, where)
            array = _as_declared(array, declared.type)
            fields.append(pa.field(declared.name, array.type, metadata=found.metadata))
            arrays.append(array)
        self.rows = []
        whole = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        for columns in regroup([whole], max_rows, max_bytes):
            location = Location(self.source, self.first_row, columns.num_rows)
            yield Batch(columns, location, self.metric)
            self.first_row += columns.num_rows


def _shown(kind: str) -> str:
    """For people, who cannot be shown half a surrogate pair."""
    return kind.encode(errors="replace").decode()


def _as_declared(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The declared type where every value has it exactly; else as the payload has it.

    Text stays text (uuid), but times with an offset become timestamps, so that batches share a
    schema; what does not fit is left to the casts, which name the row.
    """
    types = pa.types
    if types.is_null(values.type):
        return pa.nulls(len(values), pa.string() if types.is_fixed_size_binary(kind) else kind)
    number = types.is_integer(values.type) or types.is_floating(values.type)
    wants_number = types.is_integer(kind) or types.is_floating(kind)
    if types.is_timestamp(kind) and types.is_string(values.type):
        # the export writes 2025-09-09 05:06:07 +0000
        values, plain = pc.replace_substring_regex(values, _BLANK_OFFSET, r"\1\2"), values
    elif number and wants_number:
        plain = values
    else:
        return values
    try:
        return values.cast(kind)
    except pa.ArrowInvalid:
        return plain


_BLANK_OFFSET = r"^([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9:.]+) ([+-][0-9]{2}:?[0-9]{2})$"
