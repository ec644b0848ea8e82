"""Rows whose parent was missing: they are tried again at the end, when it may be there."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from batchbench.engine.accounts import Span
from batchbench.engine.chunks import Chunk
from batchbench.engine.keys import Hashes
from batchbench.errors import WriteError


@dataclass(frozen=True, slots=True)
class Orphan:
    """One row, cut out of its chunk, and what the server said of it."""

    span: Span
    error: WriteError


@dataclass(slots=True)
class Orphans:
    """Of all writers of a load. Where the order of a key's rows matters, a row that could come
    after a later one of its key is not kept. waits: whether any is; there is no end to wait for
    in a service.
    """

    waits: bool = True
    _held: list[Orphan] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._held)

    def keep(self, span: Span, error: WriteError) -> bool:
        """Keep the only row of a span for later; False where it must be settled now."""
        chunk = span.chunk
        if not self.waits:
            return False
        if chunk.shape.keys is not None:
            hashes = chunk.hash_keys()
            if hashes is None or np.count_nonzero(hashes == hashes[span.offset]) > 1:
                return False
        self._held.append(Orphan(Span(chunk.only(span.offset), 0, 1), error))
        return True

    def take(self) -> list[Orphan]:
        """All of them; none is held any more."""
        taken, self._held = self._held, []
        return taken

    def overtaken_by(self, chunk: Chunk) -> list[Orphan]:
        """Take those whose key may come again in a later chunk."""
        if not self._held or not chunk.shape.keys:
            return []
        hashes = chunk.hash_keys()
        overtaken = [orphan for orphan in self._held if _meets(orphan.span.chunk, chunk, hashes)]
        self._held = [orphan for orphan in self._held if orphan not in overtaken]
        return overtaken


def _meets(orphan: Chunk, chunk: Chunk, hashes: Hashes | None) -> bool:
    own = orphan.hash_keys()
    if own is None or hashes is None or orphan.table != chunk.table:
        return False
    return bool((hashes == own[0]).any())
