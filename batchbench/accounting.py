"""What happened to every row.

Every row that was read ends in exactly one state, so that for each table and in all
`read == committed + duplicates + unchanged + rejected + skipped_by_server + not_loaded
+ unwritten + unknown`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path

STATES = (
    "committed",
    "duplicates",
    "unchanged",
    "rejected",
    "skipped_by_server",
    "not_loaded",
    "unwritten",
    "unknown",
)


@dataclass(slots=True)
class TableCounts:
    """Rows of one table by state.

    committed: in the table. duplicates: their key was there already, or came again in the same
    chunk; so also a row that an upsert's condition left out, since the row there is newer or
    equal. unchanged: 0; kept for readers of the counts. rejected: refused, with a reason.
    skipped_by_server: dropped by the server without an error (a BEFORE trigger that returned NULL).
    not_loaded: no target table. unwritten: a stopped load never got to them.
    unknown: a COMMIT whose fate the server cannot tell.
    """

    read: int = 0
    committed: int = 0
    duplicates: int = 0
    unchanged: int = 0
    rejected: int = 0
    skipped_by_server: int = 0
    not_loaded: int = 0
    unwritten: int = 0
    unknown: int = 0

    @property
    def accounted(self) -> int:
        """The sum of all states; equals `read` at the end of a load."""
        return sum(getattr(self, state) for state in STATES)

    def __add__(self, other: TableCounts) -> TableCounts:
        return TableCounts(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )

    def as_dict(self) -> dict[str, int]:
        """`read` and the states, in that order."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """An adaptive chunk size, rows. settled: whether no size near it was found to be faster."""

    rows: int
    settled: bool


@dataclass(slots=True)
class LoadResult:
    """What a load did.

    tables: counts by table name; kinds of records without a table have their own entry.
    seconds: from the first read to the last commit. chunk_seconds: latency of each chunk.
    chunk_sizes: by table name, where an adaptive size ended; empty where sizes were fixed.
    altered: what the user's policies altered, and how often.
    unknown_rows: where rows of unknown fate stand in their sources. dead_letter: the file that
    rejected rows are in, None where there are none.
    """

    load_id: str
    tables: dict[str, TableCounts] = field(default_factory=dict)
    seconds: float = 0.0
    byte_count: int = 0
    retries: int = 0
    altered: Counter[str] = field(default_factory=Counter)
    unknown_rows: list[str] = field(default_factory=list)
    chunk_seconds: list[float] = field(default_factory=list)
    chunk_sizes: dict[str, ChunkSize] = field(default_factory=dict)
    dead_letter: Path | None = None

    @property
    def total(self) -> TableCounts:
        """Counts over all tables."""
        return sum(self.tables.values(), TableCounts())

    @property
    def rows_per_s(self) -> float:
        """Committed rows a second; 0 for a load that took no time."""
        return self.total.committed / self.seconds if self.seconds > 0 else 0.0

    def counts(self, table: str) -> TableCounts:
        """The counts of one table, made where missing."""
        return self.tables.setdefault(table, TableCounts())
