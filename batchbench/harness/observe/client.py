"""What a load costs the client process: CPU, memory, bytes a second."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import TracebackType

import psutil

from batchbench.harness.process import Footprint

if sys.platform != "win32":
    import resource


@dataclass(frozen=True, slots=True)
class CpuTime:
    """CPU seconds of this process."""

    user_s: float
    system_s: float


def cpu_time() -> CpuTime:
    """So far, all threads; to the microsecond but on Windows."""
    if sys.platform == "win32":
        times = psutil.Process().cpu_times()
        return CpuTime(times.user, times.system)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return CpuTime(used.ru_utime, used.ru_stime)


class ClientUse:
    """A `Footprint` whose CPU is told apart into user and system.

    Enter and leave it around the load, as a Footprint; figures are read afterwards.
    """

    def __init__(self) -> None:
        self.footprint = Footprint()
        self._before = self._after = CpuTime(0.0, 0.0)

    def __enter__(self) -> ClientUse:
        self.footprint.__enter__()
        self._before = self._after = cpu_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._after = cpu_time()
        self.footprint.__exit__(kind, error, traceback)

    def figures(
        self, byte_count: int | None, seconds: float | None, sampler_s: float = 0.0
    ) -> dict[str, float | None]:
        """By metric. byte_count, seconds: of a load that ended well, else None.

        sampler_s: CPU of the sampler's thread in this process, which is not the load's: it is taken
        off, in proportion, so that user and system still add up.
        """
        user_s = self._after.user_s - self._before.user_s
        system_s = self._after.system_s - self._before.system_s
        whole_s = self.footprint.cpu_s
        kept = max(whole_s - sampler_s, 0.0) / whole_s if whole_s else 0.0
        share = user_s / (user_s + system_s) if user_s + system_s else 0.0
        known = byte_count is not None and bool(seconds)
        return {
            "cpu_s": whole_s * kept,
            "cpu_user_s": whole_s * kept * share,
            "cpu_system_s": whole_s * kept * (1 - share),
            "peak_rss_mb": self.footprint.peak_rss_mb,
            "rss_before_mb": self.footprint.rss_before_mb,
            "client_bytes_per_s": byte_count / seconds
            if known and seconds and byte_count
            else None,
        }
