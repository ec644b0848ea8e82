"""The chunk sizes of a load's tables: decided per table, told to those who listen."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchbench.accounting import ChunkSize
from batchbench.engine.adapting import AdaptiveSize, Sizing
from batchbench.engine.chunks import Chunk, fixed_size
from batchbench.engine.plan import ShapePlan, TablePlan
from batchbench.events import ChunkSizeChanged, Listener

_MOST_PROBE_CHUNKS = 4


@dataclass(slots=True)
class Sizes:
    """writers: of the load. limit_bytes: that its chunks in flight may hold together.

    `of` is called where chunks are cut, in a thread; the rest on the event loop.
    """

    writers: int
    limit_bytes: int
    emit: Listener
    _adaptive: dict[str, AdaptiveSize] = field(default_factory=dict)
    _told: dict[str, ChunkSize] = field(default_factory=dict)

    def of(self, plan: TablePlan, shape: ShapePlan) -> Sizing:
        """What decides for rows of a shape; one for all shapes of a table whose size adapts."""
        if not plan.adapts:
            return fixed_size(plan, shape)
        table = str(plan.table.name)
        if table not in self._adaptive:
            self._adaptive[table] = AdaptiveSize(
                shape.chunk_rows,
                shape.most_rows,
                probe_chunks=max(2, min(self.writers, _MOST_PROBE_CHUNKS)),
                cold_chunks=self.writers if shape.chunk_plan.use.per_row else 0,
            )
        self._adaptive[table].bound(shape.most_rows)
        return self._adaptive[table]

    def hold(self, chunk: Chunk) -> None:
        """A chunk was made: others of its table may have so many rows that one for each writer,
        and the next one, fit into memory together.
        """
        sizing = self._adaptive.get(chunk.table)
        if sizing is not None:
            stream = chunk.payload.stream if chunk.payload is not None else None
            streamed = 0 if stream is None else stream.held_bytes  # hardly grows with the rows
            row_bytes = max(1, chunk.held_bytes - streamed) / chunk.read_count
            sizing.bound(int(self.limit_bytes / (self.writers + 1) / row_bytes))

    def wrote(self, chunk: Chunk, seconds: float | None) -> None:
        """A writer is done with a chunk. seconds: see `ChunkTimes`."""
        sizing = self._adaptive.get(chunk.table)
        if sizing is None:
            return
        whole = chunk.payload is not None and chunk.read_count == chunk.chunk_rows
        sizing.wrote(chunk.chunk_rows, seconds if whole else None)
        now = ChunkSize(sizing.row_count, sizing.settled)
        if self._told.get(chunk.table) != now:
            self._told[chunk.table] = now
            self.emit(ChunkSizeChanged(chunk.table, now.rows, now.settled))

    def ended(self) -> dict[str, ChunkSize]:
        """Where adaptive sizes are now, by table."""
        return {
            table: ChunkSize(sizing.row_count, sizing.settled)
            for table, sizing in self._adaptive.items()
        }
