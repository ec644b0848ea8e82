"""A COMMIT that is still being done when its fate is asked: the fence has to come first."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Literal

import pytest

from tests.fixtures.loading import execute, load_rows, numbered, query
from tests.proxy import ROWS, cut_commit_blind, open_proxy

SLOW_COMMIT = """
CREATE TABLE t (id int4, note text);
CREATE FUNCTION linger() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF NEW.id = 25 THEN PERFORM pg_sleep(1); END IF; RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER linger AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION linger();
"""


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
@pytest.mark.parametrize("exactly_once", ["ledger", "status"])
async def test_a_commit_under_way_is_fenced(
    dsn: str, driver: str, exactly_once: Literal["ledger", "status"], tmp_path: Path
) -> None:
    """The old backend would commit a second later: rows would be doubled, or their fate unknown."""
    execute(dsn, SLOW_COMMIT)
    async with open_proxy(dsn, cut_commit_blind(3, since=ROWS, half_open=True)) as proxy:
        loading = load_rows(
            proxy.dsn,
            numbered(50),
            strategy="copy",
            driver=driver,
            chunk_size=10,
            parallelism=1,
            exactly_once=exactly_once,
            dead_letter=tmp_path / "bad.ndjson",
        )
        result = await asyncio.wait_for(loading, 30)
        assert len(proxy.fired) == 1
    left = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start"
    assert query(dsn, f"{left} < now() - interval '0.5 s'") == [(0,)]
    assert query(dsn, "SELECT count(*), count(DISTINCT id) FROM t") == [(50, 50)]
    assert (result.total.committed, result.total.unknown) == (50, 0)
