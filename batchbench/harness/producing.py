"""Rows that arrive in a Writer: small payloads of a few producers, at a rate of their own."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from batchbench.accounting import LoadResult
from batchbench.engine import LoadOptions
from batchbench.events import ChunkWritten, Event, Listener, LoadEnded
from batchbench.table import TableName
from batchbench.writer import FlushLimits, Ticket, Writer

_PRODUCERS = 4
_CLOSE_S = 1.0  # of a writer that is broken off; else all is settled before


class Payloads:
    """Rows in memory as payloads: number n, from 0, arrives whole `n * payload_rows / rows_per_s`
    seconds after the first, from one of four producers, who take turns.

    A producer hands one over when it arrives, or once its last one was taken, if that is later: how
    long it waits is counted from the arrival all the same.
    """

    def __init__(self, rows: pa.Table, rows_per_s: float, payload_rows: int) -> None:
        self._batches = rows.combine_chunks().to_batches(max_chunksize=payload_rows)
        self._every_s = payload_rows / rows_per_s
        self._tickets: list[Ticket] = []
        self._waited_s: dict[int, float] = {}
        self._behind_s: dict[int, float] = {}

    async def through(self, writer: Writer) -> float:
        """Hand over all of them, and wait until their tickets are settled; the seconds of that.

        Raises UnwrittenError where rows could not be written.
        """
        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as producers:
            for first in range(_PRODUCERS):
                producers.create_task(self._produce(writer, started_s, first))
        for ticket in self._tickets:
            await ticket
        return time.perf_counter() - started_s

    async def _produce(self, writer: Writer, started_s: float, first: int) -> None:
        for number in range(first, len(self._batches), _PRODUCERS):
            due_s = started_s + number * self._every_s
            await asyncio.sleep(due_s - time.perf_counter())
            ticket = await writer.add(self._batches[number])
            self._behind_s[number] = time.perf_counter() - due_s
            self._tickets.append(ticket)
            settled = partial(self._settled, number, due_s)
            if ticket.settled:
                settled(ticket)
            else:
                ticket.on_settled(settled)

    def _settled(self, number: int, due_s: float, _: Ticket) -> None:
        self._waited_s[number] = time.perf_counter() - due_s

    @property
    def seconds(self) -> tuple[float, ...]:
        """From its arrival to its settled ticket, of each payload, in the order of arrival."""
        return tuple(round(self._waited_s[number], 6) for number in sorted(self._waited_s))

    @property
    def behind_seconds(self) -> tuple[float, ...]:
        """How long after its arrival the writer had taken it, of each."""
        return tuple(round(self._behind_s[number], 6) for number in sorted(self._behind_s))


async def write_arriving(
    payloads: Payloads,
    table: TableName,
    dsn: Any,
    options: LoadOptions,
    max_wait_ms: float,
    on_event: Listener,
) -> LoadResult:
    """Write them through a Writer of their own, flushed at this age or at a full chunk.

    The result is as of a load; seconds: from the first arrival to the last ticket; chunk_seconds:
    of each flush. Raises what Writer raises, UnwrittenError where rows could not be written.
    """
    results: list[LoadResult] = []
    flush_s: list[float] = []

    def listen(event: Event) -> None:
        if isinstance(event, ChunkWritten):
            flush_s.append(event.seconds)
        elif isinstance(event, LoadEnded):
            results.append(event.result)
        on_event(event)

    writer = Writer(
        dsn,
        table,
        replace(options, on_reject="skip"),  # a Writer has no other; the rows are counted anyway
        limits=FlushLimits(max_wait_ms=max_wait_ms),
        on_event=listen,
    )
    await writer.open()
    try:
        seconds = await payloads.through(writer)
    finally:
        await writer.close(limit_s=_CLOSE_S)
    (result,) = results
    result.seconds, result.chunk_seconds = seconds, flush_s
    return result
