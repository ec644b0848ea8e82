"""Rows that arrive at a rate of their own, however fast they are written: an open loop.

A load that is asked for rows as fast as it takes them (a closed loop) is never late: while the
server stalls, nobody asks. Here each row has a time at which it arrives, set beforehand, and waits
are counted from that.
Source: Tene, "How NOT to Measure Latency" (coordinated omission).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from batchbench.batch import Batch, Location
from batchbench.events import ChunkWritten
from batchbench.sources.source import OneTable


class ArrivingRows(OneTable):
    """Rows in memory as a source that has row n from `n / rows_per_s` seconds after its start on.

    step_rows: of a batch, which comes when its last row has arrived, or as soon as it is asked for
    after that. `end` makes waiting end, and what has not arrived is left out. behind_seconds: of
    each batch, how long it had been there when it was asked for.
    """

    one_shot = True

    def __init__(self, rows: pa.Table, name: str, rows_per_s: float, step_rows: int) -> None:
        self.name = name
        self.behind_seconds: list[float] = []
        self._rows, self._rows_per_s, self._step_rows = rows, rows_per_s, step_rows
        self._started_s = 0.0
        self._ended = threading.Event()

    def schema(self) -> pa.Schema:
        """Columns as the rows declare them."""
        return self._rows.schema

    def arrival_s(self, row_count: int) -> float:
        """On the clock of `time.perf_counter`: when so many rows are there."""
        return self._started_s + row_count / self._rows_per_s

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`; a batch has `step_rows`, whatever its bytes."""
        self._started_s = time.perf_counter()
        step = min(self._step_rows, max_rows)
        for start in range(0, self._rows.num_rows, step):
            columns = self._rows.slice(start, step).combine_chunks().to_batches()[0]
            ahead_s = self.arrival_s(start + columns.num_rows) - time.perf_counter()
            if self._ended.wait(max(0.0, ahead_s)):
                return
            self.behind_seconds.append(max(0.0, -ahead_s))
            yield Batch(columns, Location(self.name, start + 1, columns.num_rows))

    def end(self) -> None:
        """Let no more arrive."""
        self._ended.set()


@dataclass(slots=True)
class Arrivals:
    """How long rows of a source took from their scheduled arrival to their commit."""

    source: ArrivingRows
    waited_s: dict[int, float] = field(default_factory=dict)

    def written(self, event: ChunkWritten) -> None:
        """Take a chunk that was committed just now."""
        first_row = event.location.first_row
        self.waited_s[first_row] = time.perf_counter() - self.source.arrival_s(first_row)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of each chunk, in the order of arrival."""
        return tuple(round(max(0.0, self.waited_s[row]), 6) for row in sorted(self.waited_s))

    @property
    def behind_seconds(self) -> tuple[float, ...]:
        """Of each batch that was taken."""
        return tuple(round(seconds, 6) for seconds in self.source.behind_seconds)
