"""python -m benchmarks.sampler_cost: what it costs to be seen.

The same load with and without the samplers, in pairs, each pair's order the reverse of the one
before. Counters and sizes are read before and after both, outside of their clocks, so that both
begin after the same pause. Prints the paired ratio of throughput (with over without), whether
that is equivalent within 3 %, and the sampler's CPU as a share of one core, which must stay under
2 %.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from batchbench.config import choose_allocator

choose_allocator()  # as the command line does, before rows are made

from batchbench.config import Settings  # noqa: E402
from batchbench.drivers import CAPABILITIES, Session, connect  # noqa: E402
from batchbench.engine import LoadOptions, load  # noqa: E402
from batchbench.harness.observe import Observer, Sampled, open_observer  # noqa: E402
from batchbench.profile import PROFILES, synthetic  # noqa: E402
from batchbench.servers import open_server  # noqa: E402
from batchbench.sources import open_source  # noqa: E402
from batchbench.stats import judge, paired_ratio  # noqa: E402
from batchbench.table import TableName, quote  # noqa: E402

EQUIVALENT = 0.03
MOST_CPU_SHARE = 0.02
_SCHEMA = "batchbench_sampler_cost"
_METRIC = "heart_rate"
_TABLE = TableName(PROFILES[_METRIC].table_name, _SCHEMA)


@dataclass(slots=True)
class Measured:
    """Rows a second by pair, and what the sampler used of each load that it saw."""

    seen: list[float] = field(default_factory=list)
    unseen: list[float] = field(default_factory=list)
    sampled: list[Sampled] = field(default_factory=list)

    @property
    def cpu_share(self) -> float:
        """Of one core, over all loads that were seen."""
        return sum(one.cpu_s for one in self.sampled) / sum(one.seconds for one in self.sampled)


@dataclass(frozen=True, slots=True)
class Ground:
    """Where loads run."""

    dsn: str
    session: Session
    observer: Observer
    options: LoadOptions
    rows: pa.Table

    async def load(self, measured: Measured, *, sample: bool) -> None:
        """One load into the empty table, between readings of the counters."""
        await self.session.run(f"TRUNCATE {_TABLE.sql}")
        async with self.observer.trial(_TABLE, report=[self.session], sample=sample) as sight:
            speed = await self._timed(self.observer.tagged(self.dsn))
        (measured.seen if sample else measured.unseen).append(speed)
        if sample and sight.sampled is not None:
            measured.sampled.append(sight.sampled)

    async def _timed(self, dsn: str) -> float:
        source = open_source(self.rows, name="synthetic rows")
        result = await load(source, {None: _TABLE}, dsn, self.options)
        if result.total.committed != self.rows.num_rows:
            raise AssertionError("rows are missing")
        return result.rows_per_s


async def _measure(dsn: str, arguments: argparse.Namespace) -> Measured:
    session = await connect("psycopg", dsn)
    try:
        await session.run(f"DROP SCHEMA IF EXISTS {quote(_SCHEMA)} CASCADE")
        await session.run(f"CREATE SCHEMA {quote(_SCHEMA)}")
        await session.run(PROFILES[_METRIC].create_sql(_TABLE))
        async with open_observer(dsn, arguments.driver) as observer:
            options = LoadOptions(
                settings=Settings(),
                strategy=arguments.strategy,
                driver=arguments.driver,
                parallelism=arguments.parallelism,
                exactly_once="off",
            )
            batches = list(synthetic(_METRIC, arguments.rows).batches(arguments.rows, 1 << 30))
            rows = pa.Table.from_batches([batch.columns for batch in batches])
            return await _pairs(Ground(dsn, session, observer, options, rows), arguments.pairs)
    finally:
        await session.run(f"DROP SCHEMA IF EXISTS {quote(_SCHEMA)} CASCADE")
        await session.close()


async def _pairs(ground: Ground, count: int) -> Measured:
    measured = Measured()
    for sample in (True, False):  # warm
        await ground.load(Measured(), sample=sample)
    for number in range(count):
        for sample in (True, False) if number % 2 else (False, True):
            await ground.load(measured, sample=sample)
    return measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was measured; 1 where a limit is broken, 5 where it cannot be told."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sampler_cost")
    parser.add_argument("--dsn", default="", help="a server; without it an embedded one")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--strategy", default="values")
    parser.add_argument("--driver", default="psycopg", choices=list(CAPABILITIES))
    parser.add_argument("--parallelism", type=int, default=2)
    chosen = parser.parse_args(arguments)
    kind, dsn = ("dsn", chosen.dsn) if chosen.dsn else ("embedded", None)
    with open_server(kind, dsn=dsn) as server:
        print(f"PostgreSQL {server.version}, {chosen.pairs} pairs of {chosen.rows:,} rows")
        measured = asyncio.run(_measure(server.dsn, chosen))
    return _shown(measured)


def _shown(measured: Measured) -> int:
    verdict = judge(paired_ratio(measured.seen, measured.unseen), EQUIVALENT)
    ratio = verdict.ratio
    bounds = "no interval" if ratio.low is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
    looks = sum(one.looks for one in measured.sampled)
    seconds = sum(one.seconds for one in measured.sampled)
    worst = max(one.cpu_share for one in measured.sampled)
    print(f"rows/s with over without: {ratio.estimate:.3f} ({bounds}): {verdict.finding}")
    print(f"sampler: {measured.cpu_share:.2%} of one core, {worst:.2%} in the worst load")
    print(f"looks: {looks} in {seconds:.1f} s")
    if measured.cpu_share >= MOST_CPU_SHARE or verdict.finding == "different":
        return 1
    return 0 if verdict.finding == "equivalent" else 5


if __name__ == "__main__":
    sys.exit(main())
