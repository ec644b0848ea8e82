"""The face without async, from scripts and from inside a running loop."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest

from batchbench import sync
from batchbench.errors import TableError
from tests.fixtures.loading import execute, numbered, options, query


def test_a_frame_from_a_script(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    result = sync.load(pd.DataFrame({"id": [1, 2], "note": ["a", None]}), "t", dsn18)
    assert result.total.committed == 2
    assert query(dsn18, "SELECT * FROM t ORDER BY id") == [(1, "a"), (2, None)]


async def test_inside_a_running_loop(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    assert sync.load(numbered(100), "public.t", dsn18, options()).total.committed == 100


def test_tuples_and_an_arrow_stream(dsn18: str) -> None:
    """polars and DuckDB hand over such a stream."""
    execute(dsn18, "CREATE TABLE t (id int4, note text)")

    class Stream:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return numbered(5).__arrow_c_stream__(requested_schema)

    assert sync.load(Stream(), "t", dsn18).total.committed == 5
    sync.load([(6, "x")], "t", dsn18, columns=["id", "note"])
    assert query(dsn18, "SELECT count(*) FROM t") == [(6,)]


@pytest.mark.parametrize("library", ["polars", "duckdb"])
def test_frames_that_stream_arrow(dsn18: str, library: str) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    made = pytest.importorskip(library)
    if library == "polars":
        rows = made.DataFrame({"id": [1, 2], "note": ["é", None]})
    else:
        rows = made.sql("SELECT * FROM (VALUES (1, 'é'), (2, NULL)) AS v (id, note)")
    assert sync.load(rows, "t", dsn18).total.committed == 2
    assert query(dsn18, "SELECT * FROM t ORDER BY id") == [(1, "é"), (2, None)]


def test_errors_arrive(dsn18: str) -> None:
    with pytest.raises(TableError, match="does not exist"):
        sync.load(pa.table({"a": [1]}), "missing", dsn18)
