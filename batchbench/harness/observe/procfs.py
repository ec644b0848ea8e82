"""What Linux tells about a server's processes on this machine: CPU and memory, by pid.

Source: proc(5). Every read is one small file; a process may end between two of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from batchbench.drivers import Session

NOT_LINUX = "only Linux shows a server's processes (there is no /proc here)"
ELSEWHERE = "the server runs on another machine, or in a container with process ids of its own"
NOT_READABLE = "only root and the server's own user may read its processes' memory maps"

_PROC = Path("/proc")
_START_TOLERANCE_S = 3.0
_NAMES = ("postgres", "postmaster")
_TRIES = 5


_SELF_SQL = """
SELECT pid::text, extract(epoch FROM backend_start)::text
FROM pg_catalog.pg_stat_activity WHERE pid = pg_catalog.pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session's backend runs. not_local: why this machine does not show it, else ""."""

    pid: int = 0
    postmaster: int = 0
    not_local: str = ELSEWHERE


async def place_of(session: Session) -> Place:
    """Find a session's backend. Raises WriteError. Behind a pooler it may be another's soon."""
    found = await session.fetch(_SELF_SQL)
    if not found:
        return Place()
    pid, started_s = int(found[0][0] or 0), float(found[0][1] or 0)
    not_local = why_not_local(pid, started_s)
    if not_local:
        return Place(pid, 0, not_local)
    try:
        return Place(pid, int(psutil.Process(pid).ppid()), "")
    except psutil.Error:
        return Place(pid)


def why_not_local(pid: int, started_s: float) -> str:
    """Why /proc does not show the backend `pid`; "" where it does.

    started_s: when the server says that the backend started, Unix time. A process here that has
    the pid by chance is told apart by its name and its start.
    """
    if not (_PROC / "self" / "stat").exists():
        return NOT_LINUX
    try:
        process = psutil.Process(pid)
        same = process.name() in _NAMES
        same = same and abs(process.create_time() - started_s) <= _START_TOLERANCE_S
    except psutil.Error:
        same = False
    return "" if same else ELSEWHERE


def cpu_s(pid: int) -> float | None:
    """CPU seconds, user and system, of a process of one thread; None where it is gone.

    To the nanosecond from schedstat, where the kernel keeps it, else to a clock tick (10 ms).
    """
    try:
        return int((_PROC / str(pid) / "schedstat").read_text().split()[0]) / 1e9
    except (OSError, IndexError, ValueError):
        own = _ticks(pid)
        return None if own is None else (own[0] + own[1]) / _ticks_per_s()


def reaped_cpu_s(pid: int) -> float:
    """CPU seconds of a process's children that have ended and were waited for; 0 if it is gone."""
    ticks = _ticks(pid)
    return 0.0 if ticks is None else (ticks[2] + ticks[3]) / _ticks_per_s()


def _ticks(pid: int) -> tuple[int, int, int, int] | None:
    """utime, stime, cutime, cstime of /proc/PID/stat."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # a command's name may hold blanks
    return int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])


def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")


def pss_bytes(pid: int) -> int | None:
    """Proportional set size: own memory, and of shared memory the part that falls to it.

    None where the process is gone. Raises PermissionError where its maps may not be read.
    """
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except PermissionError:
        raise
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return None


def server_cpu_s(postmaster: int, without: Iterable[int] = ()) -> float | None:
    """CPU seconds of a server so far: the postmaster, its children, and those that have ended.

    without: pids of children whose CPU does not count. Differences of two readings are exact to
    a few clock ticks: a child that ends in between moves from one sum to the other.
    None where the server is gone, or its processes come and go too fast for a reading.
    """
    left_out = set(without)
    for _ in range(_TRIES):
        reaped = reaped_cpu_s(postmaster)
        try:
            children = [child.pid for child in psutil.Process(postmaster).children()]
        except psutil.Error:
            return None
        used = [cpu_s(pid) for pid in (postmaster, *children) if pid not in left_out]
        known = [seconds for seconds in used if seconds is not None]
        if len(known) == len(used) and reaped_cpu_s(postmaster) == reaped:
            return reaped + sum(known)
    return None
