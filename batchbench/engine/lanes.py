"""Several writers, and still the order of the input where it matters.

A chunk waits until no earlier chunk of its table that is in flight may share a key with it. So the
last row of a key is the last one written, whichever writers take the two and however often the
earlier one is retried; and two writers never wait for each other's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
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

    _places: dict[Chunk, _Place] = field(default_factory=dict)
    _left: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self, *chunks: Chunk) -> None:
        """Wait for the chunks before these that may share a key with one of them. These keep their
        own order: one writer has them all.
        """
        places = {
            chunk: _Place(chunk.table, await asyncio.to_thread(_distinct, chunk))
            for chunk in chunks
            if chunk.shape.keys is not None
        }
        if not places:
            return
        async with self._left:
            await self._left.wait_for(lambda: not self._meet(places.values()))
            self._places |= places

    def _meet(self, places: Iterable[_Place]) -> bool:
        return any(place.meets(before) for place in places for before in self._places.values())

    async def leave(self, *chunks: Chunk) -> None:
        """The chunks are settled."""
        async with self._left:
            left = [self._places.pop(chunk, None) for chunk in chunks]
            if any(left):
                self._left.notify_all()


def _distinct(chunk: Chunk) -> Hashes | None:
    hashes = chunk.hash_keys()
    return None if hashes is None else np.unique(hashes)
