"""What a load costs this process: CPU time and peak memory."""

from __future__ import annotations

import gc
import threading
import time
from pathlib import Path
from types import TracebackType

import psutil
import pyarrow as pa

from batchbench.memory import kernel_peak

_MB = 1e6
_SAMPLE_S = 0.005
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Footprint:
    """Measures this process between entering and leaving, garbage collected first.

    rss_before_mb, peak_rss_mb: resident memory of the whole process, interpreter and rows
    included. cpu_s: user and system time. Both of the latter are 0 until it is left.
    Where the kernel cannot reset its own record of the peak (everywhere but on Linux), memory is
    sampled every 5 ms and a shorter peak can be missed.
    """

    def __init__(self) -> None:
        self.rss_before_mb = self.peak_rss_mb = self.cpu_s = 0.0
        self._sampler: _Sampler | None = None

    def __enter__(self) -> Footprint:
        gc.collect()
        pa.default_memory_pool().release_unused()
        self._sampler = None if reset_peak() else _Sampler()
        self.rss_before_mb = psutil.Process().memory_info().rss / _MB
        self._cpu_before_s = time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cpu_s = time.process_time() - self._cpu_before_s
        peak = kernel_peak() if self._sampler is None else self._sampler.end()
        self.peak_rss_mb = max(peak / _MB, self.rss_before_mb)


def reset_peak() -> bool:
    """Make the kernel forget the peak so far; False where it does not do that.

    Source: proc(5), /proc/PID/clear_refs: 5 resets the peak resident set size.
    """
    try:
        _CLEAR_REFS.write_text("5")
        return kernel_peak() > 0
    except OSError:
        return False


class _Sampler:
    """Looks at memory from a thread until it is ended."""

    def __init__(self) -> None:
        self._peak = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            self._peak = max(self._peak, process.memory_info().rss)
            if self._ending.wait(_SAMPLE_S):
                return

    def end(self) -> int:
        """Stop; return the largest number of bytes seen."""
        self._ending.set()
        self._thread.join()
        return self._peak
