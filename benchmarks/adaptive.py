"""python -m benchmarks.adaptive: loads whose chunk size adapts, against the best fixed size.

For each condition: every fixed size is screened in interleaved loads; then ten pairs of fresh loads
of 50 chunks of the best of them. A pair is two loads with that size and two that start from the
default, 5,000 rows, and adapt, in the order ABBA or BAAB; its speeds are those of two loads
together. All the rest is as users have it: COPY, two writers, a transaction a chunk, the ledger.
Every load is written down the moment it ends, in the .jsonl file beside the report, and one that is
there is not run again: a run that was cut goes on.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

from batchbench.config import choose_allocator

choose_allocator()  # as the command line does, before rows are made

import numpy as np  # noqa: E402
import psutil  # noqa: E402
import pyarrow as pa  # noqa: E402

from batchbench.config import Settings  # noqa: E402
from batchbench.drivers import Session, connect, read_table  # noqa: E402
from batchbench.engine import LoadOptions, load  # noqa: E402
from batchbench.harness.observe import delayed  # noqa: E402
from batchbench.harness.synthetic import random_rows  # noqa: E402
from batchbench.servers import open_server  # noqa: E402
from batchbench.sources import open_source  # noqa: E402
from batchbench.stats import lower_bound, paired_ratio  # noqa: E402
from batchbench.table import TableName  # noqa: E402

CHUNKS = 50
PAIRS = 10
GOAL = 0.9
_SCREENED = 3
_SCREEN_CHUNKS = 20
_FEWEST_ROWS = 100_000
_PIECE_ROWS = 50_000
_TABLE = TableName("adaptive")
_NARROW = (
    "id int8 PRIMARY KEY, user_id uuid, recorded_at timestamptz, heart_rate int4,"
    " resting_heart_rate int4, context text, source_device text"
)
_WIDE = "id int8 PRIMARY KEY, " + ", ".join(
    f"t{n} varchar(19), d{n} timestamptz, n{n} numeric(9,2), j{n} jsonb" for n in range(10)
)
_SLOW = """
CREATE OR REPLACE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$
  DECLARE x float8 := 0;
  BEGIN FOR i IN 1..60 LOOP x := x + sqrt(i); END LOOP; RETURN NEW; END $$;
CREATE TRIGGER slow BEFORE INSERT ON adaptive FOR EACH ROW EXECUTE FUNCTION slow()
"""
_SIZES = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000)


@dataclass(frozen=True, slots=True)
class Condition:
    """columns: of the table. after: SQL once it is there. flush_ms: that each COMMIT waits more."""

    name: str
    columns: str
    sizes: Sequence[int]
    rtt_ms: float = 0.0
    after: str = ""
    flush_ms: int = 0


CONDITIONS = (
    Condition("loopback", _NARROW, _SIZES),
    Condition("5 ms round trip", _NARROW, _SIZES, rtt_ms=5),
    Condition("wide rows (41 columns)", _WIDE, _SIZES[:6]),
    Condition("slow server (trigger, flush)", _NARROW, _SIZES[:7], after=_SLOW, flush_ms=10),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One load. chunk_rows: fixed, or where an adaptive size ended. busy_cores: of the machine."""

    condition: str
    kind: str
    number: int
    arm: str
    chunk_rows: int
    settled: bool
    rows: int
    seconds: float
    busy_cores: float

    @property
    def key(self) -> tuple[str, str, int, str]:
        """What tells loads apart."""
        return self.condition, self.kind, self.number, self.arm

    @property
    def rows_per_s(self) -> float:
        """Of all its rows."""
        return self.rows / self.seconds


@dataclass(slots=True)
class Log:
    """Loads that were measured, in a file of a JSON object a line."""

    path: Path
    loads: dict[tuple[str, str, int, str], Measured] = field(default_factory=dict)

    def read(self) -> None:
        """What an earlier start measured."""
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                one = Measured(**json.loads(line))
                self.loads[one.key] = one

    def add(self, one: Measured) -> None:
        """Write it down."""
        self.loads[one.key] = one
        with self.path.open("a") as file:
            file.write(json.dumps(asdict(one)) + "\n")

    def of(self, condition: Condition, kind: str, arm: str | None = None) -> list[Measured]:
        """In the order of their numbers."""
        found = [
            one
            for one in self.loads.values()
            if (one.condition, one.kind) == (condition.name, kind) and arm in (None, one.arm)
        ]
        return sorted(found, key=lambda one: one.number)

    def speed(self, condition: Condition, size: int) -> float:
        """The median of the screening, rows/s."""
        return median(
            one.rows_per_s for one in self.of(condition, "screen") if one.chunk_rows == size
        )

    def best(self, condition: Condition) -> int:
        """The fastest fixed size of the screening."""
        return max(condition.sizes, key=lambda size: self.speed(condition, size))


@dataclass(frozen=True, slots=True)
class Ground:
    """A condition's server and table. far: its address as the loads have it."""

    condition: Condition
    session: Session
    far: str
    piece: pa.Table
    log: Log

    async def measure(self, kind: str, number: int, size: int | None, rows: int) -> None:
        """One load into the empty table, unless it is in the log. size: None, it adapts."""
        arm = "auto" if size is None else f"fixed {size}" if kind == "screen" else "fixed"
        key = (self.condition.name, kind, number, arm)
        if key in self.log.loads:
            return
        await self.session.run(f"TRUNCATE {_TABLE.sql}")
        await self.session.run("CHECKPOINT")
        options = LoadOptions(settings=Settings(), chunk_size=size or "auto")
        source = open_source(self.rows(rows), name="rows")
        before = psutil.cpu_times()
        result = await load(source, {None: _TABLE}, self.far, options)
        if result.total.committed != rows:
            raise AssertionError(f"{result.total.committed} of {rows} rows were committed")
        ended = next(iter(result.chunk_sizes.values()), None)
        measured = Measured(
            *key,
            chunk_rows=ended.rows if ended is not None else size or 0,
            settled=ended is None or ended.settled,
            rows=rows,
            seconds=result.seconds,
            busy_cores=_busy_s(before) / result.seconds,
        )
        self.log.add(measured)
        print(
            f"{self.condition.name}: {kind} {number} {arm}: {measured.chunk_rows:,} rows a chunk,"
            f" {measured.rows_per_s:,.0f} rows/s",
            file=sys.stderr,
        )

    def rows(self, count: int) -> pa.Table:
        """So many rows, each id once; the other values repeat, and are not copied."""
        tables = []
        for start in range(0, count, _PIECE_ROWS):
            piece = self.piece.slice(0, min(_PIECE_ROWS, count - start))
            ids = pa.array(np.arange(start, start + len(piece)))
            tables.append(piece.set_column(0, "id", ids))
        return pa.concat_tables(tables)


def _busy_s(before: object) -> float:
    """CPU seconds of the whole machine since then: the load's own, the server's, and others'."""
    now = psutil.cpu_times()
    return sum(getattr(now, n) - getattr(before, n) for n in ("user", "nice", "system"))


async def _run(condition: Condition, dsn: str, log: Log) -> None:
    async with AsyncExitStack() as stack:
        session = await connect("psycopg", dsn)
        stack.push_async_callback(session.close)
        await session.run(f"DROP TABLE IF EXISTS {_TABLE.sql}")
        await session.run(f"CREATE TABLE {_TABLE.sql} ({condition.columns})")
        await session.run(f"ALTER SYSTEM SET commit_delay = {condition.flush_ms * 1_000}")
        await session.run(f"ALTER SYSTEM SET commit_siblings = {0 if condition.flush_ms else 5}")
        await session.run("SELECT pg_reload_conf()")
        if condition.after:
            await session.run(condition.after)
        piece = random_rows(await read_table(session, _TABLE), _PIECE_ROWS, seed=1)
        far = await stack.enter_async_context(delayed(dsn, condition.rtt_ms))
        ground = Ground(condition, session, far, piece, log)
        for number in range(_SCREENED + 1):  # the first warms up
            sizes = condition.sizes if number % 2 else condition.sizes[::-1]
            for size in sizes:
                rows = max(_FEWEST_ROWS, _SCREEN_CHUNKS * size) if number else _FEWEST_ROWS
                await ground.measure("screen" if number else "warm", number, size, rows)
        best = log.best(condition)
        for number in range(1, 2 * PAIRS + 1):  # two of each arm are a pair
            arms = (best, None) if number % 4 in (1, 0) else (None, best)
            for arm in arms:
                await ground.measure("pair", number, arm, CHUNKS * best)


def _line(condition: Condition, log: Log) -> str:
    fixed = log.of(condition, "pair", "fixed")
    auto = log.of(condition, "pair", "auto")
    ratio = paired_ratio(_paired(auto), _paired(fixed))
    low = lower_bound(ratio)
    ended = ", ".join(f"{rows:,}" for rows in sorted({one.chunk_rows for one in auto}))
    verdict = "yes" if low is not None and low >= GOAL else "no"
    return (
        f"| {condition.name} | {fixed[0].chunk_rows:,} | {fixed[0].rows:,} |"
        f" {median(one.rows_per_s for one in fixed):,.0f} |"
        f" {median(one.rows_per_s for one in auto):,.0f} | {ended} | {ratio.pairs} |"
        f" {ratio.estimate:.3f} | {ratio.low:.3f}-{ratio.high:.3f} | {low:.3f} | {verdict} |"
    )


def _paired(loads: Sequence[Measured]) -> list[float]:
    """Rows/s of each pair's two loads together."""
    twos = zip(loads[::2], loads[1::2], strict=True)
    return [(one.rows + other.rows) / (one.seconds + other.seconds) for one, other in twos]


def report(log: Log, version: str) -> str:
    """As Markdown."""
    done = [c for c in CONDITIONS if len(log.of(c, "pair")) == 4 * PAIRS]
    lines = [
        f"# Chunk sizes that adapt, {dt.datetime.now(dt.UTC):%Y-%m-%d %H:%M} UTC",
        "",
        f"`make evidence-auto`: PostgreSQL {version}, {psutil.cpu_count()} cores. Loads of {CHUNKS}"
        " chunks of the best fixed size of the screening, re-measured; each pair is two loads with"
        " it and two that start from 5,000 rows, ramp included, in the order ABBA. Ratio: rows/s of"
        " the adaptive loads to the fixed ones', Hodges-Lehmann; wanted: a lower 95 % bound of at"
        f" least {GOAL:g}. The machine was shared with other work.",
        "",
        "| condition | best fixed | rows | rows/s, fixed | rows/s, auto | auto ended at | pairs |"
        " ratio | 95 % interval | lower 95 % bound | holds |",
        "|---|---:|---:|---:|---:|---|---:|---:|---|---:|---|",
        *(_line(condition, log) for condition in done),
        "",
        "Screening, rows/s:",
        "",
        *(
            f"- {c.name}: " + ", ".join(f"{s:,}: {log.speed(c, s):,.0f}" for s in c.sizes)
            for c in done
        ),
        "",
        f"Cores in use while the loads ran, all processes: {_cores(log)}.",
        "",
    ]
    return "\n".join(lines)


def _cores(log: Log) -> str:
    busy = sorted(one.busy_cores for one in log.loads.values())
    return f"{median(busy):.2f} in the median, {busy[-1]:.2f} at most"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, then report: 1 where a condition does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptive")
    parser.add_argument("--out", type=Path, required=True, help="the report, auto-DATE.md")
    parser.add_argument("--only", help="part of a condition's name")
    chosen = parser.parse_args(arguments)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    log = Log(chosen.out.with_suffix(".jsonl"))
    log.read()
    with open_server("embedded") as server:
        for condition in CONDITIONS:
            if chosen.only is None or chosen.only in condition.name:
                asyncio.run(_run(condition, server.dsn, log))
    text = report(log, str(server.version))
    chosen.out.write_text(text)
    print(text)
    return int("| no |" in text)


if __name__ == "__main__":
    sys.exit(main())
