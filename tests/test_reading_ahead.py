"""Sources are read in a thread, ahead of use: who stops does not wait for them, and counts once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from batchbench.accounting import LoadResult
from batchbench.batch import Batch, Location
from batchbench.engine import load
from batchbench.engine.blocking import ENCODING
from batchbench.engine.chunks import Chunk
from batchbench.engine.content import RowContent
from batchbench.events import ChunkWritten, Event, LoadEnded
from batchbench.sources import open_source
from batchbench.sources.source import OneTable
from batchbench.table import TableName
from tests.fixtures.faults import until
from tests.fixtures.loading import encoded_chunks, execute, options
from tests.test_chunks import plan_of

ROWS = 10


class Gated(OneTable):
    """Batches of a chunk each; the n-th is read once its gate is open."""

    name = "gated"
    one_shot = True

    def __init__(self, count: int) -> None:
        self.gates = [threading.Event() for _ in range(count)]
        self.read = [threading.Event() for _ in range(count)]

    def schema(self) -> pa.Schema:
        return pa.schema([("c0", pa.int32())])

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        for number, (gate, read) in enumerate(zip(self.gates, self.read, strict=True)):
            gate.wait(20)
            read.set()
            columns = pa.record_batch({"c0": pa.array([number] * ROWS, pa.int32())})
            yield Batch(columns, Location(self.name, number * ROWS + 1, ROWS))


def test_who_lets_go_of_the_chunks_does_not_wait_for_the_source() -> None:
    source = Gated(3)
    source.gates[0].set()
    source.gates[1].set()
    plan = plan_of(1, ROWS, "copy", "psycopg")
    chunks = encoded_chunks(source, plan, LoadResult("x"), lambda text: None, 1 << 20)
    next(chunks)
    next(chunks)
    closing = threading.Thread(target=chunks.close)  # type: ignore[attr-defined]
    closing.start()
    closing.join(10)
    waited = closing.is_alive()
    source.gates[2].set()
    closing.join()
    assert not waited


async def test_what_is_read_after_the_end_is_not_counted(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (c0 int4)")
    source, written = Gated(4), asyncio.Event()
    source.gates[0].set()
    events: list[Event] = []

    def hear(event: Event) -> None:
        events.append(event)
        if isinstance(event, ChunkWritten):
            written.set()

    how = options(chunk_size=ROWS, parallelism=1)
    loading = asyncio.create_task(load(source, {None: TableName("t")}, dsn18, how, on_event=hear))
    await written.wait()
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading  # though the source holds the next batch back
    (result,) = [event.result for event in events if isinstance(event, LoadEnded)]
    assert result.total.read == result.total.accounted == ROWS
    for gate in source.gates:
        gate.set()
    await asyncio.to_thread(until, "what was being read is counted", lambda: not encoding())
    assert result.total.read == result.total.accounted == ROWS


def encoding() -> bool:
    return any(thread.name == ENCODING for thread in threading.enumerate())


async def test_a_schema_that_does_not_come_is_not_waited_for(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4)")
    asked, gate = threading.Event(), threading.Event()

    def rows() -> Iterator[dict[str, int]]:
        asked.set()
        gate.wait(20)
        yield {"id": 1}

    loading = asyncio.create_task(load(open_source(rows()), {None: TableName("t")}, dsn18))
    await asyncio.to_thread(asked.wait, 20)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert not gate.is_set()
    gate.set()


def test_wide_rows_of_python_make_chunks_within_the_memory_limit() -> None:
    rows = ((i, "é" * 5_000) for i in range(300))
    chunks = list(chunks_of_rows(rows, ["c0", "t"], max_read_bytes=100_000))
    assert {chunk.row_count for chunk in chunks} == {10}
    assert all(isinstance(chunk.content, RowContent) for chunk in chunks)
    assert all(chunk.held_bytes > 100_000 for chunk in chunks)


def chunks_of_rows(
    rows: Iterator[tuple[object, ...]], columns: list[str], max_read_bytes: int
) -> Iterator[Chunk]:
    plan = plan_of(1, 8_000, "copy", "psycopg", texts=["t"])
    source = open_source(rows, columns=columns)
    return encoded_chunks(source, plan, LoadResult("x"), lambda text: None, max_read_bytes)
