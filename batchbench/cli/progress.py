"""Progress on standard error: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

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
from batchbench.harness import Looked, Preparing, SweepEvent, SweepNotice, SweepStarted, TrialEnded
from batchbench.monitoring import event_record

_PLAIN_EVERY_S = 10.0


class _WithBar:
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


class LoadProgress(_WithBar):
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
        if not self._console.is_terminal and now - self._said >= _PLAIN_EVERY_S:
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


class SweepProgress(_WithBar):
    """Listens to a sweep: a live bar with rows/s and time left, plain lines elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = time.monotonic()
        self._bar = Progress(
            BarColumn(),
            TextColumn("{task.completed}/{task.total} loads"),
            TextColumn("{task.fields[left]}"),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, left="")

    def listen(self, event: SweepEvent) -> None:
        """Take one event of the harness."""
        match event:
            case SweepStarted():
                stored = f", {event.stored} trials stored" if event.stored else ""
                self._console.print(f"run {event.run_id} in {event.folder}{stored}", markup=False)
            case Preparing():
                self._bar.update(self._task, description=f"preparing {event.table}")
            case SweepNotice():
                note(event.text)
            case Looked():
                self._looked(event)
            case TrialEnded():
                self._trial(event)

    def _looked(self, event: Looked) -> None:
        look = event.look
        if look.dropped or look.added:
            self._console.print(
                f"after block {look.block}: {len(look.dropped)} stop, {len(look.added)} begin,"
                f" {event.running} go on",
                markup=False,
            )

    def _trial(self, event: TrialEnded) -> None:
        record = event.record
        speed = f"{record.rows_per_s:,.0f} rows/s" if record.rows_per_s else record.status
        left = f"{event.time_left_s:,.0f} s left"
        self._bar.update(
            self._task,
            completed=event.done,
            total=event.total,
            left=left,
            description=f"{record.trial_id}: {speed}",
        )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said >= _PLAIN_EVERY_S:
            self._said = now
            self._console.print(
                f"{event.done}/{event.total} loads, {left}; {record.trial_id}: {speed}",
                markup=False,
            )
