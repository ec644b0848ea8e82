"""What a load costs however few its rows: connections, statements and threads, counted."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from tests.fixtures.loading import execute, load_rows, numbered, query
from tests.proxy import open_proxy

# Set, read the table, look who serves us, COPY, COMMIT. Ledger: is it there, enter the load, and
# enter its end. Over asyncpg BEGIN goes alone, and what is fetched is parsed twice.
STATEMENTS = {
    ("psycopg", "off"): 5,
    ("asyncpg", "off"): 8,
    ("psycopg", "ledger"): 8,
    ("asyncpg", "ledger"): 12,
}
# One encodes; over psycopg another sends.
THREADS = {"psycopg": ["batchbench-copy", "batchbench-encode"], "asyncpg": ["batchbench-encode"]}


@pytest.mark.parametrize(("driver", "exactly_once"), STATEMENTS)
async def test_a_small_load_says_little(
    dsn: str, driver: str, exactly_once: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(dsn, "CREATE TABLE t (id int4 PRIMARY KEY, note text)")
    how: dict[str, Any] = {
        **{"driver": driver, "strategy": "copy", "exactly_once": exactly_once},
        "parallelism": 1,
    }
    await load_rows(dsn, numbered(1), **how)  # makes the ledger
    execute(dsn, "TRUNCATE t")
    started: list[str] = []
    start = threading.Thread.start

    def counted(thread: threading.Thread) -> None:
        started.append(thread.name)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", counted)
    async with open_proxy(dsn) as proxy:
        await load_rows(proxy.dsn, numbered(10), **how)
        statements = [query.text for query in proxy.queries]
        statements += [parse.query for parse in proxy.parses]
        connections = proxy.connections
    assert query(dsn, "SELECT count(*) FROM t") == [(10,)]
    assert connections == 1
    assert len(statements) == STATEMENTS[driver, exactly_once], [s[:60] for s in statements]
    assert sorted(name.rsplit("_", 1)[0] for name in started) == THREADS[driver]
