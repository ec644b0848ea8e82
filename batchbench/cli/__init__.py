"""The command line: parse, call, render, exit code.

Exit codes: 0 done and all goals met; 1 a goal or check failed; 2 nothing was sent (wrong usage,
configuration or input, no server); 4 a load stopped after rows were sent; 130 interrupted.
Results go to standard output, progress and messages to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib.abc import MetaPathFinder

from batchbench.cli.title import hide_passwords
from batchbench.config import choose_allocator


def main() -> None:
    """Entry point of the console script. SIGTERM ends a command as Ctrl-C does."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hide_passwords()
    choose_allocator()
    if sys.argv[1:2] != ["export"]:
        _leave_pandas_out()
    from batchbench.cli.app import INTERRUPTED, app_for

    try:
        app_for(sys.argv[1:])(prog_name="batchbench")
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _leave_at_once(INTERRUPTED)
        raise


def _leave_at_once(code: int) -> None:
    """Without waiting for threads: one of ours or of Arrow's may be blocked in reading a source."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _leave_pandas_out() -> None:
    """Keep pyarrow from importing pandas, which costs a load 45 MB and a quarter of a second.

    pyarrow looks for pandas once a process, at the first array it makes; no command but `export`
    converts between the two (a DataFrame is a source for library users only).
    """
    import pyarrow as pa

    hidden = _HidePandas()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


class _HidePandas(MetaPathFinder):
    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Refuse pandas; leave all else to the finders after this one."""
        if fullname == "pandas":
            raise ImportError(fullname)
