"""The report of a sweep that is running, served on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchbench.cli.console import err
from batchbench.harness import SweepEvent, SweepListener, SweepStarted, TrialEnded
from batchbench.report import LivePage
from batchbench.results import load_run

_LINGER_S = 3.0  # an open page asks every second: let it have the end


@contextmanager
def watching(folder: Path, *, wanted: bool) -> Iterator[SweepListener]:
    """A listener that keeps the page up to date; one that does nothing where it is not wanted."""
    if not wanted:
        yield lambda event: None
        return
    with LivePage() as page:
        err.print(f"report: {page.url}", markup=False)
        yield lambda event: _follow(page, folder, event)
        page.update(load_run(folder), finished=True)
        time.sleep(_LINGER_S)


def _follow(page: LivePage, folder: Path, event: SweepEvent) -> None:
    if isinstance(event, SweepStarted | TrialEnded):
        page.update(load_run(folder))


def both(one: SweepListener, other: SweepListener) -> SweepListener:
    """Tell two."""

    def listen(event: SweepEvent) -> None:
        one(event)
        other(event)

    return listen
