"""batchbench's own ways: its engine, called as a service would call it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.engine import load as engine_load
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from benchmarks.data import Data
from benchmarks.duplicates import CHUNK_ROWS
from benchmarks.tables import BenchTable

_ALL_CHUNKS = 1_000_000

Boundary = Literal["one", "chunk"]
"""One transaction for a writer's whole load, or one a chunk."""


@dataclass(frozen=True, slots=True)
class OurWay:
    """One configuration, always with durability=full.

    per_chunk: a transaction a chunk, instead of one a writer.
    exactly_once: "off" promises what the peers do (a COMMIT whose answer is lost is nobody's
        knowledge); "ledger" is what the engine does unless told otherwise.
    """

    strategy: str
    driver: str
    writers: int = 1
    per_chunk: bool = False
    exactly_once: Literal["off", "ledger"] = "off"
    chunk_rows: int = CHUNK_ROWS

    @property
    def name(self) -> str:
        """As the tables show it."""
        by = f" x{self.writers}" if self.writers > 1 else ""
        per = ", by chunks" if self.per_chunk else ""
        ledger = ", ledger" if self.exactly_once == "ledger" else ""
        return f"batchbench {self.strategy} ({self.driver}){by}{per}{ledger}"

    @property
    def boundary(self) -> Boundary:
        """Of its transactions."""
        return "chunk" if self.per_chunk else "one"

    @property
    def transaction(self) -> str:
        """Its boundary and promise, in words."""
        boundary = f"one per chunk of {self.chunk_rows:,} rows" if self.per_chunk else "one"
        if self.writers > 1:
            boundary = "one per writer"
        return f"{boundary}; exactly-once {self.exactly_once}"

    def load(self, dsn: str, table: BenchTable, data: Data) -> None:
        """Load; connecting is included, as it is for every peer."""
        self.result(dsn, table, data)

    def result(self, dsn: str, table: BenchTable, data: Data) -> LoadResult:
        """Load, and give back the engine's own account."""
        columns = table.column_names if data.form == "tuples" else None
        source = open_source(data.value, columns=columns)
        return asyncio.run(
            engine_load(source, {None: TableName(table.name)}, dsn, self._options(table))
        )

    def _options(self, table: BenchTable) -> LoadOptions:
        """In one transaction a bad row stops the load, as it does at every peer."""
        transaction: Literal["chunk", "batch"] | int = "chunk"
        if not self.per_chunk:
            transaction = "batch" if self.writers == 1 else _ALL_CHUNKS
        return LoadOptions(
            settings=Settings(),
            strategy=self.strategy,
            driver=self.driver,
            chunk_size=self.chunk_rows,
            parallelism=self.writers,
            on_conflict=OnConflict.NOTHING if table.key else OnConflict.ERROR,
            conflict_target=table.key,
            transaction=transaction,
            on_reject="skip" if self.per_chunk else "stop",
            exactly_once=self.exactly_once,
            durability="full",
        )
