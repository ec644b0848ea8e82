"""python -m benchmarks.sampler_cost: what it costs to be seen.

The same load with and without the samplers, in pairs, each pair's order the reverse of the one
before, over several lives of a server. Counters and sizes are read before and after both, outside
of their clocks, so that both begin after the same pause. Prints the paired ratio of throughput
(with over without), whether that is equivalent within 3 %, and the sampler's CPU as a share of one
core, which must stay under 2 %. Pairs are kept in a file, and one that is there is not run again:
192 of them take about eight minutes on two cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from batchbench.config import choose_allocator

choose_allocator()  # as the command line does, before rows are made

from batchbench.config import Settings  # noqa: E402
from batchbench.drivers import CAPABILITIES, Session, connect  # noqa: E402
from batchbench.engine import LoadOptions, load  # noqa: E402
from batchbench.harness.observe import Observer, Sampled, open_observer  # noqa: E402
from batchbench.profile import PROFILES, synthetic  # noqa: E402
from batchbench.recommend.ranking import interval  # noqa: E402
from batchbench.servers import open_server  # noqa: E402
from batchbench.sources import open_source  # noqa: E402
from batchbench.stats import Finding, Verdict, judge, paired_ratio  # noqa: E402
from batchbench.table import TableName, quote  # noqa: E402
from benchmarks.environment import environment  # noqa: E402
from benchmarks.kept import write_dated  # noqa: E402

EQUIVALENT = 0.03
MOST_CPU_SHARE = 0.02
_EPOCHS = 8
_SCHEMA = "batchbench_sampler_cost"
_METRIC = "heart_rate"
_TABLE = TableName(PROFILES[_METRIC].table_name, _SCHEMA)


@dataclass(frozen=True, slots=True)
class Pair:
    """seen, unseen: rows a second. cpu_s, sampled_s, looks: of the sampler, in the load that it
    saw. epoch: the life of the server, from 1. load: processes that wanted a core, of the last
    minute, ours too.
    """

    epoch: int
    seen: float
    unseen: float
    cpu_s: float
    sampled_s: float
    looks: int
    load: float


@dataclass(frozen=True, slots=True)
class Kept:
    """A file of a JSON object a line: for each life of a server, where it was, then its pairs."""

    path: Path

    def pairs(self) -> list[Pair]:
        """What is there."""
        return [Pair(**one) for one in self._lines() if "epoch" in one]

    def places(self) -> list[dict[str, Any]]:
        """Where they were measured."""
        return [one for one in self._lines() if "epoch" not in one]

    def add(self, one: dict[str, Any]) -> None:
        """Write it down, whole or not at all."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = self.path.with_suffix(".new")
        lines = map(json.dumps, [*self._lines(), one])
        whole.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        whole.replace(self.path)

    def _lines(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]


@dataclass(frozen=True, slots=True)
class Ground:
    """Where loads run."""

    dsn: str
    session: Session
    observer: Observer
    options: LoadOptions
    rows: pa.Table

    async def pair(self, epoch: int, *, seen_first: bool) -> Pair:
        """A load with and one without the sampler."""
        speeds: dict[bool, float] = {}
        sampled: list[Sampled] = []
        for sample in (True, False) if seen_first else (False, True):
            speeds[sample], found = await self._load(sample=sample)
            sampled += [found] if sample and found is not None else []
        (one,) = sampled
        cost = one.cpu_s, one.seconds, one.looks
        return Pair(epoch, speeds[True], speeds[False], *cost, round(os.getloadavg()[0], 2))

    async def _load(self, *, sample: bool) -> tuple[float, Sampled | None]:
        """Rows a second of one load into the empty table, between readings of the counters."""
        await self.session.run(f"TRUNCATE {_TABLE.sql}")
        async with self.observer.trial(_TABLE, report=[self.session], sample=sample) as sight:
            source = open_source(self.rows, name="synthetic rows")
            dsn = self.observer.tagged(self.dsn)
            result = await load(source, {None: _TABLE}, dsn, self.options)
        if result.total.committed != self.rows.num_rows:
            raise AssertionError("rows are missing")
        return result.rows_per_s, sight.sampled


async def _measure(dsn: str, options: argparse.Namespace, epoch: int, count: int) -> None:
    """So many pairs, each kept as it ends."""
    session = await connect("psycopg", dsn)
    try:
        await session.run(f"DROP SCHEMA IF EXISTS {quote(_SCHEMA)} CASCADE")
        await session.run(f"CREATE SCHEMA {quote(_SCHEMA)}")
        await session.run(PROFILES[_METRIC].create_sql(_TABLE))
        async with open_observer(dsn, options.driver) as observer:
            load_options = LoadOptions(
                settings=Settings(),
                strategy=options.strategy,
                driver=options.driver,
                parallelism=options.parallelism,
                exactly_once="off",
            )
            batches = list(synthetic(_METRIC, options.rows).batches(options.rows, 1 << 30))
            rows = pa.Table.from_batches([batch.columns for batch in batches])
            ground = Ground(dsn, session, observer, load_options, rows)
            await ground.pair(epoch, seen_first=True)  # warms up
            for number in range(count):
                pair = await ground.pair(epoch, seen_first=bool(number % 2))
                Kept(options.state).add(asdict(pair))
    finally:
        await session.run(f"DROP SCHEMA IF EXISTS {quote(_SCHEMA)} CASCADE")
        await session.close()


def _measure_missing(options: argparse.Namespace) -> None:
    """Life after life of a server, until there are all pairs."""
    kept = Kept(options.state)
    kind, dsn = ("dsn", options.dsn) if options.dsn else ("embedded", None)
    while missing := max(0, options.pairs - len(kept.pairs())):
        epoch = max((pair.epoch for pair in kept.pairs()), default=0) + 1
        with open_server(kind, dsn=dsn) as server:
            kept.add(environment(server.dsn))
            count = min(missing, -(-options.pairs // _EPOCHS))
            print(f"PostgreSQL {server.version}: {missing} pairs are missing", file=sys.stderr)
            asyncio.run(_measure(server.dsn, options, epoch, count))


@dataclass(frozen=True, slots=True)
class Cost:
    """verdict: of throughput with the sampler against without. cpu_share: of one core, over all
    loads that were seen; worst: of one.
    """

    verdict: Verdict
    cpu_share: float
    worst: float

    @property
    def exit_code(self) -> int:
        """1 where a limit is broken, 5 where it cannot be told."""
        if self.cpu_share >= MOST_CPU_SHARE or self.verdict.finding is Finding.DIFFERENT:
            return 1
        return 0 if self.verdict.finding is Finding.EQUIVALENT else 5


def cost_of(pairs: Sequence[Pair]) -> Cost:
    """What they show. Raises ValueError where there is none."""
    ratio = paired_ratio(
        [pair.seen for pair in pairs],
        [pair.unseen for pair in pairs],
        epochs=[pair.epoch for pair in pairs],
    )
    share = sum(pair.cpu_s for pair in pairs) / sum(pair.sampled_s for pair in pairs)
    worst = max(pair.cpu_s / pair.sampled_s for pair in pairs)
    return Cost(judge(ratio, EQUIVALENT), share, worst)


def report(pairs: Sequence[Pair], places: Sequence[dict[str, Any]], rows: int) -> Iterator[str]:
    """As lines of Markdown."""
    cost, seen = cost_of(pairs), places[-1]
    ratio = cost.verdict.ratio
    load = sorted(pair.load for pair in pairs)
    seconds = sum(rows / pair.seen + rows / pair.unseen for pair in pairs)
    yield (
        f"- Rows/s with the samplers over without: {ratio.estimate:.3f}{interval(ratio)},"
        f" {ratio.pairs} pairs over {ratio.epochs} lives of the server: {cost.verdict.finding}"
        f" within {EQUIVALENT:.0%}; equivalent is wanted."
    )
    yield (
        f"- The samplers took {cost.cpu_share:.2%} of one core, client and backend together, and"
        f" {cost.worst:.2%} in the worst load; under {MOST_CPU_SHARE:.0%} is wanted. They looked"
        f" {sum(pair.looks for pair in pairs):,} times."
    )
    yield (
        f"- Machine: {seen['cpu']}, {seen['cpu_count']} cores, {seen['memory_gib']} GiB,"
        f" {seen['platform']}, Python {seen['python']}; PostgreSQL {seen['server']}; commit"
        f" {', '.join(sorted({str(place['revision']) for place in places}))}."
    )
    yield (
        f"- From {places[0]['date']} to {seen['date']}, {seconds:,.0f} s of loads of {rows:,} rows;"
        f" load average meanwhile, ours too: {load[0]:.1f} to {load[-1]:.1f}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print it all; 1 where a limit is broken, 5 where it cannot be
    told.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sampler_cost",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dsn", default="", help="a server; without it an embedded one")
    parser.add_argument("--pairs", type=int, default=192, help="over eight lives (192)")
    parser.add_argument("--rows", type=int, default=100_000, help="of each load (100,000)")
    parser.add_argument("--strategy", default="values")
    parser.add_argument("--driver", default="psycopg", choices=list(CAPABILITIES))
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--state", type=Path, default=Path("results/evidence-samplers.ndjson"))
    parser.add_argument("--out", type=Path, help="a file to write it to as well")
    chosen = parser.parse_args(arguments)
    _measure_missing(chosen)
    kept = Kept(chosen.state)
    pairs = kept.pairs()[: chosen.pairs]
    lines = report(pairs, kept.places(), chosen.rows)
    print(write_dated(chosen.out, lines, "What the samplers cost"))
    return cost_of(pairs).exit_code


if __name__ == "__main__":
    sys.exit(main())
