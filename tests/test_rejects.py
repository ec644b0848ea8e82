"""Bad rows are found, put on disk and left out; the good ones are committed."""

from __future__ import annotations

import json
import random
import stat
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchbench.engine import load
from batchbench.engine.accounts import TooManyRejectsError
from batchbench.engine.policies import Policies
from batchbench.events import ChunkSplit
from batchbench.sources import open_source
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from tests.fixtures.commands import Commands
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, numbered, options, query

both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)

KINDS = {
    "null": ("23502", {"amount": ""}),
    "text": ("22P02", {"amount": "sesame"}),
    "range": ("22003", {"amount": "3000000000"}),
    "check": ("23514", {"amount": "-1"}),
    "foreign": ("23503", {"parent": "99"}),
    "unique": ("23505", {"id": "twin"}),
    "nul": ("22021", {"note": "a\0b"}),
    "uuid": ("22P02", {"key": "not-a-uuid"}),
}
TABLE = """
CREATE TABLE parent (id int4 PRIMARY KEY);
INSERT INTO parent VALUES (1), (2);
CREATE TABLE t (id int4 PRIMARY KEY, amount int4 NOT NULL CHECK (amount >= 0),
  parent int4 REFERENCES parent, note text, key uuid);
"""


def spoiled(count: int, bad: int, seed: int) -> tuple[list[dict[str, str | None]], dict[int, str]]:
    """Rows as text, with bad ones at random places: (rows, row number -> SQLSTATE)."""
    rng = random.Random(seed)
    key = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    rows: list[dict[str, str | None]] = [
        {"id": str(i), "amount": "5", "parent": "1", "note": f"row {i}", "key": key}
        for i in range(1, count + 1)
    ]
    expected = {}
    for number, place in enumerate(sorted(rng.sample(range(1, count), bad))):
        kind = list(KINDS)[number % len(KINDS)]
        state, change = KINDS[kind]
        rows[place].update({k: v or None for k, v in change.items()})
        if kind == "unique":  # of two twins the later is rejected
            rows[place]["id"] = rows[place - 1]["id"]
        expected[place + 1] = state
    return rows, expected


def as_table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({n: pa.array([r[n] for r in rows], pa.string()) for n in rows[0]})


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@both
async def test_every_bad_row_is_found(dsn: str, strategy: str, driver: str, tmp_path: Path) -> None:
    execute(dsn, TABLE)
    rows, expected = spoiled(6_000, 24, seed=5)
    result = await load_rows(
        dsn,
        as_table(rows),
        strategy=strategy,
        driver=driver,
        chunk_size=1_000,
        parallelism=1,
        dead_letter=tmp_path / "bad.ndjson",
    )
    found = records(tmp_path / "bad.ndjson")
    assert {r["row_number"]: r["sqlstate"] for r in found} == expected
    assert len(found) == 24
    for record in found:
        assert record["row"] == rows[record["row_number"] - 1]
        assert record["source"] == "Arrow data"
        assert record["table"] == "public.t"
    assert (result.total.committed, result.total.rejected) == (6_000 - 24, 24)
    assert result.total.read == result.total.accounted
    assert query(dsn, "SELECT count(*), count(DISTINCT id) FROM t") == [(5_976, 5_976)]
    assert stat.S_IMODE((tmp_path / "bad.ndjson").stat().st_mode) == 0o600


@both
@pytest.mark.parametrize("transaction", [3, "batch"])
async def test_good_rows_of_a_shared_transaction_go_together(
    dsn18: str, strategy: str, driver: str, transaction: str | int, tmp_path: Path
) -> None:
    execute(dsn18, TABLE)
    rows, expected = spoiled(1_000, 8, seed=6)
    result = await load_rows(
        dsn18,
        as_table(rows),
        strategy=strategy,
        driver=driver,
        chunk_size=100,
        parallelism=1,
        transaction=transaction,
        on_reject="skip",
        dead_letter=tmp_path / "bad.ndjson",
    )
    found = {r["row_number"]: r["sqlstate"] for r in records(tmp_path / "bad.ndjson")}
    assert found == expected
    assert result.total.committed == 992
    assert query(dsn18, "SELECT count(*) FROM t") == [(992,)]


@pytest.mark.parametrize(
    "places", [[0], [999], [0, 999], list(range(1_000))], ids=["first", "last", "both", "all"]
)
@both
async def test_poison_rows_wherever_they_stand(
    dsn18: str, strategy: str, driver: str, places: list[int], tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id > 0), note text)")
    ids = [-1 if i in places else i + 1 for i in range(1_000)]
    rows = pa.table({"id": pa.array(ids, pa.int32()), "note": ["x"] * 1_000})
    result = await load_rows(
        dsn18,
        rows,
        strategy=strategy,
        driver=driver,
        chunk_size=1_000 if len(places) < 10 else 20,
        dead_letter=tmp_path / "bad.ndjson",
    )
    assert result.total.rejected == len(places)
    assert {r["row_number"] - 1 for r in records(tmp_path / "bad.ndjson")} == set(places)


@both
async def test_finding_k_of_n_costs_k_log_n(
    dsn18: str, strategy: str, driver: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id % 2048 <> 1000), note text)")
    splits: list[ChunkSplit] = []
    await load(
        open_source(numbered(4_096)),
        {None: TableName("t")},
        dsn18,
        options(
            strategy=strategy,
            driver=driver,
            chunk_size=4_096,
            dead_letter=tmp_path / "bad.ndjson",
        ),
        on_event=lambda e: splits.append(e) if isinstance(e, ChunkSplit) else None,
    )
    assert query(dsn18, "SELECT count(*) FROM t") == [(4_094,)]
    assert sum(split.parts for split in splits) <= 2 * 8 * 4  # two bad rows, base-8 digits of n


async def test_a_parent_that_comes_later_is_waited_for(dsn18: str, tmp_path: Path) -> None:
    """23503 is tried once more at the end: the parent may be in another writer's chunk."""
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, parent int4 REFERENCES t)")
    parents = [None if i > 500 else i + 500 for i in range(1, 1_001)]
    rows = pa.table({"id": pa.array(range(1, 1_001), pa.int32()), "parent": parents})
    rows = rows.set_column(1, "parent", pa.array(parents, pa.int32()))
    result = await load_rows(
        dsn18, rows, chunk_size=100, parallelism=3, dead_letter=tmp_path / "bad.ndjson"
    )
    assert (result.total.committed, result.total.rejected) == (1_000, 0)
    assert not (tmp_path / "bad.ndjson").exists()


@both
async def test_a_deferred_constraint_names_its_row(
    dsn18: str, strategy: str, driver: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 UNIQUE DEFERRABLE INITIALLY DEFERRED, note text)")
    rows = pa.table({"id": pa.array([1, 2, 3, 3, 4], pa.int32()), "note": list("abcde")})
    for transaction in ("chunk", "batch"):
        execute(dsn18, "TRUNCATE t")
        result = await load_rows(
            dsn18,
            rows,
            strategy=strategy,
            driver=driver,
            transaction=transaction,
            on_reject="skip",
            dead_letter=tmp_path / f"{transaction}.ndjson",
        )
        (record,) = records(tmp_path / f"{transaction}.ndjson")
        assert (record["row_number"], record["sqlstate"]) == (4, "23505")
        assert result.total.committed == 4


@both
async def test_a_clash_on_another_key_is_no_duplicate(
    dsn18: str, strategy: str, driver: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, note text UNIQUE)")
    execute(dsn18, "INSERT INTO t VALUES (1, 'a')")
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int32()), "note": ["z", "a", "c"]})
    result = await load_rows(
        dsn18,
        rows,
        strategy=strategy,
        driver=driver,
        on_conflict=OnConflict.NOTHING,
        dead_letter=tmp_path / "bad.ndjson",
    )
    (record,) = records(tmp_path / "bad.ndjson")
    assert (record["row_number"], record["constraint"]) == (2, "t_note_key")
    total = result.total
    assert (total.committed, total.duplicates, total.rejected) == (1, 1, 1)


async def test_row_security_rejects_rows_not_loads(dsn: str, tmp_path: Path) -> None:
    execute(
        dsn,
        "CREATE TABLE t (id int4, note text); ALTER TABLE t ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY even ON t USING (true) WITH CHECK (id % 2 = 0);"
        "DO $$ BEGIN CREATE ROLE plain LOGIN; EXCEPTION WHEN duplicate_object THEN END $$;"
        "GRANT ALL ON t TO plain",
    )
    plain = dsn.replace("postgres@", "plain@")
    result = await load_rows(
        plain, numbered(4), exactly_once="status", dead_letter=tmp_path / "bad.ndjson"
    )
    assert (result.total.committed, result.total.rejected) == (2, 2)
    assert {r["sqlstate"] for r in records(tmp_path / "bad.ndjson")} == {"42501"}


@pytest.mark.parametrize(("limit", "most"), [(25, 26), (0.02, 30)])
async def test_max_rejects(dsn18: str, tmp_path: Path, limit: float, most: int) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    rows = pa.table({"id": ["x"] * 1_000, "note": ["a"] * 1_000})
    dead_letter = tmp_path / "bad.ndjson"
    with pytest.raises(TooManyRejectsError, match="--max-rejects"):
        await load_rows(
            dsn18, rows, chunk_size=1, parallelism=1, max_rejects=limit, dead_letter=dead_letter
        )
    assert 1 <= len(records(dead_letter)) <= most


@pytest.mark.parametrize("policy", ["nan", "null", "error"])
async def test_nan_policies(dsn18: str, tmp_path: Path, policy: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, v float8)")
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int32()), "v": [1.5, float("nan"), None]})
    result = await load_rows(
        dsn18, rows, policies=Policies(nan=policy), dead_letter=tmp_path / "bad.ndjson"
    )
    stored = dict(query(dsn18, "SELECT id, v::text FROM t"))
    expected = {"nan": {1: "1.5", 2: "NaN", 3: None}, "null": {1: "1.5", 2: None, 3: None}}
    assert stored == expected.get(policy, {1: "1.5", 3: None})
    assert dict(result.altered) == ({"NaN read as null": 1} if policy == "null" else {})
    assert result.total.rejected == (policy == "error")


async def test_nul_is_stripped_only_where_asked(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (v text)")
    rows = pa.table({"v": ["a\0b\0", "c"]})
    dead_letter = tmp_path / "bad.ndjson"
    result = await load_rows(dsn18, rows, dead_letter=dead_letter)
    assert (result.total.committed, result.total.rejected) == (1, 1)
    assert records(dead_letter)[0]["sqlstate"] == "22021"
    result = await load_rows(dsn18, rows, policies=Policies(nul="strip"))
    assert query(dsn18, "SELECT v FROM t ORDER BY v") == [("ab",), ("c",), ("c",)]
    assert dict(result.altered) == {"texts with NUL characters stripped": 1}


def test_the_command_line_exits_3_and_retries(
    dsn18: str, commands: Commands, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 NOT NULL, at timestamptz)")
    path = tmp_path / "x.csv"
    path.write_text("id,at\n1,2025-01-01 00:00:00+00\nsesame,2025-01-01 00:00:00+00\n3,\n")
    bad = tmp_path / "bad.ndjson"
    done = commands(*("load", path, "--table", "t", "--dsn", dsn18, "--json", "--dead-letter", bad))
    assert done.code == 3, done.err
    assert (done.json["committed"], done.json["rejected"]) == (2, 1)
    assert done.json["dead_letter"] == str(bad)
    assert "sesame" not in done.out + done.err
    (record,) = records(bad)
    assert (record["row_number"], record["column"], record["sqlstate"]) == (2, "id", "22P02")
    bad.write_text(bad.read_text().replace("sesame", "2"))
    again = commands("load", "--retry-rejects", bad, "--table", "t", "--dsn", dsn18, "--json")
    assert (again.code, again.json["committed"]) == (0, 1), again.err
    assert query(dsn18, "SELECT id, at IS NULL FROM t ORDER BY id") == [
        (1, False),
        (2, False),
        (3, True),
    ]
