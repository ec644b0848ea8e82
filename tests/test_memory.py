"""A load stays under BATCH_MEMORY_LIMIT_MB above what a load of one row takes, however wide."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batchbench.config import Settings, child_environment
from batchbench.engine import load
from batchbench.events import Notice
from batchbench.memory import Budget
from batchbench.sources import open_source
from batchbench.strategies import Payload
from batchbench.table import TableName
from tests.fixtures.loading import execute, options, query

WIDE = json.dumps({"id": 1, "doc": "x" * 5_000_000}) + "\n"
NARROW = "".join(json.dumps({"id": i, "doc": f"row {i}"}) + "\n" for i in range(10_000))


def peak_mb(dsn: str, path: Path, limit_mb: int, *options: str) -> float:
    """Of the whole process, as a user runs it."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "batchbench", "load", str(path)),
            *("--table", "t", "--dsn", dsn, "--json", *options),
        ],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(
            {"BATCH_MEMORY_LIMIT_MB": str(limit_mb), "PYTHONPATH": str(Path(__file__).parents[1])}
        ),
        cwd=path.parent,
    )
    result = json.loads(done.stdout)
    assert result["read"] == result["committed"]
    return float(result["peak_rss_mb"])


def write(path: Path, block: str, times: int) -> Path:
    with gzip.open(path, "wt", compresslevel=1) as file:
        for _ in range(times):
            file.write(block)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="peaks depend on glibc's allocator")
@pytest.mark.parametrize(
    ("strategy", "limit_mb", "chunk_size"),
    [("copy", 64, "5000"), ("values", 128, "5000"), ("copy", 64, "auto")],
)
def test_the_peak_stays_under_the_limit(
    dsn18: str, tmp_path: Path, strategy: str, limit_mb: int, chunk_size: str
) -> None:
    """Rows of 5 MB and rows of 20 bytes; some 640 MB and 100 times the chunk size."""
    execute(dsn18, "CREATE TABLE t (id int4, doc text)")
    execute(dsn18, "ALTER TABLE t ALTER doc SET STORAGE EXTERNAL")
    one = write(tmp_path / "one.ndjson.gz", '{"id": 1, "doc": "x"}\n', 1)
    how = ("--strategy", strategy, "--chunk-size", chunk_size)
    base = peak_mb(dsn18, one, limit_mb, *how)
    for name, block, times in (("wide", WIDE, 130), ("narrow", NARROW, 50)):
        path = write(tmp_path / f"{name}.ndjson.gz", block, times)
        over = peak_mb(dsn18, path, limit_mb, *how) - base
        assert over < limit_mb, f"{name} rows: {over:.0f} MB above a load of one row"
        execute(dsn18, "TRUNCATE t")


async def test_the_budget_bounds_what_is_held() -> None:
    budget = Budget(100)
    await budget.acquire(60)
    waiting = asyncio.create_task(budget.acquire(50))
    await asyncio.sleep(0)
    assert not waiting.done()
    await budget.release(60)
    await asyncio.wait_for(waiting, 5)
    assert budget.held_bytes == 50


async def test_what_is_larger_than_the_budget_gets_in_alone() -> None:
    budget = Budget(100)
    await budget.acquire(1)
    waiting = asyncio.create_task(budget.acquire(1_000))
    await asyncio.sleep(0)
    assert not waiting.done()
    await budget.release(1)
    await asyncio.wait_for(waiting, 5)


async def test_a_transaction_of_many_chunks_is_committed_before_memory_runs_out(dsn18: str) -> None:
    """100,000 chunks a transaction keep their rows; 32 MB are all they may keep."""
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    told: list[str] = []
    rows = [{"id": i, "note": "x" * 100_000} for i in range(400)]
    result = await load(
        open_source(rows),
        {None: TableName("t")},
        dsn18,
        options(
            settings=Settings(memory_limit_mb=32), transaction=100_000, chunk_size=5, parallelism=3
        ),
        on_event=lambda event: told.append(event.text) if isinstance(event, Notice) else None,
    )
    assert result.total.committed == 400
    assert [text for text in told if "fewer chunks" in text]
    assert query(dsn18, "SELECT count(*), count(DISTINCT xmin::text) > 3 FROM t") == [(400, True)]


def test_what_parameters_take_is_counted_once() -> None:
    """VALUES has tens of thousands, and is asked several times a chunk."""

    class Watched(list[bytes | None]):
        looks = 0

        def __iter__(self) -> Iterator[bytes | None]:
            self.looks += 1
            return super().__iter__()

    parameters = Watched([b"abc", None, b"", b"de"])
    payload = Payload(2, parameters)
    assert [payload.byte_count, payload.held_bytes > 5, payload.byte_count] == [5, True, 5]
    assert parameters.looks == 1
