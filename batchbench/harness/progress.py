"""What a sweep tells those who listen: frozen events, no row values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from batchbench.results import Look, TrialRecord


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """The folder is open. stored: trials that an earlier start recorded."""

    run_id: str
    folder: Path
    stored: int


@dataclass(frozen=True, slots=True)
class Preparing:
    """A table is being copied, and its rows made."""

    table: str


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial is recorded. done, total: loads, warm-ups and stored trials included; `total` and
    `time_left_s` are estimates while a time budget decides how many blocks there will be.
    """

    record: TrialRecord
    done: int
    total: int
    time_left_s: float


@dataclass(frozen=True, slots=True)
class SweepNotice:
    """Something a person should know; each text comes once."""

    text: str


@dataclass(frozen=True, slots=True)
class Looked:
    """An adaptive run looked at its trials. running: configurations that go on."""

    look: Look
    running: int


SweepEvent = Looked | SweepStarted | Preparing | TrialEnded | SweepNotice
SweepListener = Callable[[SweepEvent], None]
