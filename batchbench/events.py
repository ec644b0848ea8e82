"""What a load tells those who listen: frozen events, no row values.

The engine emits; progress bars, logs, metrics and the harness subscribe. A listener runs on the
engine's event loop, so it must return at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
    before, to the answer; the COMMIT is in it where every chunk has its own.
    """

    table: str
    location: Location
    row_count: int
    written: int
    byte_count: int
    seconds: float


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
class LoadEnded:
    """The load is over, well or not; `result` is final."""

    result: LoadResult


Event = LoadStarted | Notice | ChunkWritten | ChunkRetried | ChunkSplit | RowsRejected | LoadEnded
Listener = Callable[[Event], None]
