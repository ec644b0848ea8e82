"""Progress of a load on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from batchbench.accounting import LoadResult
from batchbench.cli.console import note
from batchbench.events import (
    ChunkRetried,
    ChunkSizeChanged,
    ChunkWritten,
    Event,
    InFlight,
    LoadEnded,
    LoadStarted,
    Notice,
    RowsRejected,
)
from batchbench.monitoring import event_record

PLAIN_EVERY_S = 10.0
"""Between two lines where there is no terminal."""


class WithBar:
    """A context in which a bar is live."""

    _bar: Progress

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()


class LoadProgress(WithBar):
    """Listens to a load. `result` is there once the load has ended, well or not."""

    def __init__(self, console: Console) -> None:
        self.result: LoadResult | None = None
        self._console = console
        self._rows = self._bytes = self._rejected = 0
        self._sizes: dict[str, int] = {}
        self._started = self._said = time.monotonic()
        self._bar = Progress(
            TextColumn("{task.fields[rows]:>14,} rows"),
            TextColumn("{task.fields[rows_per_s]:>12,.0f} rows/s"),
            TextColumn("{task.fields[mb_per_s]:>8,.1f} MB/s"),
            TextColumn("{task.fields[chunks]}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "load", total=None, rows=0, rows_per_s=0.0, mb_per_s=0.0, chunks=""
        )

    def listen(self, event: Event) -> None:
        """Take one event of the engine."""
        match event:
            case LoadStarted():
                self._started = self._said = time.monotonic()
                self._console.print(
                    f"load id: {event.load_id} ({event.driver}, writers: {event.writers})"
                )
            case Notice():
                note(event.text)
            case ChunkWritten():
                self._count(event)
            case ChunkSizeChanged():
                self._sizes[event.table] = event.rows
                self._bar.update(self._task, chunks=self._chunks)
            case ChunkRetried():
                why = event.sqlstate or "broken connection"
                note(f"{event.location}: retry {event.retry} ({why}) in {event.delay_s:.1f} s")
            case RowsRejected():
                self._rejected += event.row_count
            case LoadEnded():
                self.result = event.result

    @property
    def _chunks(self) -> str:
        """Chunk sizes that adapt, as they are now."""
        sizes = ", ".join(f"{rows:,}" for rows in self._sizes.values())
        return f"chunks of {sizes}" if sizes else ""

    def _count(self, event: ChunkWritten) -> None:
        now = time.monotonic()
        self._rows += event.row_count
        self._bytes += event.byte_count
        seconds = max(now - self._started, 1e-9)
        rows_per_s, mb_per_s = self._rows / seconds, self._bytes / 1e6 / seconds
        self._bar.update(self._task, rows=self._rows, rows_per_s=rows_per_s, mb_per_s=mb_per_s)
        if not self._console.is_terminal and now - self._said >= PLAIN_EVERY_S:
            self._said = now
            self._console.print(
                f"{self._rows:,} rows sent, {rows_per_s:,.0f} rows/s, {mb_per_s:,.1f} MB/s,"
                f" {self._rejected:,} rejected" + (f", {self._chunks}" if self._sizes else "")
            )


class JsonLog:
    """Writes each event as a JSON object a line, for programs. As `LoadProgress` otherwise."""

    def __init__(self, console: Console) -> None:
        self.result: LoadResult | None = None
        self._console = console

    def __enter__(self) -> JsonLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to end."""

    def listen(self, event: Event) -> None:
        """Take one event of the engine; levels are for monitoring, not for a log."""
        if isinstance(event, InFlight):
            return
        if isinstance(event, LoadEnded):
            self.result = event.result
        self._console.print(json.dumps(event_record(event)), markup=False)
