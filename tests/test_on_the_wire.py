"""What really goes over the wire: parameter counts, for all six combinations."""

from __future__ import annotations

import pytest

from batchbench.drivers import CAPABILITIES
from batchbench.engine import load
from batchbench.profile import PROFILES, synthetic
from batchbench.table import TableName
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, numbered, options, query
from tests.proxy import open_proxy

ROWS = 20_000


@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
@pytest.mark.parametrize("on_conflict", ["error", "update"])
async def test_no_statement_is_over_its_limit(
    dsn: str, strategy: str, driver: str, on_conflict: str
) -> None:
    profile = PROFILES["heart_rate"]
    execute(dsn, profile.create_sql())
    async with open_proxy(dsn) as proxy:
        result = await load(
            synthetic("heart_rate", ROWS),
            {None: TableName(profile.table_name)},
            proxy.dsn,
            options(strategy=strategy, driver=driver, on_conflict=on_conflict, chunk_size=8_000),
        )
        sent = [bind.parameters for bind in proxy.binds]
        declared = [parse.parameter_types for parse in proxy.parses]
    assert result.total.committed == ROWS
    assert query(dsn, "SELECT count(*) FROM heart_rate_metrics") == [(ROWS,)]
    assert max(sent + declared) <= CAPABILITIES[driver].parameter_limit
    if strategy == "values":
        # 8,000 rows x 6 columns go over psycopg as they are; asyncpg needs them split.
        expected = {"psycopg": 48_000, "asyncpg": 5_461 * 6}[driver]
        assert max(sent) == expected
        assert sum(count for count in sent if count > 10) == ROWS * 6
    if strategy == "unnest":
        assert sorted(set(sent))[-1] == 6


async def test_a_transaction_begins_in_the_message_of_its_copy(dsn: str) -> None:
    """A round trip less a chunk, which counts where the network is slow."""
    execute(dsn, "CREATE TABLE t (id int4, note text)")
    async with open_proxy(dsn) as proxy:
        await load_rows(
            proxy.dsn,
            numbered(50),
            driver="psycopg",
            strategy="copy",
            chunk_size=10,
            parallelism=1,
            exactly_once="off",
        )
        sent = [query.text for query in proxy.queries]
    begun = [sql for sql in sent if sql.startswith("BEGIN")]
    assert len(begun) == 5
    assert all("; COPY " in sql for sql in begun)
