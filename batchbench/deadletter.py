"""The dead letter: rejected rows, on disk before the commit that leaves them out.

NDJSON, one object a row: load_id, source, row_number (1 = the first row of data), table, sqlstate,
constraint and column where known, reason, row (by source column). Mode 0600: the rows are the
user's data, and this file is the only place outside the database that may hold them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from batchbench.errors import ConfigError, InputError


@dataclass(frozen=True, slots=True)
class Rejection:
    """One rejected row. `row` is by source column; it never leaves this file."""

    source: str
    row_number: int
    table: str
    sqlstate: str
    reason: str
    row: Mapping[str, Any]
    column: str | None = None
    constraint: str | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """What makes a record unique: a resumed load rejects a row again, not twice."""
        return self.table, self.source, self.row_number


class DeadLetter:
    """Writes rejections. The file is made with the first one."""

    def __init__(self, path: Path, load_id: str) -> None:
        self.path = path
        self._load_id = load_id
        self._file: IO[bytes] | None = None
        self._lock = threading.Lock()
        self._known: set[tuple[str, str, int]] = set()

    def read_known(self) -> dict[str, int]:
        """Take up what an earlier start of this load wrote; return how many records each table
        has. Records of other loads may stand in the same file.

        A last line that was cut off is dropped. Raises InputError on any other broken line.
        """
        counts: dict[str, int] = {}
        if not self.path.exists():
            return counts
        whole, _, _ = self.path.read_bytes().rpartition(b"\n")
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                record = json.loads(line)
                key = str(record["table"]), str(record["source"]), int(record["row_number"])
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{self.path}, line {number}: is no dead-letter record; restore the file, or"
                    " give another one with --dead-letter"
                ) from error
            if record.get("load_id") == self._load_id and key not in self._known:
                counts[key[0]] = counts.get(key[0], 0) + 1
                self._known.add(key)
        return counts

    @property
    def known(self) -> frozenset[tuple[str, str, int]]:
        """(table, source, row number) of the rows in it."""
        return frozenset(self._known)

    @property
    def empty(self) -> bool:
        """Whether no row was rejected, now or by an earlier start."""
        return not self._known

    def write(self, rejections: Sequence[Rejection]) -> int:
        """Append and flush to disk; return how many were new. Blocking; any thread may call it.

        Raises ConfigError where the file cannot be written.
        """
        with self._lock:
            return self._write(rejections)

    def _write(self, rejections: Sequence[Rejection]) -> int:
        new = [rejection for rejection in rejections if rejection.key not in self._known]
        if not new:
            return 0
        try:
            file = self._open()
            file.write(b"".join(_line(rejection, self._load_id) for rejection in new))
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise ConfigError(
                f"the dead letter {self.path} cannot be written ({error.strerror}); without it no"
                " row may be left out: give another place with --dead-letter"
            ) from error
        self._known.update(rejection.key for rejection in new)
        return len(new)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _cut_torn_line(self) -> None:
        """Drop a last line that was cut off, so that the next record does not stick to it."""
        if self.path.exists():
            whole, line_end, torn = self.path.read_bytes().rpartition(b"\n")
            if torn:
                os.truncate(self.path, len(whole) + len(line_end))

    def _open(self) -> IO[bytes]:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._cut_torn_line()
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._file = os.fdopen(descriptor, "ab")
        return self._file


def rejected_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a dead letter, by source column. Raises InputError where it is none."""
    try:
        file = path.open(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check the path") from error
    with file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)["row"]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}, line {number}: is no dead-letter record (an object with the key"
                    " row); mend the line"
                ) from error
            if not isinstance(row, dict):
                raise InputError(f"{path}, line {number}: row must be an object; mend the line")
            yield row


def _line(rejection: Rejection, load_id: str) -> bytes:
    record = {
        "load_id": load_id,
        "source": rejection.source,
        "row_number": rejection.row_number,
        "table": rejection.table,
        "sqlstate": rejection.sqlstate,
        "constraint": rejection.constraint,
        "column": rejection.column,
        "reason": rejection.reason,
        "row": rejection.row,
    }
    return json.dumps(record, default=_plain, ensure_ascii=False).encode() + b"\n"


def _plain(value: object) -> object:
    """What JSON has no type for, as text that a load reads back."""
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if isinstance(value, dt.datetime):
        return value.isoformat(" ")
    if isinstance(value, dt.timedelta):
        return f"PT{value.total_seconds():f}S"
    return str(value)
