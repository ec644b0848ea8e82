"""What `ps` shows of this process: its arguments, without passwords.

Every user of a machine can read the command lines of all others.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from batchbench.config import masked

_STAT = Path("/proc/self/stat")
_STATE_FIELD, _START_FIELD, _END_FIELD = 3, 48, 49


def hide_passwords() -> None:
    """Overwrite the arguments that hold a password by their masked form, where the kernel reads
    them. Before it ran they could be seen; a password file or PGPASSWORD never is.

    On Linux only; elsewhere nothing happens. Source: proc(5), /proc/PID/stat, arg_start, arg_end.
    """
    try:
        fields = _STAT.read_text().rpartition(")")[2].split()
        start, end = (int(fields[n - _STATE_FIELD]) for n in (_START_FIELD, _END_FIELD))
    except (OSError, IndexError):
        return
    place = start
    for argument in ctypes.string_at(start, end - start).split(b"\0") if start else []:
        shown = _masked_argument(argument)
        if shown != argument:
            ctypes.memmove(place, shown[: len(argument)].ljust(len(argument), b" "), len(argument))
        place += len(argument) + 1


def _masked_argument(argument: bytes) -> bytes:
    text = argument.decode(errors="surrogateescape")
    option, equals, value = text.partition("=")
    if not (option.startswith("--") and equals):
        option, equals, value = "", "", text
    return f"{option}{equals}{masked(value)}".encode(errors="surrogateescape")
