"""What a load tells those who listen: frozen events, no row values.

The engine emits; progress bars, logs, metrics and the harness subscribe. A listener runs on the
engine's event loop, so it must return at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from batchbench.accounting import LoadResult
from batchbench.batch import Location


@dataclass(frozen=True, slots=True)
class LoadStarted:
    """The first row is about to be sent. writers: connections in use."""

    load_id: str
    driver: str
    writers: int


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know once: a chunk size that was cut, a choice that was made."""

    text: str


@dataclass(frozen=True, slots=True)
class ChunkWritten:
    """The server took a chunk; its transaction may still be open.

    written: rows that the server says it wrote. seconds: from BEGIN or the end of the chunk
    before, to the answer; the COMMIT is in it where every chunk has its own. chunk_rows: what a
    full chunk has here.
    """

    table: str
    location: Location
    row_count: int
    written: int
    byte_count: int
    seconds: float
    chunk_rows: int


@dataclass(frozen=True, slots=True)
class ChunkSizeChanged:
    """An adaptive chunk size moved, or settled. rows: of most chunks of the table from now on.

    Probes of other sizes are not told; the `row_count` of `ChunkWritten` shows them.
    """

    table: str
    rows: int
    settled: bool


@dataclass(frozen=True, slots=True)
class ChunkRetried:
    """A transaction failed for no fault of its rows and is written again after `delay_s`.

    sqlstate: "" for a broken connection.
    """

    table: str
    location: Location
    sqlstate: str
    retry: int
    delay_s: float


@dataclass(frozen=True, slots=True)
class ChunkSplit:
    """Rows that failed together are written apart. row_count: of them; parts: into how many."""

    table: str
    location: Location
    sqlstate: str
    row_count: int
    parts: int


@dataclass(frozen=True, slots=True)
class RowsRejected:
    """Rows are in the dead letter. sqlstate: of the first."""

    table: str
    row_count: int
    sqlstate: str


@dataclass(frozen=True, slots=True)
class RowsSettled:
    """Rows got into a state for good: one of `accounting.STATES` ("rejected" only where an earlier
    start of the load did that, see `RowsRejected`), or "lost", of rows that had been committed and
    are no longer there. table: "" of rows without one.
    """

    table: str
    state: str
    row_count: int


@dataclass(frozen=True, slots=True)
class InFlight:
    """What is in flight now, said whenever it changes.

    table: "" where a load has several. waiting_since_s: `time.monotonic()` of when the oldest rows
    that no writer has taken yet came; None where none wait. busy: writers with a chunk in hand.
    """

    load_id: str
    table: str
    held_bytes: int
    limit_bytes: int
    waiting_since_s: float | None
    busy: int
    writers: int


@dataclass(frozen=True, slots=True)
class Paused:
    """A writer held back a chunk for `seconds`, to stay within a limit that the user set."""

    reason: Literal["rows", "wal", "replica lag", "locks"]
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadEnded:
    """The load is over, or the writer closed, well or not; `result` is final."""

    result: LoadResult


Event = (
    LoadStarted
    | Notice
    | ChunkWritten
    | ChunkSizeChanged
    | ChunkRetried
    | ChunkSplit
    | RowsRejected
    | RowsSettled
    | InFlight
    | Paused
    | LoadEnded
)
Listener = Callable[[Event], None]
