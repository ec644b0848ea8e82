"""Chunks hold every row once, in order, within every limit, however the source cuts its batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbench.accounting import LoadResult
from batchbench.batch import Batch, Location
from batchbench.config import Settings
from batchbench.drivers import CAPABILITIES
from batchbench.engine.plan import LoadOptions, LoadPlan, plan_table
from batchbench.engine.shapes import locations_of, merged, uncovered
from batchbench.limits import MAX_COLUMNS
from batchbench.sources.source import OneTable
from batchbench.table import TEXT, Column, PgType, Table, TableName
from tests.fixtures.loading import encoded_chunks

INT4 = PgType("int4", 23, 1007, '"pg_catalog"."int4"', "int4")


class Pieces(OneTable):
    """Rows 0, 1, 2 ... in batches of the given sizes, the id in every column."""

    name = "pieces"
    schema_kind = "declared"

    def __init__(self, width: int, sizes: list[int]) -> None:
        self._names = [f"c{i}" for i in range(width)]
        self._sizes = sizes

    def schema(self) -> pa.Schema:
        return pa.schema([(name, pa.int32()) for name in self._names])

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        start = 0
        for size in self._sizes:
            ids = pa.array(np.arange(start, start + size, dtype=np.int32))
            columns = pa.RecordBatch.from_arrays([ids] * len(self._names), self._names)
            yield Batch(columns, Location(self.name, start + 1, size))
            start += size


def plan_of(
    width: int, chunk_size: int, strategy: str, driver: str, texts: Sequence[str] = ()
) -> LoadPlan:
    columns = tuple(Column(f"c{i}", INT4, "integer", 23) for i in range(width))
    columns += tuple(Column(name, TEXT, "text", 25) for name in texts)
    options = LoadOptions(
        settings=Settings(), strategy=strategy, driver=driver, chunk_size=chunk_size
    )
    table = Table(TableName("t", "public"), columns)
    return LoadPlan(options, {None: plan_table(table, None, options)})


@settings(max_examples=60)
@given(
    width=st.one_of(st.integers(1, 40), st.sampled_from([1_599, MAX_COLUMNS])),
    sizes=st.lists(st.integers(0, 60), max_size=8),
    chunk_size=st.integers(1, 100),
    strategy=st.sampled_from(["values", "unnest", "copy"]),
    driver=st.sampled_from(sorted(CAPABILITIES)),
)
def test_no_row_is_lost_or_repeated_and_order_is_kept(
    width: int, sizes: list[int], chunk_size: int, strategy: str, driver: str
) -> None:
    result, notices = LoadResult("x"), []
    plan = plan_of(width, chunk_size, strategy, driver)
    chunks = list(
        encoded_chunks(Pieces(width, sizes), plan, result, notices.append, max_read_bytes=1 << 30)
    )
    limit = CAPABILITIES[driver].parameter_limit
    ids: list[int] = []
    for number, chunk in enumerate(chunks):
        assert chunk.payload is not None
        assert len(chunk.payload.parameters) <= limit
        use = chunk.shape.chunk_plan.use
        assert use.of(chunk.payload.row_count) <= limit
        assert chunk.payload.row_count <= chunk_size
        full = chunk.payload.row_count == chunk.shape.chunk_rows
        assert full or number == len(chunks) - 1
        assert sum(location.row_count for location in chunk.span(0, chunk.row_count)) == len(
            chunk.content.rows
        )
        ids += chunk.content.rows.column(width - 1).to_pylist()
    assert ids == list(range(sum(sizes)))
    assert result.total.read == sum(sizes)
    assert len(notices) == (1 if chunks and chunks[0].shape.chunk_rows < chunk_size else 0)


@given(
    first=st.integers(1, 50),
    count=st.integers(1, 60),
    spans=st.lists(st.tuples(st.integers(1, 120), st.integers(1, 20)), max_size=6),
)
def test_a_resumed_load_reads_exactly_what_is_not_covered(
    first: int, count: int, spans: list[tuple[int, int]]
) -> None:
    columns = pa.record_batch({"id": pa.array(range(first, first + count))})
    batch = Batch(columns, Location("x", first, count))
    left = uncovered(batch, merged(spans))
    covered = {row for start, size in spans for row in range(start, start + size)}
    rows = [row for row in range(first, first + count) if row not in covered]
    assert left.columns.column(0).to_pylist() == left.numbers.tolist() == rows
    places = [] if not rows else locations_of([left])
    assert [n for p in places for n in range(p.first_row, p.first_row + p.row_count)] == rows
    assert all(a.first_row + a.row_count < b.first_row for a, b in pairwise(places))
