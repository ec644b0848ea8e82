"""Events -> metrics, whoever exports them. Labels: table names, states, SQLSTATEs, reasons."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from batchbench.events import (
    ChunkRetried,
    ChunkSplit,
    ChunkWritten,
    Event,
    InFlight,
    LoadEnded,
    Paused,
    RowsRejected,
    RowsSettled,
)

PREFIX = "batchbench"

CHUNK_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histogram's buckets."""

# Triggers may raise any SQLSTATE: what is no class of PostgreSQL's own shares one label.
# Source: PostgreSQL documentation, appendix A.
_CLASSES = frozenset(
    re.findall(
        r"\w\w",
        "00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B"
        " 3D 3F 40 42 44 53 54 55 57 58 72 F0 HV P0 XX",
    )
)
_NO_SQLSTATE = "connection"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. unit: "" where it counts things. labels: by name, in order. text: what it is."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    labels: tuple[str, ...]
    text: str

    @property
    def prometheus_name(self) -> str:
        """As Prometheus's conventions have it: prefix, unit, and _total for a counter."""
        total = "total" if self.kind == "counter" else ""
        return "_".join(filter(None, (PREFIX, self.name, self.unit, total)))


_T = ("table",)
ROWS = Metric("rows", "counter", "", ("table", "state"), "Rows by what became of them")
REJECTED = Metric(
    "rejected_rows", "counter", "", ("table", "sqlstate_class"), "Rejected rows by SQLSTATE class"
)
SENT = Metric("sent", "counter", "bytes", _T, "Bytes of rows in chunks that were written")
CHUNK = Metric("chunk", "histogram", "seconds", _T, "What it took to write a chunk")
CHUNK_SIZE = Metric("chunk_size", "gauge", "rows", _T, "Most rows a chunk, as in use")
RETRIES = Metric(
    "retries", "counter", "", ("table", "sqlstate"), "Transactions that were written again"
)
SPLITS = Metric(
    "splits", "counter", "", ("table", "sqlstate_class"), "Rows that failed together, split apart"
)
PAUSED = Metric(
    "paused", "counter", "seconds", ("reason",), "What was waited to stay within the user's limits"
)
IN_FLIGHT = Metric("in_flight", "gauge", "bytes", _T, "Bytes that chunks in flight hold")
IN_FLIGHT_LIMIT = Metric("in_flight_limit", "gauge", "bytes", _T, "Bytes that they may hold")
QUEUE_AGE = Metric("queue_age", "gauge", "seconds", _T, "Age of the oldest rows that wait")
WRITERS_BUSY = Metric("writers_busy", "gauge", "", _T, "Writers that have a chunk in hand")
WRITERS = Metric("writers", "gauge", "", _T, "Writers, each with a connection of its own")

METRICS = (
    *(ROWS, REJECTED, SENT, CHUNK, CHUNK_SIZE, RETRIES, SPLITS, PAUSED),
    *(IN_FLIGHT, IN_FLIGHT_LIMIT, QUEUE_AGE, WRITERS_BUSY, WRITERS),
)


class Instruments(Protocol):
    """What exports counters and histograms."""

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """Add to a counter."""

    def record(self, metric: Metric, value: float, *labels: str) -> None:
        """Enter a value into a histogram."""


Level = tuple[Metric, float, str]
"""A gauge's metric, value and table."""


@dataclass(slots=True)
class EventMetrics:
    """Listens to any number of loads and writers; of those of one table the levels add up."""

    instruments: Instruments
    clock: Callable[[], float] = time.monotonic
    _in_flight: dict[str, InFlight] = field(default_factory=dict)
    _chunk_rows: dict[str, int] = field(default_factory=dict)

    def listen(self, event: Event) -> None:
        """Take one event of the engine."""
        add = self.instruments.add
        match event:
            case RowsSettled():
                add(ROWS, event.row_count, event.table, event.state)
            case RowsRejected():
                add(ROWS, event.row_count, event.table, "rejected")
                add(REJECTED, event.row_count, event.table, sqlstate_class(event.sqlstate))
            case ChunkWritten():
                self.instruments.record(CHUNK, event.seconds, event.table)
                add(SENT, event.byte_count, event.table)
                self._chunk_rows[event.table] = event.chunk_rows
            case ChunkRetried():
                add(RETRIES, 1, event.table, event.sqlstate or _NO_SQLSTATE)
            case ChunkSplit():
                add(SPLITS, 1, event.table, sqlstate_class(event.sqlstate))
            case Paused():
                add(PAUSED, event.seconds, event.reason)
            case InFlight():
                self._in_flight[event.load_id] = event
            case LoadEnded():
                self._in_flight.pop(event.result.load_id, None)

    def levels(self) -> Iterator[Level]:
        """The gauges as they are now. May be called from another thread."""
        for table, rows in list(self._chunk_rows.items()):
            yield CHUNK_SIZE, rows, table
        by_table: dict[str, list[InFlight]] = {}
        for event in list(self._in_flight.values()):
            by_table.setdefault(event.table, []).append(event)
        for table, events in by_table.items():
            yield from self._summed(table, events)

    def _summed(self, table: str, events: list[InFlight]) -> Iterator[Level]:
        now_s = self.clock()
        ages_s = [now_s - e.waiting_since_s for e in events if e.waiting_since_s is not None]
        yield IN_FLIGHT, sum(event.held_bytes for event in events), table
        yield IN_FLIGHT_LIMIT, sum(event.limit_bytes for event in events), table
        yield QUEUE_AGE, max([0.0, *ages_s]), table
        yield WRITERS_BUSY, sum(event.busy for event in events), table
        yield WRITERS, sum(event.writers for event in events), table


def sqlstate_class(sqlstate: str) -> str:
    """The first two characters of PostgreSQL's own SQLSTATEs, else "other" or "connection"."""
    if not sqlstate:
        return _NO_SQLSTATE
    return sqlstate[:2] if sqlstate[:2] in _CLASSES else "other"
