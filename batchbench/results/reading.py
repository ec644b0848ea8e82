"""Read runs of this schema version and of older ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from batchbench.errors import InputError
from batchbench.results.records import SCHEMA_VERSION, Run, RunInfo, TrialRecord

RUN_FILE = "run.json"
TRIALS_FILE = "trials.ndjson"
_CONFIRMATION = "confirmation-"
_SUSTAINED = "sustained-"


@dataclass(frozen=True, slots=True)
class Migration:
    """From one schema version to the next: what changes in run.json, and in every record."""

    run: Callable[[dict[str, Any]], dict[str, Any]]
    record: Callable[[dict[str, Any]], dict[str, Any]]


MIGRATIONS: Mapping[int, Migration] = {
    # All of a run was one life of the server, and there was no yardstick.
    1: Migration(run=lambda raw: raw, record=lambda raw: {**raw, "epoch": 1}),
}
"""By the version that they start from."""

_RUN_INFO = TypeAdapter(RunInfo)
_RECORD = TypeAdapter(TrialRecord)


def load_run(folder: Path) -> Run:
    """Read a run, and those below it that confirm it. What is whole is read; what is not is named
    in `Run.warnings`.

    Raises InputError where there is no run, or one that this version cannot read.
    """
    raw = read_run_file(folder)
    version = raw.get("schema_version")
    steps = _steps(version, folder)
    for step in steps:
        raw = {**step.run(raw), "schema_version": SCHEMA_VERSION}
    try:
        info = _RUN_INFO.validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise InputError(
            f"{folder / RUN_FILE} is no description of a run: {first_fault(error)}"
        ) from error
    records, warnings = _read_records(folder / TRIALS_FILE, steps)
    unread = len(warnings)
    confirmations = tuple(_below(folder, _CONFIRMATION, info, warnings))
    sustained = tuple(_below(folder, _SUSTAINED, info, warnings))
    warnings = [*_changes(info), *warnings]
    return Run(folder, info, records, tuple(warnings), confirmations, sustained, unread)


def confirmation_folder(run: Run, number: int) -> Path:
    """Where its confirmations are stored, from 1."""
    return run.folder / f"{_CONFIRMATION}{number}"


def sustained_folder(run: Run, number: int) -> Path:
    """Where its sustained loads are stored, from 1."""
    return run.folder / f"{_SUSTAINED}{number}"


def _below(folder: Path, name: str, info: RunInfo, warnings: list[str]) -> Iterator[Run]:
    found = [path.parent for path in folder.glob(f"{name}*/{RUN_FILE}")]
    for path in sorted(found, key=lambda path: (len(path.name), path.name)):
        try:
            run = load_run(path)
        except InputError as error:
            warnings.append(f"left out: {error}")
            continue
        if run.info.confirms == info.run_id:
            yield run


def read_run_file(folder: Path) -> dict[str, Any]:
    """The raw run.json. Raises InputError where there is none, or no JSON object."""
    path = folder / RUN_FILE
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"{folder} is no run: {RUN_FILE} cannot be read ({error.strerror}); name a folder that"
            " `batchbench sweep --output` wrote"
        ) from error
    except ValueError as error:
        raise InputError(f"{path} is not JSON, so the run cannot be read") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path} is no description of a run: it is not a JSON object")
    return raw


def _steps(version: object, folder: Path) -> tuple[Migration, ...]:
    known = isinstance(version, int) and 1 <= version <= SCHEMA_VERSION
    if not known or not isinstance(version, int):
        raise InputError(
            f"{folder / RUN_FILE} has schema version {version!r}, this batchbench reads 1 to"
            f" {SCHEMA_VERSION}; use the batchbench that wrote it, or a newer one"
        )
    return tuple(MIGRATIONS[number] for number in range(version, SCHEMA_VERSION))


def _read_records(
    path: Path, steps: Sequence[Migration]
) -> tuple[tuple[TrialRecord, ...], list[str]]:
    if not path.is_file():
        return (), [f"{path.name} is missing: the run has no trials"]
    lines = path.read_bytes().split(b"\n")
    torn = lines.pop()
    found: dict[str, TrialRecord] = {}
    warnings = []
    for number, line in enumerate(lines, 1):
        try:
            record = _read_record(line, steps)
        except ValueError as error:
            warnings.append(f"{path.name}, line {number}: {first_fault(error)}; left out")
            continue
        if record.trial_id in found:
            warnings.append(f"{path.name}, line {number}: {record.trial_id} again; left out")
        else:
            found[record.trial_id] = record
    if torn:
        warnings.append(f"{path.name}, line {len(lines) + 1}: cut off; left out")
    return tuple(found.values()), warnings


def _read_record(line: bytes, steps: Sequence[Migration]) -> TrialRecord:
    if steps:
        raw = json.loads(line)
        if not isinstance(raw, dict):
            raise ValueError("not a JSON object")
        for step in steps:
            raw = step.record(raw)
        line = json.dumps(raw).encode()
    return _RECORD.validate_json(line, strict=True)


def first_fault(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return "not JSON"
    first = error.errors(include_input=False, include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else "not JSON"


def _changes(info: RunInfo) -> list[str]:
    """What a resumed run changed between its starts."""
    warnings = []
    for number, sitting in enumerate(info.resumed, 2):
        changed = []
        if sitting.server != info.server:
            changed.append("another server, or other settings of it")
        if sitting.environment != info.environment:
            changed.append("another machine, or other packages")
        if changed:
            warnings.append(f"start {number} of the run had {' and '.join(changed)}")
    return warnings
