"""The byte budget: who may hold how much. And what the process has held."""

from __future__ import annotations

import asyncio
from pathlib import Path

_STATUS = Path("/proc/self/status")


def kernel_peak() -> int:
    """Bytes that this process was resident with at most, 0 where the kernel does not say. Unlike
    getrusage's, they leave out what started it.

    Source: proc(5), VmHWM of /proc/PID/status; what `Footprint` has reset counts from there.
    """
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    found = (line for line in lines if line.startswith("VmHWM:"))
    return next((int(line.split()[1]) * 1024 for line in found), 0)


class Budget:
    """Bytes that chunks in flight may hold together.

    A chunk larger than the whole budget gets in alone, so that it is slow but never stuck.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._freed = asyncio.Condition()

    async def acquire(self, byte_count: int) -> None:
        """Wait until `byte_count` fits, then hold it."""
        async with self._freed:
            await self._freed.wait_for(lambda: self.fits(byte_count))
            self.held_bytes += byte_count

    async def changed(self, byte_count: int) -> None:
        """Wait for the next release, unless `byte_count` fits by now."""
        async with self._freed:
            if not self.fits(byte_count):
                await self._freed.wait()

    async def release(self, byte_count: int) -> None:
        """Give `byte_count` back."""
        async with self._freed:
            self.held_bytes -= byte_count
            self._freed.notify_all()

    def fits(self, byte_count: int) -> bool:
        """Whether `acquire` would not have to wait."""
        return self.held_bytes == 0 or self.held_bytes + byte_count <= self.limit_bytes
