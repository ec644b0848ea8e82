"""The client itself is killed, by SIGKILL, and its load resumed from the command line."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psycopg

from batchbench.accounting import LoadResult, TableCounts
from tests.faults.cases import Case, make_table, nothing
from tests.faults.invariants import Expected, check, dead_rows, ledger_rows, stored_rows
from tests.faults.scene import Scene

_LIMIT_S = 60.0
_LOAD_ID = re.compile(r"load id: (\w+)")
_REJECTED = 3


def _command(scene: Scene, *more: str) -> list[str]:
    setup = scene.setup
    return [
        *(sys.executable, "-m", "batchbench", "load", str(scene.path), "--table", "t", "--json"),
        *("--dsn", scene.dsn, "--exactly-once", "ledger", "--on-reject", "skip"),
        *("--driver", setup.driver, "--strategy", setup.strategy),
        *("--parallelism", str(setup.parallelism), "--transaction", str(setup.transaction)),
        *("--chunk-size", str(setup.chunk_rows), "--dead-letter", str(scene.dead_letter)),
        *more,
    ]


def _start(scene: Scene, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(scene, *more),
        cwd=scene.folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _kill_on_the_way(scene: Scene) -> tuple[str, bool]:
    """Kill a load once the table has some number of rows. (load id, whether it was under way)

    The moment is drawn: so many rows, or (of a whole transaction) so many milliseconds later.
    """
    setup, rng = scene.setup, scene.rng
    wanted = rng.choice((0, *(rng.randint(1, setup.row_count * 9 // 10) for _ in range(3))))
    later_s = rng.uniform(0.0, 0.15 if setup.transaction == "batch" else 0.02)
    deadline = time.monotonic() + _LIMIT_S
    process = _start(scene)
    assert process.stderr is not None
    said = ""
    while "load id:" not in said:  # flushed before the first row is sent
        line = process.stderr.readline()
        assert line, f"it ended early: {said}"
        said += line
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        while process.poll() is None and time.monotonic() < deadline:
            ((count,),) = connection.execute("SELECT count(*) FROM t").fetchall()
            if count >= (0 if setup.transaction == "batch" else wanted):
                break
    time.sleep(later_s)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    found = _LOAD_ID.search(said)
    assert found is not None, said
    return found[1], process.returncode == -signal.SIGKILL


def _until_its_backends_left(scene: Scene) -> None:
    """A backend whose client died may still commit what it had read."""
    deadline = time.monotonic() + 20
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(scene.dsn, autocommit=True) as connection:
        while connection.execute(query).fetchall() != [(0,)]:
            assert time.monotonic() < deadline, "backends of the dead client stay"


def _play(scene: Scene) -> None:
    setup = scene.setup
    scene.load_id, under_way = _kill_on_the_way(scene)
    scene.tally.fired += under_way
    scene.tally.loads += 1
    _until_its_backends_left(scene)
    there = stored_rows(scene.dsn)
    scene.tally.rows_at_kill = len(there)
    copies = Counter(row[0] for row in there)
    scene.tally.verdict.doubled += sum(copies.values()) - len(copies)
    settled = ledger_rows(scene.dsn, scene.load_id)
    scene.tally.verdict.lost += len(settled - set(copies) - set(setup.bad) - _elders(setup.bad))
    scene.claim(set(copies) <= settled, "in the table, not in the ledger")
    resumed = _start(scene, "--resume", scene.load_id)
    started = time.monotonic()
    out, err = resumed.communicate(timeout=_LIMIT_S)
    scene.tally.seconds = max(scene.tally.seconds, time.monotonic() - started)
    scene.tally.loads += 1
    wanted = _REJECTED if setup.bad else 0
    scene.claim(resumed.returncode == wanted, f"exit {resumed.returncode}: {err[-500:]}")
    if resumed.returncode == wanted:
        _judge(scene, json.loads(out))


def _elders(bad: Any) -> set[int]:
    return {number - 1 for number, kind in bad.items() if kind == "twin"}


def _judge(scene: Scene, said: dict[str, Any]) -> None:
    result = LoadResult(scene.load_id)
    for name, counts in said["tables"].items():
        result.tables[name] = TableCounts(**counts)
    verdict = check(
        Expected.of(scene.setup),
        result,
        stored_rows(scene.dsn),
        dead_rows(scene.dead_letter),
        finished=True,
        unknown_allowed=False,
    )
    scene.tally.result = result
    scene.tally.verdict.lost += verdict.lost
    scene.tally.verdict.doubled += verdict.doubled
    scene.tally.verdict.problems += verdict.problems


async def killed(case: Case, scene: Scene) -> None:
    """Kill it, look, resume it, look."""
    make_table(case, scene)
    await asyncio.to_thread(_play, scene)
    scene.tally.remarks += [] if scene.tally.fired else ["a client ended before it was killed"]


CASES = (
    Case(
        "client killed -9 and resumed",
        nothing,
        {
            "row_count": 15_000,
            "chunk_rows": [50, 100],
            "exactly_once": "ledger",
            "keyed": True,
            "transaction": ["chunk", "chunk", 3, "batch"],
            "bad": [
                {17: "check", 900: "null", 2_100: "range", 9_303: "twin", 14_001: "check"},
                {n: ("check", "null", "range", "twin")[n % 4] for n in range(5, 15_000, 350)},
            ],
        },
        runs=2,
        play=killed,
        may_miss=True,
    ),
)
