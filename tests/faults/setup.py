"""What a run loads, and how: drawn from its seed; and what must be in the table then."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.strategies import OnConflict

MOST_INT4 = 2**31 - 1

BAD_KINDS: Mapping[str, str] = {
    "check": "23514",
    "null": "23502",
    "range": "22003",
    "twin": "23505",
}
"""Ways in which a row can be bad, with its SQLSTATE. A twin has the key of the row before it."""

SERVERS_KINDS: Mapping[str, str] = {"raised": "P0001", "secured": "42501"}
"""The same where only a case's own table finds them bad."""

QUICK = Settings(max_retries=4, initial_backoff_ms=20, max_backoff_ms=500, reconnect_timeout_s=20.0)


@dataclass(frozen=True, slots=True)
class Setup:
    """One load. keyed: the table has a unique key. bad: row number -> kind.

    filler_bytes: of each row's note. note_offset: added to row numbers to get ids.
    """

    driver: str
    strategy: str
    exactly_once: str
    parallelism: int
    transaction: str | int
    keyed: bool
    row_count: int
    chunk_rows: int
    bad: Mapping[int, str] = field(default_factory=dict)
    on_conflict: OnConflict = OnConflict.ERROR
    filler_bytes: int = 0
    wait_limit_s: float = 30.0
    settings: Settings = QUICK
    version: str = "pg18"

    @property
    def chunks(self) -> int:
        """Chunks of the load."""
        return -(-self.row_count // self.chunk_rows)

    @property
    def commits(self) -> int:
        """Transactions with rows that a load makes at the least."""
        if self.transaction == "batch":
            return 1
        together = self.transaction if isinstance(self.transaction, int) else 1
        return -(-self.chunks // together)

    @property
    def words(self) -> str:
        """The configuration in a line, for messages."""
        return (
            f"{self.version} {self.driver} {self.strategy} exactly_once={self.exactly_once}"
            f" writers={self.parallelism} transaction={self.transaction}"
            f" {'keyed' if self.keyed else 'keyless'} {self.row_count} rows"
            f" chunk={self.chunk_rows} bad={len(self.bad)} on_conflict={self.on_conflict.value}"
        )

    def options(self, dead_letter: Path, **changes: Any) -> LoadOptions:
        """The engine's options for it."""
        values = {
            "settings": self.settings,
            "driver": self.driver,
            "strategy": self.strategy,
            "exactly_once": self.exactly_once,
            "parallelism": self.parallelism,
            "transaction": self.transaction,
            "chunk_size": self.chunk_rows,
            "on_conflict": self.on_conflict,
            "conflict_target": ("key",) if self.on_conflict is not OnConflict.ERROR else (),
            "on_reject": "skip",
            "dead_letter": dead_letter,
            "wait_limit_s": self.wait_limit_s,
        }
        return LoadOptions(**{**values, **changes})

    def ddl(self, table: str = "t") -> str:
        """The table. Every row bears its own number; `key` is the unique one, if there is one."""
        unique = " UNIQUE" if self.keyed else ""
        return (
            f"CREATE TABLE {table} (row_id int4, key int4{unique},"
            " amount int4 CHECK (amount >= 0), note text NOT NULL)"
        )

    def rows(self, first: int = 1) -> dict[int, tuple[int, int, int | None, str | None]]:
        """row number -> (row_id, key, amount, note), as in the file."""
        filler = "x" * self.filler_bytes
        rows: dict[int, tuple[int, int, int | None, str | None]] = {}
        for number in range(first, first + self.row_count):
            key, amount, note = number, number * 7 % 1000, f"row {number} {filler}"
            kind = self.bad.get(number)
            rows[number] = (
                number,
                key - 1 if kind == "twin" else key,
                {"check": -1, "range": 3_000_000_000}.get(kind or "", amount),
                None if kind == "null" else note,
            )
        return rows

    def write_file(self, path: Path) -> Path:
        """Write the rows as Parquet."""
        columns = list(zip(*self.rows().values(), strict=True))
        types = (pa.int64(), pa.int64(), pa.int64(), pa.string())
        names = ("row_id", "key", "amount", "note")
        arrays = [pa.array(c, t) for c, t in zip(columns, types, strict=True)]
        pq.write_table(pa.table(dict(zip(names, arrays, strict=True))), path)
        return path


def draw(rng: random.Random, **fixed: Any) -> Setup:
    """A random setup. fixed: fields with their value, or a list of values to choose from."""
    chosen: dict[str, Any] = {
        "driver": rng.choice(("asyncpg", "psycopg")),
        "strategy": rng.choice(("values", "unnest", "copy")),
        "exactly_once": rng.choice(("ledger", "status")),
        "parallelism": rng.randint(1, 4),
        "transaction": rng.choice(("chunk", "chunk", 3, "batch")),
        "keyed": rng.random() < 0.4,
        "row_count": rng.randint(300, 900),
        "chunk_rows": rng.randint(20, 60),
        "version": rng.choice(("pg18", "pg18", "pg18", "pg15")),
    }
    bad_count = rng.choice((0, 0, 1, 5))
    for name, value in fixed.items():
        chosen[name] = rng.choice(value) if isinstance(value, list) else value
    if "bad" not in fixed:
        chosen["bad"] = _bad_rows(rng, chosen["row_count"], bad_count, keyed=chosen["keyed"])
    return Setup(**chosen)


def _bad_rows(rng: random.Random, row_count: int, count: int, *, keyed: bool) -> dict[int, str]:
    kinds = [kind for kind in BAD_KINDS if keyed or kind != "twin"]
    # Apart from each other, so that a twin's elder is good.
    places = rng.sample(range(3, row_count, 3), count)
    return {place: rng.choice(kinds) for place in sorted(places)}


def without_bad_rows(setup: Setup) -> Setup:
    """The same, all rows good."""
    return replace(setup, bad={})
