"""Stops a server and removes its folders once the process that started it is gone.

Run as a script, by path, with the standard library only, so that it starts fast and stays small:

    python -I -S watchdog.py SIGNAL WORKING_DIR FOLDER...

Standard input is the read end of a pipe that only the starting process holds open: it writes the
server's pid on a line whenever it starts one, 0 when it stopped it. The end of the input means that
the process has ended, in whatever way; `kill -9` closes the pipe too. SIGNAL, a number, is what
stops the server; it works in WORKING_DIR.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

FOLDER_PREFIX = "batchbench-"
_POLL_S = 0.02
_STOP_LIMIT_S = 15.0
_REMOVE_LIMIT_S = 15.0


def runs_in(pid: int, working_dir: Path) -> bool:
    """Whether the process lives and works in the folder, as a postmaster does in its data.

    A pid may have been given to another process meanwhile. Where there is no /proc, any living
    process counts.
    """
    if Path("/proc/self/cwd").is_symlink():
        try:
            # A zombie has no working folder any more.
            return Path(f"/proc/{pid}/cwd").readlink() == working_dir.resolve()
        except OSError:
            return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(done: Callable[[], bool], limit_s: float) -> bool:
    """Poll until `done`, at most `limit_s`. Returns whether it came to that."""
    deadline = time.monotonic() + limit_s
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)  # neither a foreign process nor a folder tells us when it is gone
    return True


def remove(folder: Path, limit_s: float = _REMOVE_LIMIT_S) -> bool:
    """Remove a temporary folder of ours, again while dying processes still write to it."""
    if not folder.name.startswith(FOLDER_PREFIX):
        return False

    def gone() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()

    return wait_until(gone, limit_s)


def stop(pid: int, working_dir: Path, first: int) -> None:
    """Send the signal; `kill -9` where that takes too long."""
    for number in (first, signal.SIGKILL):
        if not runs_in(pid, working_dir):
            return
        os.kill(pid, number)
        if wait_until(lambda: not runs_in(pid, working_dir), _STOP_LIMIT_S):
            return


def main(arguments: list[str]) -> None:
    """Wait for the end of standard input, then clean up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    first, working_dir = int(arguments[0]), Path(arguments[1])
    pid = 0
    for line in sys.stdin:
        pid = int(line)
    if pid:
        stop(pid, working_dir, first)
    for folder in arguments[2:]:
        remove(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
