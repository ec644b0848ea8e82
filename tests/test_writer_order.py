"""Rows of one key through a Writer of several connections, against a model."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.writer import FlushLimits, Writer
from tests.fixtures.loading import execute, query

PAYLOADS, KEYS, VERSIONS = 150, 6, 40
FORMS = (("a", "b"), ("a",), ("b",), ())


def payloads(rng: random.Random) -> list[list[dict[str, int]]]:
    """Each of one to four rows that leave out this column or that; no value comes twice."""

    def row() -> dict[str, int]:
        given = {name: rng.randrange(1 << 30) for name in rng.choice(FORMS)}
        return {"id": rng.randrange(KEYS), "at": rng.randrange(VERSIONS), **given}

    return [[row() for _ in range(rng.randint(1, 4))] for _ in range(PAYLOADS)]


def after(rows: list[dict[str, int]], *, newer: bool) -> dict[int, dict[str, int | None]]:
    """What rows that are written one by one leave behind: an update leaves alone what they lack."""
    there: dict[int, dict[str, int | None]] = {}
    for row in rows:
        before = there.get(row["id"])
        if before is None:
            there[row["id"]] = {"a": None, "b": None, **row}
        elif not newer or row["at"] > (before["at"] or 0):
            before.update(row)
    return there


@pytest.mark.parametrize("strategy", ["unnest", "copy", "optimistic"])
@pytest.mark.parametrize("rule", [{"newer_by": "at"}, {"on_conflict": "update"}])
@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_rows_of_a_key_are_written_in_their_order(
    dsn18: str, strategy: str, rule: dict[str, Any], driver: str
) -> None:
    """Whatever they leave out, and whoever writes them."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, at int4, a int4, b int4)")
    given = payloads(random.Random(f"{strategy} {driver}"))
    how = LoadOptions(
        settings=Settings(), strategy=strategy, driver=driver, parallelism=4, chunk_size=3, **rule
    )
    async with Writer(dsn18, "t", how, limits=FlushLimits(max_rows=2)) as writer:
        tickets = [await writer.add(rows) for rows in given]
        outcomes = await asyncio.gather(*tickets)
    assert sum(one.committed + len(one.duplicates) for one in outcomes) == sum(map(len, given))
    model = after([row for rows in given for row in rows], newer="newer_by" in rule)
    found = query(dsn18, "SELECT id, at, a, b FROM t")
    there = {key: {"id": key, "at": at, "a": a, "b": b} for key, at, a, b in found}
    assert there == model
