"""A Writer beside `load`, and how long a row waits in it: python -m benchmarks.writer"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

import psycopg
import pyarrow as pa

from batchbench.batch import Batch
from batchbench.config import Settings
from batchbench.engine import LoadOptions, load
from batchbench.harness.producing import Payloads
from batchbench.profile import PROFILES, synthetic
from batchbench.servers import open_server
from batchbench.sources import open_source
from batchbench.table import TableName
from batchbench.writer import FlushLimits, Writer

_TABLE = PROFILES["heart_rate"].table_name
_CHUNK_ROWS = 8_000
_ADD_ROWS = 20


def _options() -> LoadOptions:
    return LoadOptions(settings=Settings(), strategy="copy", chunk_size=_CHUNK_ROWS)


async def _load_s(dsn: str, rows: pa.Table) -> float:
    """Seconds of one load, from connecting to its end."""
    started_s = time.perf_counter()
    await load(open_source(rows), {None: TableName(_TABLE)}, dsn, _options())
    return time.perf_counter() - started_s


async def _writer_s(dsn: str, rows: pa.Table) -> float:
    """The same rows through a Writer, handed over as fast as it takes them."""
    started_s = time.perf_counter()
    async with Writer(dsn, _TABLE, _options()) as writer:
        for batch in rows.to_batches(max_chunksize=_CHUNK_ROWS):
            await writer.add(batch)
    return time.perf_counter() - started_s


async def _waits_ms(dsn: str, rows: pa.Table, rows_per_s: int) -> list[float]:
    """From the scheduled `add` to the settled ticket, of each add of a steady stream."""
    payloads = Payloads(rows, rows_per_s, _ADD_ROWS)
    async with Writer(dsn, _TABLE, _options(), limits=FlushLimits(max_wait_ms=20)) as writer:
        await payloads.through(writer)
    return sorted(seconds * 1e3 for seconds in payloads.seconds)


def _rows(count: int) -> pa.Table:
    batches: list[Batch] = list(synthetic("heart_rate", count).batches(count, 1 << 30))
    return pa.Table.from_batches([batch.columns for batch in batches])


def _emptied(dsn: str, wanted: int | None = None) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        if wanted is not None:
            row = connection.execute(f"SELECT count(*) FROM {_TABLE}").fetchone()
            assert row == (wanted,), f"{row} rows, not {wanted}"
        connection.execute(f"TRUNCATE {_TABLE}")


def main() -> None:
    """Print both figures, each load verified by its count."""
    parser = argparse.ArgumentParser(prog="benchmarks.writer", description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows-per-s", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    rows = _rows(options.rows)
    with open_server("embedded") as server:
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(PROFILES["heart_rate"].create_sql())
        ratios = []
        for number in range(options.pairs + 1):  # the first warms up
            taken = {}
            for way in (_load_s, _writer_s) if number % 2 else (_writer_s, _load_s):
                taken[way] = asyncio.run(way(server.dsn, rows))
                _emptied(server.dsn, options.rows)
            if number:
                ratios.append(taken[_load_s] / taken[_writer_s])
        print(
            f"Writer at saturation / load, copy, {_CHUNK_ROWS:,} rows a chunk: median"
            f" {median(ratios):.2f} of {len(ratios)} pairs ({min(ratios):.2f}-{max(ratios):.2f})"
        )
        stream = _rows(int(options.rows_per_s * options.seconds))
        waits = asyncio.run(_waits_ms(server.dsn, stream, options.rows_per_s))
        _emptied(server.dsn, len(stream))
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(
        f"add to ticket at {options.rows_per_s:,} rows/s, max_wait_ms=20: p50 {p50:.1f} ms,"
        f" p99 {p99:.1f} ms, of {len(waits):,} adds of {_ADD_ROWS} rows"
    )


if __name__ == "__main__":
    main()
