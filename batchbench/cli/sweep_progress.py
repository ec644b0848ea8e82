"""Progress of a sweep on standard error, as that of a load is shown."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from batchbench.cli.console import note
from batchbench.cli.progress import PLAIN_EVERY_S, WithBar
from batchbench.harness import Looked, Preparing, SweepEvent, SweepNotice, SweepStarted, TrialEnded


class SweepProgress(WithBar):
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
        if not self._console.is_terminal and now - self._said >= PLAIN_EVERY_S:
            self._said = now
            self._console.print(
                f"{event.done}/{event.total} loads, {left}; {record.trial_id}: {speed}",
                markup=False,
            )
