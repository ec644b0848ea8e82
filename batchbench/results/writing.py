"""Append records to a run, each safe on disk the moment its trial ends."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

from batchbench.errors import ConfigError
from batchbench.results.reading import RUN_FILE, TRIALS_FILE, load_run, read_run_file
from batchbench.results.records import SCHEMA_VERSION, Look, RunInfo, TrialRecord

if sys.platform != "win32":
    import fcntl

_SECRET_OPTIONS = ("--dsn",)
_ADDRESS = re.compile(r"://|\b(?:host|hostaddr|user|password|passfile|service|dbname)\s*=", re.I)
_HIDDEN = "***"


def safe_command(arguments: Sequence[str]) -> tuple[str, ...]:
    """A command line as it may be stored: *** for what is, or looks like, a server's address."""
    safe: list[str] = []
    for argument in arguments:
        option, equals, _ = argument.partition("=")
        if safe and safe[-1] in _SECRET_OPTIONS:
            safe.append(_HIDDEN)
        elif equals and option in _SECRET_OPTIONS:
            safe.append(f"{option}={_HIDDEN}")
        else:
            safe.append(_HIDDEN if _ADDRESS.search(argument) else argument)
    return tuple(safe)


class RunWriter:
    """Appends records to a run; each is on disk when `append` returns.

    records: what the run holds. The folder is locked against a second writer until `close`.
    """

    def __init__(self, folder: Path, info: RunInfo, records: Sequence[TrialRecord] = ()) -> None:
        self.folder = folder
        self.info = info
        self.records = list(records)
        self._ids = {record.trial_id for record in records}
        self._stream = _open_private(folder / TRIALS_FILE, "ab")
        try:
            _lock(self._stream.fileno(), folder)
        except ConfigError:
            self._stream.close()
            raise

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self._ids

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def append(self, record: TrialRecord) -> None:
        """Store a record. Raises ValueError where the run has that trial already."""
        if record.trial_id in self:
            raise ValueError(f"trial {record.trial_id} is stored already")
        line = json.dumps(asdict(record), ensure_ascii=False, allow_nan=False)
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._ids.add(record.trial_id)
        self.records.append(record)

    def add_look(self, look: Look) -> None:
        """Store what an adaptive run goes on with."""
        self.info = replace(self.info, looks=(*self.info.looks, look))
        _write_run_file(self.folder, self.info)

    def close(self) -> None:
        """Close the file and let go of the folder."""
        self._stream.close()


def open_run(folder: Path, info: RunInfo, *, resume: bool = False) -> RunWriter:
    """Open a folder for writing: a new one, or with `resume` the one that is there.

    A resumed run keeps its own description and gets `info`'s start added; a torn last line is
    dropped. A folder without a run starts one, also with `resume`.
    Raises ConfigError where the folder holds something (without `resume`), was made by another
    plan or another version, or is being written to; InputError where its run.json cannot be read.
    """
    info = replace(info, command=safe_command(info.command))
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder for the run")
    held = (folder / RUN_FILE).is_file()
    if not held and folder.is_dir() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty and holds no run; name another folder")
    if held and not resume:
        raise ConfigError(
            f"{folder} holds a run already; go on with it by --resume, or name another folder"
        )
    try:
        return _resume(folder, info) if held else _start(folder, info)
    except OSError as error:
        raise ConfigError(
            f"no run can be stored in {folder}: {error.strerror}; name another folder"
        ) from error


def _start(folder: Path, info: RunInfo) -> RunWriter:
    folder.mkdir(parents=True, exist_ok=True)
    _write_run_file(folder, info)
    return RunWriter(folder, info)


def _resume(folder: Path, info: RunInfo) -> RunWriter:
    version = read_run_file(folder).get("schema_version")
    if version != SCHEMA_VERSION:
        load_run(folder)  # says what is wrong with a version that nobody knows
        raise ConfigError(f"{folder} was begun by an older batchbench; start a new run")
    stored = load_run(folder)
    plan = _as_stored(info.plan)
    if _difference(stored.info.plan, plan):
        raise ConfigError(
            f"{folder} was made by another plan (other {_difference(stored.info.plan, plan)});"
            " repeat its options, or name another folder"
        )
    resumed = replace(stored.info, resumed=(*stored.info.resumed, info.sitting))
    writer = RunWriter(folder, resumed, stored.records)
    _drop_torn_line(folder / TRIALS_FILE)
    _write_run_file(folder, resumed)
    return writer


def _as_stored(plan: Mapping[str, Any]) -> Any:
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(plan))


def _difference(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The names of what differs. What only newer batchbenches plan is missing in older runs, and
    nothing (None, 0, empty) where it is not used.
    """
    names = {**stored, **wanted}
    return ", ".join(n for n in names if (stored.get(n) or None) != (wanted.get(n) or None))


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole != len(content):
        os.truncate(path, whole)


def _write_run_file(folder: Path, info: RunInfo) -> None:
    """Replace run.json as a whole, so that a crash leaves the old or the new one."""
    temporary = folder / (RUN_FILE + ".new")
    with _open_private(temporary, "wb") as stream:
        stream.write(json.dumps(asdict(info), ensure_ascii=False, indent=2).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(folder / RUN_FILE)


def _open_private(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    """Open a file that only its owner may read, where it is new."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def _lock(descriptor: int, folder: Path) -> None:
    if sys.platform != "win32":
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another sweep is writing to {folder}; wait for its end") from error
