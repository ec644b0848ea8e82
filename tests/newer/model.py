"""What a table must hold after loads with newer_by, and loads that make it hard to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from hypothesis import strategies as st

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, query

WRITERS = 4
WAYS = [*COMBINATIONS, ("optimistic", "asyncpg"), ("optimistic", "psycopg")]

# A chunk with a row that is `slow` fails at every third write of such a row, twenty times in all,
# and is then written again, late. Deadlocks, which only `optimistic` may meet, are found soon.
SCHEMA = """
CREATE TABLE t (id int4 PRIMARY KEY, at int4, v int4 CHECK (v >= 0), slow bool);
CREATE SEQUENCE attempts;
CREATE FUNCTION once_more() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE attempt int8; BEGIN
  IF NEW.slow THEN attempt := nextval('attempts'); END IF;
  IF attempt % 3 = 1 AND attempt < 60 THEN RAISE EXCEPTION USING ERRCODE = '40001'; END IF;
  RETURN NEW; END $$;
CREATE TRIGGER once_more BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION once_more();
DO $$ BEGIN
  EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 10', current_database()); END $$
"""

_VERSIONS = [None, -1, 0, 1, 2]
_PATIENT = Settings(max_retries=50, initial_backoff_ms=1, max_backoff_ms=8)


@dataclass(frozen=True, slots=True)
class Row:
    """at: its version. v: tells it from all others, but not from its own copies; below 0 it is
    rejected, and its chunk is written in parts.
    """

    id: int
    at: int | None
    v: int
    slow: bool


@dataclass(frozen=True, slots=True)
class Case:
    """One example. first: one load of four writers, or two of two side by side that share no
    lanes. later: a load of what comes late, after all others.
    """

    strategy: str
    driver: str
    chunk_size: int
    first: tuple[tuple[Row, ...], ...]
    later: tuple[Row, ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Few keys and versions, so that most rows meet others; every row may come again."""
    strategy, driver = draw(st.sampled_from(WAYS))
    kind = st.sampled_from(["plain"] * 8 + ["slow", "slow", "bad"])
    row = st.tuples(st.integers(0, 4), st.sampled_from(_VERSIONS), kind)
    count = draw(st.integers(1, 60))
    drawn = draw(st.lists(row, min_size=count, max_size=count))
    apart = draw(st.booleans())
    rows = [
        # Of equally new rows of two loads either may stay, so they are the same there.
        Row(
            key,
            at,
            -1 if kind == "bad" else _VERSIONS.index(at) if apart else number,
            kind == "slow",
        )
        for number, (key, at, kind) in enumerate(drawn)
    ]
    copies = draw(st.lists(st.integers(0, len(rows) - 1), max_size=30))
    order = draw(st.permutations([*range(len(rows)), *copies]))
    shuffled = [rows[number] for number in order]
    start = draw(st.integers(0, len(shuffled) - 1))
    late = shuffled[start : start + draw(st.integers(0, 12))]  # a chunk that comes again
    middle = draw(st.integers(0, len(shuffled)))
    halves = (tuple(shuffled[:middle]), tuple(shuffled[middle:]))
    first = tuple(half for half in halves if half) if apart else (tuple(shuffled + late),)
    return Case(strategy, driver, draw(st.integers(1, 9)), first, tuple(late))


def newest(rows: Iterable[Row]) -> dict[int, tuple[int | None, int]]:
    """By key: version and value of the first of its newest rows; no version is the oldest."""
    kept: dict[int, tuple[int | None, int]] = {}
    for row in rows:
        if row.v < 0:
            continue
        there = kept.get(row.id)
        if there is None or (row.at is not None and (there[0] is None or row.at > there[0])):
            kept[row.id] = (row.at, row.v)
    return kept


def check(dsn: str, case: Case) -> list[LoadResult]:
    """Load it into an emptied table and compare. Raises AssertionError."""
    execute(dsn, "TRUNCATE t; ALTER SEQUENCE attempts RESTART")
    with tempfile.TemporaryDirectory() as folder:
        results = asyncio.run(_load_all(dsn, case, Path(folder)))
    model = newest(row for rows in (*case.first, case.later) for row in rows)
    there = {key: (at, v) for key, at, v in query(dsn, "SELECT id, at, v FROM t")}
    assert there == model
    for result in results:
        total = result.total
        assert total.read == total.committed + total.duplicates + total.rejected
        assert total.read == total.accounted
    assert sum(result.total.committed for result in results) >= len(model)
    return results


async def _load_all(dsn: str, case: Case, folder: Path) -> list[LoadResult]:
    writers = WRITERS // len(case.first)
    side_by_side = (
        _load(dsn, case, rows, writers, folder / f"{number}")
        for number, rows in enumerate(case.first)
    )
    results = list(await asyncio.gather(*side_by_side))
    if case.later:
        results.append(await _load(dsn, case, case.later, 1, folder / "later"))
    return results


async def _load(
    dsn: str, case: Case, rows: Sequence[Row], writers: int, dead_letter: Path
) -> LoadResult:
    table = pa.table(
        {
            "id": pa.array([row.id for row in rows], pa.int32()),
            "at": pa.array([row.at for row in rows], pa.int32()),
            "v": pa.array([row.v for row in rows], pa.int32()),
            "slow": pa.array([row.slow for row in rows], pa.bool_()),
        }
    )
    return await load_rows(
        dsn,
        table,
        settings=_PATIENT,
        strategy=case.strategy,
        driver=case.driver,
        chunk_size=case.chunk_size,
        parallelism=writers,
        newer_by="at",
        exactly_once="off",
        dead_letter=dead_letter,
    )
