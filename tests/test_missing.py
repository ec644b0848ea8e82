"""A key that is absent is not a key that is null."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbench.accounting import LoadResult
from batchbench.engine import load
from batchbench.engine.run import LoadError
from batchbench.engine.shapes import key_levels
from batchbench.errors import InputError
from batchbench.events import ChunkWritten, Event, LoadStarted
from batchbench.sources import Source, SourceOptions, ndjson, open_source
from batchbench.sources import rows as row_sources
from batchbench.strategies import OnConflict
from batchbench.table import TableName
from tests.fixtures.commands import Commands
from tests.fixtures.loading import COMBINATIONS, execute, options, query

both = pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
TABLE = "CREATE TABLE t (id int4 NOT NULL, a text DEFAULT 'd', b int4, c timestamptz DEFAULT now())"
ROWS: list[dict[str, Any]] = [
    {"id": 1, "a": "x", "b": 1},
    {"id": 2, "b": 2},
    {"id": 3, "a": None, "b": 3},
    {"id": 4},
    {"a": "no id"},
    {"id": 5, "a": "y", "b": None},
]


def _as_lines(rows: list[dict[str, Any]]) -> Any:
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def _as_array(rows: list[dict[str, Any]]) -> Any:
    return io.BytesIO(json.dumps(rows).encode())


KINDS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "list": list,
    "iterator": iter,
    "ndjson": _as_lines,
    "json": _as_array,
}


def source_of(data: Any, missing: str = "default") -> Source:
    return open_source(data, options=SourceOptions(missing=missing))  # type: ignore[arg-type]


async def load_missing(dsn: str, data: Any, missing: str = "default", **changes: Any) -> LoadResult:
    return await load(source_of(data, missing), {None: TableName("t")}, dsn, options(**changes))


def rejects(path: Path) -> dict[int, dict[str, Any]]:
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({record["row_number"] for record in records}) == len(records)
    return {record["row_number"]: record for record in records}


@both
@pytest.mark.parametrize("kind", KINDS)
async def test_the_default_stays_in_force_where_the_key_is_absent(
    dsn18: str, kind: str, strategy: str, driver: str, tmp_path: Path
) -> None:
    execute(dsn18, TABLE)
    dead_letter = tmp_path / "bad.ndjson"
    chosen: dict[str, Any] = {"strategy": strategy, "driver": driver, "dead_letter": dead_letter}
    result = await load_missing(dsn18, KINDS[kind](ROWS), **chosen)
    assert query(dsn18, "SELECT id, a, b, c IS NULL FROM t ORDER BY id") == [
        (1, "x", 1, False),
        (2, "d", 2, False),
        (3, None, 3, False),
        (4, "d", None, False),
        (5, "y", None, False),
    ]
    assert (result.total.read, result.total.committed, result.total.rejected) == (6, 5, 1)
    [(number, record)] = rejects(dead_letter).items()
    assert (number, record["sqlstate"], record["column"]) == (5, "23502", "id")
    assert record["row"] == {"a": "no id"}  # so that it can be loaded again, as it was


@pytest.mark.parametrize("kind", KINDS)
async def test_null_is_what_it_was(dsn18: str, kind: str, tmp_path: Path) -> None:
    execute(dsn18, TABLE)
    await load_missing(dsn18, KINDS[kind](ROWS), "null", dead_letter=tmp_path / "bad.ndjson")
    assert query(dsn18, "SELECT id, a FROM t ORDER BY id") == [
        (1, "x"),
        (2, None),
        (3, None),
        (4, None),
        (5, "y"),
    ]


@pytest.mark.parametrize("kind", KINDS)
async def test_error_rejects_the_row_and_names_the_column(
    dsn18: str, kind: str, tmp_path: Path
) -> None:
    execute(dsn18, TABLE)
    dead_letter = tmp_path / "bad.ndjson"
    await load_missing(dsn18, KINDS[kind](ROWS), "error", dead_letter=dead_letter)
    assert query(dsn18, "SELECT id FROM t ORDER BY id") == [(1,), (3,), (5,)]
    records = rejects(dead_letter)
    assert {number: record["column"] for number, record in records.items()} == {
        2: "a",
        4: "a",
        5: "id",
    }
    assert all("has no such key" in record["reason"] for record in records.values())
    assert records[4]["row"] == {"id": 4}


async def test_rows_that_alternate_go_together(dsn18: str, tmp_path: Path) -> None:
    """Eight shapes by turns and bad rows: no chunk a row, each row where it belongs."""
    execute(dsn18, "CREATE TABLE t (id int4, a int4 DEFAULT 7, b int4 DEFAULT 8, c int4 DEFAULT 9)")
    rows = [
        {"id": n, **{name: n for place, name in enumerate("abc") if n >> place & 1}}
        for n in range(4_000)
    ]
    for bad in (17, 1_800):
        rows[bad]["a"] = "x"  # type: ignore[assignment]
    told: list[Event] = []
    dead_letter = tmp_path / "bad.ndjson"
    result = await load(
        source_of(rows),
        {None: TableName("t")},
        dsn18,
        options(chunk_size=100, dead_letter=dead_letter),
        on_event=told.append,
    )
    chunks = [event for event in told if isinstance(event, ChunkWritten)]
    assert len(chunks) <= 4_000 / 100 + 8
    assert (result.total.committed, result.total.rejected) == (3_998, 2)
    assert set(rejects(dead_letter)) == {18, 1_801}
    stored = query(dsn18, "SELECT id, a, b, c FROM t ORDER BY id")
    expected = [(r["id"], r.get("a", 7), r.get("b", 8), r.get("c", 9)) for r in rows]
    assert stored == [row for row in expected if row[1] != "x"]


@pytest.mark.parametrize("key", ["int4", "numeric"])
@pytest.mark.parametrize("parallelism", [1, 2])
async def test_the_order_of_a_keys_rows_holds(
    dsn18: str, parallelism: int, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upsert changes only what a row has: the table is what one row after another makes it.
    Where the client cannot tell keys apart (numeric), too.
    """
    monkeypatch.setattr(row_sources, "CONVERT_ROWS", 200)
    execute(dsn18, f"CREATE TABLE t (id {key} PRIMARY KEY, a int4, b int4, c int4)")
    rng, count = random.Random(parallelism), 600 if key == "int4" else 120
    rows = [
        {"id": rng.randrange(30), **dict.fromkeys(rng.sample("abc", rng.randrange(4)), i)}
        for i in range(count)
    ]
    result = await load_missing(
        dsn18, rows, chunk_size=50, parallelism=parallelism, on_conflict=OnConflict.UPDATE
    )
    model: dict[int, dict[str, int]] = {}
    for row in rows:
        model.setdefault(row["id"], {}).update(row)
    stored = query(dsn18, "SELECT id::int4, a, b, c FROM t ORDER BY 1")
    assert stored == [(n, *(model[n].get(name) for name in "abc")) for n in sorted(model)]
    assert result.total.read == result.total.accounted == count


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=60))
def test_levels_keep_the_order_of_each_key(rows: list[tuple[int, int]]) -> None:
    keys, codes = (np.array(column) for column in zip(*rows, strict=True))
    for hashes in (keys.astype(np.uint64), None):
        levels = key_levels(hashes, codes)
        for key in set(keys.tolist()) if hashes is not None else {None}:
            mine = np.flatnonzero(keys == key) if key is not None else np.arange(len(keys))
            for one, other in pairwise(mine):
                grows = levels[other] - levels[one]
                assert grows == int(codes[one] != codes[other])
            assert levels[mine[0]] == 0


async def test_a_row_without_its_key_or_without_anything_is_rejected(
    dsn18: str, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 DEFAULT 5 PRIMARY KEY, a text DEFAULT 'd')")
    rows = [{"id": 1, "a": "x"}, {"a": "no key"}, {"id": 2}, {}]
    dead_letter = tmp_path / "bad.ndjson"
    for conflict in (OnConflict.NOTHING, OnConflict.ERROR):
        execute(dsn18, "TRUNCATE t")
        dead_letter.unlink(missing_ok=True)
        await load_missing(dsn18, rows, on_conflict=conflict, dead_letter=dead_letter)
        found = {n: (r["sqlstate"], r["column"]) for n, r in rejects(dead_letter).items()}
        stored = query(dsn18, "SELECT id, a FROM t ORDER BY id")
        if conflict is OnConflict.NOTHING:
            assert found == {2: ("22004", "id"), 4: ("22004", "id")}
            assert stored == [(1, "x"), (2, "d")]
        else:
            assert found == {4: ("22004", "id")}
            assert stored == [(1, "x"), (2, "d"), (5, "no key")]


async def test_defaults_of_domains_and_identities_count(dsn18: str) -> None:
    execute(
        dsn18,
        "CREATE DOMAIN seven AS int4 DEFAULT 7; CREATE TABLE t (id int4 GENERATED BY DEFAULT AS"
        " IDENTITY, a seven, b int4)",
    )
    await load_missing(dsn18, [{"id": 10, "a": 1, "b": 1}, {"b": 2}, {"id": 11, "a": None, "b": 3}])
    assert query(dsn18, "SELECT id, a FROM t ORDER BY b") == [(10, 1), (1, 7), (11, None)]


@pytest.mark.parametrize("on_conflict", [OnConflict.ERROR, OnConflict.UPDATE])
async def test_a_resumed_load_writes_each_row_once(
    dsn18: str, tmp_path: Path, on_conflict: OnConflict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 4_000)
    execute(dsn18, "CREATE TABLE t (id int4 PRIMARY KEY, a int4 DEFAULT 7, b int4 DEFAULT 8)")
    rows = [
        {"id": n, **({"a": n} if n % 2 else {}), **({"b": n} if n % 3 else {})}
        for n in range(3_000)
    ]
    rows[700]["a"] = "bad"  # type: ignore[assignment]
    path, dead_letter = tmp_path / "x.ndjson", tmp_path / "bad.ndjson"
    path.write_bytes(_as_lines(rows).read())
    ids: list[str] = []
    written = 0

    def listen(event: Event) -> None:
        nonlocal written
        if isinstance(event, LoadStarted):
            ids.append(event.load_id)
        written += isinstance(event, ChunkWritten)
        if written == 10:
            loading.cancel()

    def start(resume: str | None, size: int, on_event: Any) -> asyncio.Task[LoadResult]:
        chosen = options(chunk_size=size, dead_letter=dead_letter, on_conflict=on_conflict)
        where = {None: TableName("t")}
        return asyncio.create_task(
            load(source_of(path), where, dsn18, chosen, resume=resume, on_event=on_event)
        )

    loading = start(None, 60, listen)
    with suppress(asyncio.CancelledError, LoadError):
        await loading
    [(before,)] = query(dsn18, "SELECT count(*) FROM t")
    assert 0 < before < 2_999
    result = await start(ids[0], 500, None)
    assert (result.total.committed, result.total.rejected, result.total.duplicates) == (2_999, 1, 0)
    assert set(rejects(dead_letter)) == {701}
    expected = [(n, r.get("a", 7), r.get("b", 8)) for n, r in enumerate(rows) if n != 700]
    assert query(dsn18, "SELECT id, a, b FROM t ORDER BY id") == expected


def test_rows_of_the_dead_letter_are_loaded_as_they_were(
    dsn18: str, commands: Commands, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id > 1), a text DEFAULT 'd')")
    path, dead_letter = tmp_path / "x.ndjson", tmp_path / "bad.ndjson"
    path.write_bytes(_as_lines([{"id": 2, "a": "x"}, {"id": 1}]).read())
    args = ["--table", "t", "--dsn", dsn18, "--missing", "default"]
    assert commands("load", path, *args, "--dead-letter", dead_letter).code == 3
    execute(dsn18, "ALTER TABLE t DROP CONSTRAINT t_id_check")
    again = tmp_path / "again.ndjson"
    rows = "--retry-rejects", dead_letter, "--dead-letter", again
    assert commands("load", *rows, *args).code == 0
    assert query(dsn18, "SELECT id, a FROM t ORDER BY id") == [(1, "d"), (2, "x")]


async def test_what_comes_later_is_missing_from_then_on(dsn18: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(row_sources, "CONVERT_ROWS", 2)
    execute(dsn18, TABLE)
    rows = [{"id": 1}, {"id": 2}, {"id": 3, "a": None}, {"id": 4}, {"id": 5}, {"id": 6, "a": "y"}]
    await load_missing(dsn18, rows)
    assert [a for (a,) in query(dsn18, "SELECT a FROM t ORDER BY id")] == [
        *("d", "d", None),
        *("d", "d", "y"),
    ]


async def test_a_missing_column_that_the_table_needs_stops_before_the_first_row(
    dsn18: str,
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 NOT NULL, a text)")
    with pytest.raises(InputError, match="has no column 'id'"):
        await load_missing(dsn18, [{"a": "x"}])


def rows_without_end() -> Iterator[dict[str, int]]:
    n = 0
    while True:
        yield {"id": n} if n % 2 else {"id": n, "a": n}
        n += 1


def test_keys_are_told_without_reading_ahead() -> None:
    source = source_of(rows_without_end())
    batch = next(source.batches(100, 1 << 30))
    assert batch.absent is not None
    assert batch.absent.to_pylist()[:4] == [b"", b"\x02", b"", b"\x02"]
    assert batch.columns.schema.names == ["id", "a"]


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b", "c d", "\u00e9"]),
            st.none() | st.sampled_from([1, 7]) | st.sampled_from(["x", '"a":', "b\\"]),
            max_size=4,
        ),
        min_size=1,
        max_size=24,
    ),
    st.booleans(),
    st.booleans(),
)
def test_both_parsers_tell_absent_from_null(
    rows: list[dict[str, Any]], spaced: bool, spelled: bool
) -> None:
    """pyarrow's, which comes in with the second block, and Python's."""
    rows = [{"a": 1}, *rows]  # no load begins with a row that has no key
    text = [json.dumps(row, separators=(", ", " : ") if spaced else (",", ":")) for row in rows]
    if spelled:  # as JSON may
        text[1:] = [line.replace('"b"', '"\\u0062"') for line in text[1:]]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ndjson, "BLOCK_BYTES", 90)
        batches = list(source_of(io.BytesIO("\n".join(text).encode())).batches(5, 1 << 30))
    seen: list[str] = []
    for batch in batches:
        names = batch.columns.schema.names
        for row, bits in zip(batch.columns.to_pylist(), batch.absent or [], strict=True):
            given_row = rows[len(seen)]
            seen.append("")
            mask = int.from_bytes(bits.as_py(), "little")
            absent = {name for place, name in enumerate(names) if mask >> place & 1}
            assert absent == set(names) - set(given_row)
            assert {n for n, v in row.items() if v is None} - absent == {
                n for n, v in given_row.items() if v is None
            }
    assert len(seen) == len(rows)
