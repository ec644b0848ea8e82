"""Memory and CPU of a load's backends, where the server is local and may be looked at.

A backend's last look is the last that is known of it: CPU that it used between that look and its
end is missing, and a peak of memory between two looks is too. The server's CPU as a whole is
exact, see `procfs.server_cpu_s`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from batchbench.harness.observe import procfs

EXPECTED_S = 0.001
"""CPU seconds of a look at memory, while none was made."""

MEMORY_SHARE = 0.005
"""Of one core, that looking at memory may take. The kernel walks a backend's page tables for it,
those of the shared buffers that it touched too."""


_TOO_SHORT = "the load was too short for a look"


@dataclass(frozen=True, slots=True)
class Used:
    """cpu_s: of all the load's backends together. pss_mb: the most of them together at one look.

    None where it is not known; cpu_reason and pss_reason say why.
    """

    cpu_s: float | None
    pss_mb: float | None
    cpu_reason: str = ""
    pss_reason: str = ""

    @classmethod
    def unknown(cls, reason: str) -> Used:
        """Neither is known."""
        return cls(None, None, reason, reason)


@dataclass(slots=True)
class BackendUse:
    """Adds up what backends use. not_local: why they cannot be looked at, "" where they can.

    expected_s: CPU seconds that a look at memory will take, as the last one did. memory_s: of all.
    """

    not_local: str = ""
    expected_s: float = EXPECTED_S
    memory_s: float = 0.0
    _before_s: dict[int, float] = field(default_factory=dict)
    _used_s: dict[int, float] = field(default_factory=dict)
    _pids: Sequence[int] = ()
    _peak_bytes: int = 0
    _memory_reason: str = ""

    def start(self, pids: Sequence[int]) -> None:
        """Backends that a pooler keeps: what they used before the load does not count."""
        if not self.not_local:
            self._before_s = {pid: procfs.cpu_s(pid) or 0.0 for pid in pids}

    def look(self, pids: Sequence[int]) -> None:
        """Read the CPU of the load's backends."""
        if self.not_local:
            return
        self._pids = pids
        for pid in pids:
            seconds = procfs.cpu_s(pid)
            if seconds is not None:
                self._used_s[pid] = seconds - self._before_s.get(pid, 0.0)

    def look_at_memory(self, elapsed_s: float) -> None:
        """Read their memory, unless looking at it would take too much of `elapsed_s`."""
        too_much = self.memory_s + self.expected_s > MEMORY_SHARE * elapsed_s
        if self.not_local or self._memory_reason or not self._pids or too_much:
            return
        began_s = time.thread_time()
        try:
            found = [procfs.pss_bytes(pid) for pid in self._pids]
        except PermissionError:
            self._memory_reason = procfs.NOT_READABLE
            return
        self._peak_bytes = max(self._peak_bytes, sum(size for size in found if size))
        self.expected_s = time.thread_time() - began_s
        self.memory_s += self.expected_s

    def result(self) -> Used:
        """What was seen so far."""
        if self.not_local:
            return Used.unknown(self.not_local)
        unseen = "" if self._used_s else _TOO_SHORT
        pss_reason = self._memory_reason or ("" if self._peak_bytes else _TOO_SHORT)
        return Used(
            cpu_s=None if unseen else sum(self._used_s.values()),
            pss_mb=None if pss_reason else self._peak_bytes / 1e6,
            cpu_reason=unseen,
            pss_reason=pss_reason,
        )
