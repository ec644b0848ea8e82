"""CPU time: what a load costs its client, and what it costs the server.

Linux only: elsewhere a process does not say what its ended children took.
"""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Seconds since their starts. client: this process and its ended children (psql, pgloader).
    server: all processes of the cluster, also those that have ended.
    """

    client_s: float
    server_s: float

    def since(self, earlier: CpuTimes) -> CpuTimes:
        """What was taken in between."""
        return CpuTimes(self.client_s - earlier.client_s, self.server_s - earlier.server_s)


def cpu_times(postmaster_pid: int) -> CpuTimes | None:
    """Now; None where this system cannot tell."""
    if not sys.platform.startswith("linux"):
        return None
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    postmaster = psutil.Process(postmaster_pid)
    ended = postmaster.cpu_times()
    server_s = ended.user + ended.system + ended.children_user + ended.children_system
    for backend in postmaster.children():
        try:
            times = backend.cpu_times()
        except psutil.NoSuchProcess:  # it ended between the two looks
            continue
        server_s += times.user + times.system
    return CpuTimes(sum(usage.ru_utime + usage.ru_stime for usage in own), server_s)
