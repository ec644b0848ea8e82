"""Many producers, one Writer, a server that is killed: python -m tests.faults.producers"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.events import Event, InFlight
from batchbench.servers import Cluster
from batchbench.writer import FlushLimits, Outcome, Ticket, UnwrittenError, Writer
from tests.fixtures.faults import kill_postmaster, open_own_cluster
from tests.fixtures.loading import execute, query
from tests.fixtures.servers import server_header

# Without a key: a row that is written twice is there twice.
_TABLE = "CREATE TABLE t (id int8 NOT NULL, v int4 CHECK (v >= 0), note varchar(20))"
_ADDS_PER_S = 10
_DOWN_S = 0.5
_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Plan:
    """How much comes from how many. The server is killed at half time."""

    producers: int = 64
    rows_per_s: int = 200
    seconds: float = 10.0
    bad: float = 0.02
    memory_limit_mb: float = 64.0
    seed: int = 1


@dataclass(slots=True)
class Given:
    """What one `add` handed over: ids from `first`, the positions of its bad rows, and its end."""

    first: int
    bad: tuple[int, ...]
    ticket: Ticket
    outcome: Outcome | None = None


@dataclass(slots=True)
class Tally:
    """What came of it. faults: every promise that was broken."""

    tickets: int = 0
    rows: int = 0
    committed: int = 0
    rejected: int = 0
    unwritten: int = 0
    unknown: int = 0
    seconds: float = 0.0
    most_held_mb: float = 0.0
    most_grown_mb: float = 0.0
    faults: list[str] = field(default_factory=list)


async def run(cluster: Cluster, plan: Plan) -> Tally:
    """Write, kill, start again, and hold every answer against the table."""
    execute(cluster.dsn, _TABLE)
    tally, held = Tally(), [0]
    settings = Settings(memory_limit_mb=plan.memory_limit_mb, max_retries=20)

    def listen(event: Event) -> None:
        if isinstance(event, InFlight):
            held.append(max(held.pop(), event.held_bytes))

    started_s = time.monotonic()
    async with Writer(
        cluster.dsn,
        "t",
        LoadOptions(settings=settings),
        limits=FlushLimits(max_wait_ms=20),
        on_event=listen,
    ) as writer:
        await (await writer.add([{"id": -1, "v": 0, "note": "first"}]))
        async with _memory(tally), asyncio.TaskGroup() as tasks:
            tasks.create_task(_kill(cluster, plan.seconds / 2))
            made = [tasks.create_task(_produce(writer, plan, n)) for n in range(plan.producers)]
        given = [one for task in made for one in task.result()]
        await asyncio.gather(*(_settle(one) for one in given))
    tally.seconds = time.monotonic() - started_s
    tally.most_held_mb = held[0] / (1 << 20)
    _judge(tally, given, {row[0]: row[1] for row in query(cluster.dsn, _STORED)}, plan)
    return tally


_STORED = "SELECT id, count(*) FROM t WHERE id >= 0 GROUP BY id"


async def _produce(writer: Writer, plan: Plan, number: int) -> list[Given]:
    """One producer's rows, in time; each has an id of its own."""
    rng, given = random.Random(plan.seed * 1_000 + number), []
    each = max(1, plan.rows_per_s // _ADDS_PER_S)
    started_s = time.monotonic()
    for turn in range(int(plan.seconds * _ADDS_PER_S)):
        await asyncio.sleep(started_s + turn / _ADDS_PER_S - time.monotonic())
        first = (number * 1_000_000 + turn) * 1_000
        bad = tuple(i for i in range(each) if rng.random() < plan.bad)
        rows = [_row(first + i, i in bad, rng) for i in range(each)]
        given.append(Given(first, bad, await writer.add(rows)))
    return given


def _row(number: int, bad: bool, rng: random.Random) -> dict[str, Any]:
    row = {"id": number, "v": 0, "note": "a note"}
    if bad:  # refused by a constraint, or before it is sent
        row |= rng.choice(({"v": -1}, {"note": "x" * 30}))
    return row


async def _kill(cluster: Cluster, after_s: float) -> None:
    await asyncio.sleep(after_s)
    await asyncio.to_thread(kill_postmaster, cluster, at_once=True)
    await asyncio.sleep(_DOWN_S)
    await asyncio.to_thread(cluster.start)


async def _settle(given: Given) -> None:
    try:
        given.outcome = await given.ticket
    except UnwrittenError as error:
        given.outcome = error.outcome


@asynccontextmanager
async def _memory(tally: Tally) -> AsyncIterator[None]:
    """How much the process grows meanwhile."""
    process = psutil.Process()
    before = process.memory_info().rss

    async def sample() -> None:
        while True:
            grown_mb = (process.memory_info().rss - before) / (1 << 20)
            tally.most_grown_mb = max(tally.most_grown_mb, grown_mb)
            await asyncio.sleep(_SAMPLE_S)

    sampling = asyncio.create_task(sample())
    try:
        yield
    finally:
        sampling.cancel()


def _judge(tally: Tally, given: list[Given], stored: dict[int, int], plan: Plan) -> None:
    """Every row that was acknowledged once, every bad one named to its producer, nothing else."""
    for one in given:
        outcome = one.outcome
        assert outcome is not None  # every ticket has settled
        tally.tickets += 1
        tally.rows += outcome.row_count
        tally.committed += outcome.committed
        tally.rejected += len(outcome.rejected)
        tally.unwritten += outcome.unwritten
        tally.unknown += outcome.unknown
        there = {i: stored.pop(one.first + i, 0) for i in range(outcome.row_count)}
        certain = not outcome.unwritten + outcome.unknown
        named = tuple(rejected.row for rejected in outcome.rejected)
        if certain and named != one.bad:
            tally.faults.append(f"of the add at {one.first}, {named} were rejected, not {one.bad}")
        for i, count in there.items():
            if (certain and count != (i not in one.bad)) or count > 1 or (i in one.bad and count):
                tally.faults.append(f"row {one.first + i} is in the table {count} times")
    if stored:
        tally.faults.append(f"{len(stored)} rows are in the table that nobody gave")
    for what, mb in (("chunks held", tally.most_held_mb), ("process grew", tally.most_grown_mb)):
        if mb > plan.memory_limit_mb:
            tally.faults.append(f"{what} {mb:.0f} MB, the limit is {plan.memory_limit_mb:.0f}")


def words(plan: Plan, tally: Tally) -> str:
    """What came of it, for people."""
    return "\n".join(
        (
            f"{plan.producers} producers, {plan.rows_per_s} rows/s each, {plan.bad:.0%} bad rows;"
            f" server killed at {plan.seconds / 2:g} s and started again. {server_header()}",
            "",
            f"- {tally.tickets:,} tickets, all settled; {tally.rows:,} rows; {tally.seconds:.1f} s",
            f"- committed {tally.committed:,}, rejected {tally.rejected:,}, unwritten"
            f" {tally.unwritten:,}, unknown {tally.unknown:,}",
            f"- memory: chunks held {tally.most_held_mb:.1f} MB, the process grew by"
            f" {tally.most_grown_mb:.1f} MB, limit {plan.memory_limit_mb:g} MB",
            f"- promises broken: {len(tally.faults)}",
            *(f"  - {fault}" for fault in tally.faults[:20]),
        )
    )


def main() -> int:
    """Print what came of it; 1 where a promise was broken."""
    parser = argparse.ArgumentParser(prog="tests.faults.producers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=Plan().seconds)
    parser.add_argument("--seed", type=int, default=Plan().seed)
    parser.add_argument("--out", type=Path, help="also write it here (Markdown)")
    arguments = parser.parse_args()
    plan = Plan(seconds=arguments.seconds, seed=arguments.seed)
    with open_own_cluster() as cluster:
        tally = asyncio.run(run(cluster, plan))
    text = words(plan, tally)
    print(text)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(f"# Many producers, one writer\n\n{text}\n")
    return 1 if tally.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
