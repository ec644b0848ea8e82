"""Measuring and checking as a role that owns only its schema, on 15 and 18, as a user would."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batchbench.profile import PROFILES
from batchbench.results import Run, load_run
from batchbench.table import TableName
from tests.fixtures.commands import Commands
from tests.fixtures.loading import execute, query

GRID = ("--profile", "sleep", "--strategy", "copy,values", "--driver", "psycopg")
GROUND = ("--rows", "400", "--chunk-size", "20,40", "--scratch-schema", "own")
REFUSED = "this role may not read pg_stat_wal: GRANT pg_monitor to it, where that is wanted"


@pytest.fixture(autouse=True)
def managed(dsn: str, ordinary: str) -> None:
    """A server that keeps one more view to itself, as managed ones do."""
    execute(dsn, "REVOKE ALL ON pg_stat_wal FROM PUBLIC")
    ((superuser, monitor),) = query(
        ordinary,
        "SELECT rolsuper, pg_has_role('pg_monitor', 'USAGE') FROM pg_roles"
        " WHERE rolname = current_user",
    )
    assert (superuser, monitor) == (False, False)


def assert_explained(run: Run) -> None:
    """What it may not read is null with a reason, and the rest is there."""
    assert run.trials
    for record in run.trials:
        assert record.usable, record.reason
        unknown = {name for name, value in record.observed.items() if value is None}
        assert record.unobserved.keys() == unknown
        assert record.observed["wal_bytes"] is None
        assert (record.observed["heap_growth_bytes"] or 0) > 0
    assert run.unobserved["wal_bytes"] == REFUSED


def left_over(ordinary: str) -> list[tuple[str]]:
    return query(ordinary, "SELECT relname FROM pg_class WHERE relnamespace = 'own'::regnamespace")


def test_sweep_recommend_and_report(ordinary: str, commands: Commands) -> None:
    words = (*GRID, *GROUND, "--repeats", "2", "--dsn", ordinary, "-o", "run")
    refused = commands("sweep", *GRID, "--rows", "400", "--dsn", ordinary, "-o", "none")
    assert refused.code == 2
    assert "--scratch-schema NAME" in refused.error
    swept = commands("sweep", *words)
    assert swept.code == 0, swept.err
    assert_explained(load_run(Path("run")))
    told = re.sub(r"\s+", " ", swept.err)
    assert "CHECKPOINT is left out" in told
    assert re.search(rf"not seen: [a-z_, ]*\bwal_bytes\b[a-z_, ]*; {REFUSED}", told)
    assert "BATCH_SLEEP_CHUNK_SIZE=" in swept.out
    advised = commands("recommend", "run")
    assert advised.code == 0
    assert advised.out.rstrip() in swept.out.rstrip()
    page = commands("report", "run", "-o", "page.html")
    assert page.code == 0, page.err
    assert REFUSED in Path("page.html").read_text()
    assert left_over(ordinary) == []


def test_tune_and_its_confirmation(ordinary: str, commands: Commands) -> None:
    words = (*GROUND, "--parallelism", "1", "--budget", "2s", "--dsn", ordinary, "-o", "run")
    tuned = commands("tune", *GRID, *words)
    assert tuned.code == 0, tuned.err
    run = load_run(Path("run"))
    assert_explained(run)
    for fresh in run.confirmations:
        assert_explained(fresh)
    assert "BATCH_SLEEP_CHUNK_SIZE=" in tuned.out
    assert left_over(ordinary) == []


def test_check(ordinary: str, commands: Commands) -> None:
    execute(ordinary, PROFILES["sleep"].create_sql(TableName("sleep_metrics", "own")))
    checked = commands("check", "--table", "own.sleep_metrics", "--dsn", ordinary, "--json")
    assert checked.code == 0, checked.err
    (one,) = checked.json
    assert one["columns"] == 10
    absent = commands("check", "--table", "public.sleep_metrics", "--dsn", ordinary)
    assert absent.code == 2
    assert "permission denied for schema public" in absent.error
