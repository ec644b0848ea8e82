"""This side of a watchdog (see `watchdog.py`): what we start ends with us, however we end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from batchbench.servers import watchdog
from batchbench.servers.installation import server_environment


@dataclass(frozen=True, slots=True)
class Guard:
    """A watchdog over one process and its folders. Made by `start_guard`."""

    _watchdog: subprocess.Popen[bytes]

    def tell(self, pid: int) -> None:
        """The guarded process was started; 0: it has ended."""
        assert self._watchdog.stdin is not None
        # Where somebody killed the watchdog, the normal way of stopping still works without it.
        with contextlib.suppress(BrokenPipeError):
            self._watchdog.stdin.write(b"%d\n" % pid)
            self._watchdog.stdin.flush()

    def end(self) -> None:
        """Let it clean up what is left, and wait for it."""
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(60)


def start_guard(
    working_dir: Path, folders: list[Path], first: signal.Signals = signal.SIGQUIT
) -> Guard:
    """Once this process is gone, stop the one that works in `working_dir`; remove the folders.

    folders: those whose names begin as ours do. first: the signal that stops it; kill -9 follows.
    """
    arguments = [str(int(first)), *map(str, [working_dir, *folders])]
    return Guard(
        subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=server_environment(),
        )
    )
