"""Record the noise corpus: python -m benchmarks.noise_corpus -o tests/noise/corpus

Raw trials of configurations that are the same under two names (A/A) and of some that differ (A/B),
in blocks whose order is reversed in every second one, over many epochs: each a fresh server and a
fresh client process. The statistics are tested by replaying them; the format is described in
tests/noise/README.md. On two cores at rest it takes about five minutes, and ten at most: no epoch
begins that would end after --minutes. Replays need ten epochs. `make evidence-noise` then takes
the new recording beside those that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import datetime as dt
import gzip
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa

from batchbench.config import Settings, child_environment, choose_allocator
from batchbench.drivers import Session, connect, read_table
from batchbench.engine import LoadOptions, load
from batchbench.harness.verify import read_encoded, send_encoded
from batchbench.profile import PROFILES, synthetic
from batchbench.servers import open_server
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import Table, TableName
from benchmarks.environment import environment
from benchmarks.ground import LandedWrongError

_METRIC = "heart_rate"
_EPOCH_LIMIT_S = 300.0
_BATCH_ROWS, _BATCH_BYTES = 65_536, 64 << 20
COLUMNS = ("epoch", "block", "position", "arm", "at_ms", "microseconds")


@dataclass(frozen=True, slots=True)
class Arm:
    """What is repeated. rows: of each load, in chunks of so many rows, by one writer."""

    strategy: str
    chunk_rows: int
    rows: int = 20_000


ARMS: Mapping[str, Arm] = {
    "copy-1": Arm("copy", 20_000),
    "copy-2": Arm("copy", 20_000),
    "copy-10000": Arm("copy", 10_000),
    "copy-more": Arm("copy", 22_000, 22_000),
    "unnest-1": Arm("unnest", 20_000),
    "unnest-2": Arm("unnest", 20_000),
    "unnest-5000": Arm("unnest", 5_000),
    "yardstick": Arm("yardstick", 20_000),
}
"""copy-more loads a tenth more rows than copy-1: a difference of about 10 % that is known to be."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One epoch's server and table. encoded: the yardstick's rows, as the server writes them."""

    session: Session
    dsn: str
    table: Table
    rows: pa.Table
    encoded: bytes

    async def run(self, arm: Arm) -> float:
        """Seconds of one load into the empty table. Raises LandedWrongError."""
        await self.session.run(f"TRUNCATE {self.table.sql}")
        seconds = await (self._yardstick() if arm.strategy == "yardstick" else self._load(arm))
        landed = (await self.session.fetch(f"SELECT count(*) FROM {self.table.sql}"))[0][0]
        if int(landed or 0) != arm.rows:
            raise LandedWrongError(f"{arm}: {landed} rows landed, not {arm.rows}")
        return seconds

    async def _yardstick(self) -> float:
        started = time.perf_counter()
        await send_encoded(self.dsn, self.table, self.rows.schema.names, self.encoded)
        return time.perf_counter() - started

    async def _load(self, arm: Arm) -> float:
        options = LoadOptions(
            settings=Settings(),
            strategy=arm.strategy,
            driver="psycopg",
            chunk_size=arm.chunk_rows,
            parallelism=1,
            on_conflict=OnConflict.ERROR,
            transaction="chunk",
            on_reject="stop",
            exactly_once="off",
        )
        source = open_source(self.rows.slice(0, arm.rows), name=_METRIC)
        result = await load(source, {None: self.table.name}, self.dsn, options)
        return result.seconds


async def _prepared(session: Session, dsn: str) -> Bench:
    name = TableName(PROFILES[_METRIC].table_name)
    await session.run(PROFILES[_METRIC].create_sql(name))
    table = await read_table(session, name)
    source = synthetic(_METRIC, max(arm.rows for arm in ARMS.values()), seed=1)
    batches = source.batches(_BATCH_ROWS, _BATCH_BYTES)
    rows = pa.Table.from_batches([batch.columns for batch in batches]).combine_chunks()
    empty = Bench(session, dsn, table, rows, b"")
    await empty.run(Arm("copy", 20_000))
    encoded = await read_encoded(dsn, table, rows.schema.names)
    return Bench(session, dsn, table, rows, encoded)


def _order(epoch: int, block: int) -> list[str]:
    """Odd blocks have a random order, each even one reverses the one before: ABBA."""
    names = list(ARMS)
    np.random.default_rng([epoch, (block - 1) // 2]).shuffle(names)
    return names if block % 2 else names[::-1]


async def _epoch(dsn: str, epoch: int, blocks: int) -> None:
    """All trials of a server's life, each printed as it ends."""
    session = await connect("psycopg", dsn)
    try:
        bench = await _prepared(session, dsn)
        for arm in ARMS.values():
            await bench.run(arm)  # warm-up
        begun = time.perf_counter()
        for block in range(1, blocks + 1):
            for position, name in enumerate(_order(epoch, block), 1):
                at_ms = round((time.perf_counter() - begun) * 1_000)
                seconds = await bench.run(ARMS[name])
                print(epoch, block, position, name, at_ms, round(seconds * 1e6), sep=",")
    finally:
        await session.close()


def _run_epoch(epoch: int, blocks: int) -> None:
    """In a process of its own; the first epoch's last line says what it ran on."""
    with open_server("embedded") as server:
        asyncio.run(_epoch(server.dsn, epoch, blocks))
        if epoch == 1:
            print(json.dumps(environment(server.dsn)))


def _epochs(epochs: int, blocks: int, limit_s: float) -> Iterator[tuple[list[str], float]]:
    """The lines of each epoch, and the machine's load (cores in use by anyone) meanwhile."""
    started, longest = time.monotonic(), 0.0
    for epoch in range(1, epochs + 1):
        begun = time.monotonic()
        if begun - started + longest > limit_s:
            return
        psutil.cpu_percent()
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.noise_corpus", f"--epoch={epoch}",
             f"--blocks={blocks}"],
            stdout=subprocess.PIPE, text=True, check=True, timeout=_EPOCH_LIMIT_S,
            env=child_environment(without=["PG", "BATCH_"]),
        )  # fmt: skip
        busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
        longest = max(longest, time.monotonic() - begun)
        print(f"epoch {epoch}: {busy:.1f} cores busy", file=sys.stderr)
        yield done.stdout.splitlines(), round(busy, 2)


def record(folder: Path, name: str, epochs: int, blocks: int, limit_s: float, note: str) -> None:
    """Write NAME.csv.gz and NAME.json."""
    trials: list[str] = []
    busy: list[float] = []
    about: dict[str, object] = {}
    for lines, cores_busy in _epochs(epochs, blocks, limit_s):
        trials += [line for line in lines if not line.startswith("{")]
        about.update(*(json.loads(line) for line in lines if line.startswith("{")))
        busy.append(cores_busy)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(line.split(",") for line in trials)
    document = {
        "note": note,
        "arms": {key: asdict(arm) for key, arm in ARMS.items()},
        "table": _METRIC,
        "epochs": len(busy),
        "cores_busy": busy,
        "environment": about,
    }
    folder.mkdir(parents=True, exist_ok=True)
    # without a time of its own, the same trials give the same file
    (folder / f"{name}.csv.gz").write_bytes(gzip.compress(text.getvalue().encode(), 9, mtime=0))
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    """Record; five to ten minutes on two cores."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noise_corpus", description=__doc__)
    parser.add_argument("--epochs", type=int, default=16, help="lives of server and client (16)")
    parser.add_argument("--blocks", type=int, default=28, help="of an epoch, an even number (28)")
    parser.add_argument("--minutes", type=float, default=10.0, help="no epoch ends after them (10)")
    parser.add_argument("--name", default=f"{dt.datetime.now(dt.UTC):%Y-%m-%d}")
    parser.add_argument("--note", default="", help="what else the machine did, such as: at rest")
    parser.add_argument("--epoch", type=int, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path, default=Path("tests/noise/corpus"))
    options = parser.parse_args(arguments)
    if options.epoch is not None:
        _run_epoch(options.epoch, options.blocks)
        return
    if (options.output / f"{options.name}.csv.gz").exists():
        parser.error(f"{options.output} has a recording {options.name}; choose another --name")
    limit_s = 60 * options.minutes
    record(options.output, options.name, options.epochs, options.blocks, limit_s, options.note)


if __name__ == "__main__":
    choose_allocator()  # for the epochs' processes, as the command line does for its own
    main()
