"""The report of a sweep that is running, served on loopback."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from batchbench.cli.console import err, warn
from batchbench.cli.gated import note_by
from batchbench.errors import ConfigError
from batchbench.gate import configured_rules
from batchbench.harness import SweepEvent, SweepListener, SweepStarted, TrialEnded
from batchbench.report import Judge, LivePage
from batchbench.results import load_run

_LINGER_S = 3.0  # an open page asks every second: let it have the end


@contextmanager
def watching(folder: Path, *, wanted: bool) -> Iterator[SweepListener]:
    """A listener that keeps the page up to date; one that does nothing where it is not wanted."""
    if not wanted:
        yield lambda event: None
        return
    with LivePage(judge=_judge()) as page:
        err.print(f"report: {page.url}", markup=False)
        yield lambda event: _follow(page, folder, event)
        page.update(load_run(folder), finished=True)
        time.sleep(_LINGER_S)


def _judge() -> Judge | None:
    """By the rules as they are now. A sweep is not lost over one that is broken."""
    try:
        rules = configured_rules()
    except ConfigError as error:
        warn(str(error))
        return None
    return None if rules is None else partial(note_by, rules)


def _follow(page: LivePage, folder: Path, event: SweepEvent) -> None:
    if isinstance(event, SweepStarted):
        page.update(load_run(folder))
    elif isinstance(event, TrialEnded):
        page.update(load_run(folder), planned=event.total)


def both(one: SweepListener, other: SweepListener) -> SweepListener:
    """Tell two."""

    def listen(event: SweepEvent) -> None:
        one(event)
        other(event)

    return listen
