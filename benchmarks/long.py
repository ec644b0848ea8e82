"""The long rows: up to 10 million rows of Parquet, in the library and as a whole process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

from batchbench.config import child_environment
from benchmarks import ways
from benchmarks.data import Data, Inputs
from benchmarks.duplicates import CHUNK_ROWS
from benchmarks.ground import Ground
from benchmarks.results import Ratio, Sample, WayResult
from benchmarks.tables import TABLES

_TEN_THOUSAND = 10_000
_STEPS = (10_000, 100_000, 1_000_000, 10_000_000)
_MEMORY_STEPS = (1_000_000, 10_000_000)
_PEAKS = 3  # they hardly vary
_LIMIT_S = 1_800

# A process between: Linux counts the memory of whoever starts a program as the program's own.
_LAUNCHER = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
seconds = time.perf_counter() - started
peak_kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([done.returncode, seconds, peak_kib]))
"""


@dataclass(frozen=True, slots=True)
class LongResult:
    """us_per_row: by rows, connection open. peak_mb: of the whole process, by rows, in chunks of
    `CHUNK_ROWS`. process_over_library: at the most rows, in larger chunks on both sides. All in one
    transaction, exactly-once off.
    """

    us_per_row: Mapping[int, float]
    peak_mb: Mapping[int, float]
    process_over_library: Ratio
    library: WayResult
    process: WayResult


def measure_long(
    ground: Ground, inputs: Inputs, repeats: int, seed: int, say: Callable[[str], None],
    most_rows: int = _STEPS[-1],
) -> LongResult:  # fmt: skip
    """Measure them, every load verified. most_rows: for a try; the goal means 10 million."""
    scale = most_rows / _STEPS[-1]
    steps = sorted({max(1, round(rows * scale)) for rows in _STEPS})
    table = TABLES["heart_rate"]
    ground.keep_rows(table, steps[-1])
    say(f"cost per row at {', '.join(f'{rows:,}' for rows in steps)} rows")
    data = {rows: inputs.get(table, "parquet", rows) for rows in steps}
    us_per_row = _cost_per_row(ground, data, repeats, seed)
    say("whole process against library")
    library, process = _whole_process(ground, data[steps[-1]], repeats)
    say("memory of a whole process")
    return LongResult(
        us_per_row,
        {
            rows: median(_process(ground, data[rows], CHUNK_ROWS)[1] for _ in range(_PEAKS))
            for rows in (max(1, round(step * scale)) for step in _MEMORY_STEPS)
        },
        process.over(library),
        library,
        process,
    )


def ten_thousand_s(ground: Ground, inputs: Inputs, repeats: int) -> float:
    """Median seconds of 10,000 rows of Python tuples into a keyed table, with the connection
    open: as one chunk, exactly-once off.
    """
    table = TABLES["heart_rate_keyed"]
    data = inputs.get(table, "tuples", _TEN_THOUSAND)
    ground.keep_rows(table, _TEN_THOUSAND)
    seconds = []
    for _ in range(repeats):
        ground.reset(table, _TEN_THOUSAND)
        seconds.append(ways.AUTO_CHUNKS.result(ground.dsn, table, data).seconds)
        ground.check(table, _TEN_THOUSAND)
    return median(seconds)


def _cost_per_row(
    ground: Ground, data: Mapping[int, Data], repeats: int, seed: int
) -> dict[int, float]:
    seconds: dict[int, list[float]] = {rows: [] for rows in data}
    shuffled = random.Random(seed)  # nosec B311 # an order
    for _ in range(repeats):
        for rows in shuffled.sample(list(data), len(data)):
            one = data[rows]
            ground.reset(one.table, rows)
            seconds[rows].append(ways.COPY.result(ground.dsn, one.table, one).seconds)
            ground.check(one.table, rows)
    return {rows: median(found) / rows * 1e6 for rows, found in seconds.items()}


def _whole_process(ground: Ground, data: Data, repeats: int) -> tuple[WayResult, WayResult]:
    library, process = [], []
    for number in range(repeats):
        # by turns, and each first in every second round
        for position in (0, 1) if number % 2 == 0 else (1, 0):
            if position == 0:
                ground.reset(data.table, data.row_count)
                started = time.perf_counter()
                ways.COPY.load(ground.dsn, data.table, data)
                library.append(Sample(number, 0, time.perf_counter() - started))
                ground.check(data.table, data.row_count)
            else:
                seconds, _ = _process(ground, data, ways.COPY.chunk_rows)
                process.append(Sample(number, 1, seconds))
    boundary, rows = ways.COPY.transaction, data.row_count
    return (
        WayResult("library", "ours", 1, boundary, rows, tuple(library)),
        WayResult("batchbench load", "ours", 1, boundary, rows, tuple(process)),
    )


def _process(ground: Ground, data: Data, chunk_rows: int) -> tuple[float, float]:
    """Seconds from start to end of `batchbench load`, and its peak memory in MB."""
    ground.reset(data.table, data.row_count)
    options = {
        "--table": data.table.name,
        "--dsn": ground.dsn,
        "--strategy": ways.COPY.strategy,
        "--driver": ways.COPY.driver,
        "--parallelism": "1",
        "--chunk-size": str(chunk_rows),
        "--transaction": "batch",
        "--exactly-once": "off",
    }
    command = [sys.executable, "-m", "batchbench", "load", str(data.path)]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, *command, *sum(options.items(), ())],
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        check=True,
        env=child_environment(without=("PG", "BATCH_", "DATABASE_URL")),
    )
    code, seconds, peak_kib = json.loads(done.stdout)
    if code != 0:
        raise RuntimeError(f"batchbench load ended with {code}: {done.stderr[-400:]}")
    ground.check(data.table, data.row_count)
    return seconds, peak_kib * 1024 / 1e6
