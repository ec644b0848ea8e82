"""Several writers, and still the order of the input where it matters.

A chunk waits until no earlier chunk of its table that is in flight may share a key with it. So the
last row of a key is the last one written, whichever writers take the two and however often the
earlier one is retried; and two writers never wait for each other's rows.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np

from batchbench.engine.chunks import Chunk
from batchbench.engine.keys import Hashes


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    table: str
    hashes: Hashes | None  # sorted, each once; None: may share a key with any chunk

    def meets(self, other: _Place) -> bool:
        if self.table != other.table:
            return False
        if self.hashes is None or other.hashes is None:
            return True
        return bool(np.isin(self.hashes, other.hashes, assume_unique=True, kind="sort").any())


@dataclass(slots=True)
class Lanes:
    """The chunks in flight. Used on the event loop only."""

    _places: dict[int, _Place] = field(default_factory=dict)
    _left: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self, chunk: Chunk) -> None:
        """Wait for the chunks before this one that may share a key with it."""
        if chunk.shape.keys is None:
            return
        place = _Place(chunk.table, await asyncio.to_thread(_distinct, chunk))
        async with self._left:
            await self._left.wait_for(lambda: not any(map(place.meets, self._places.values())))
            self._places[id(chunk)] = place

    async def leave(self, chunk: Chunk) -> None:
        """The chunk is settled."""
        async with self._left:
            if self._places.pop(id(chunk), None) is not None:
                self._left.notify_all()


def _distinct(chunk: Chunk) -> Hashes | None:
    hashes = chunk.hash_keys()
    return None if hashes is None else np.unique(hashes)
