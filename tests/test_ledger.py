"""The ledger of a role that may not do everything."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from psycopg.conninfo import make_conninfo

from batchbench.drivers import connect
from batchbench.ledger import DEFAULT_SCHEMA, Ledger
from tests.fixtures.loading import execute, load_rows, numbered, query

FULL = f"GRANT ALL ON SCHEMA {DEFAULT_SCHEMA} TO {{0}};" + "".join(
    f"GRANT ALL ON {DEFAULT_SCHEMA}.{table} TO {{0}};" for table in ("loads", "parts")
)
TAKEN = {
    f"USAGE ON SCHEMA {DEFAULT_SCHEMA}": False,
    f"SELECT ON {DEFAULT_SCHEMA}.parts": False,
    f"UPDATE ON {DEFAULT_SCHEMA}.loads": False,
    f"INSERT ON {DEFAULT_SCHEMA}.loads": False,
    f"UPDATE ON {DEFAULT_SCHEMA}.parts": True,  # never needed
}


@pytest.fixture
def role(dsn: str) -> Iterator[str]:
    """A role that may use a ledger, which is there, and insert into t."""
    name = f"ledger_{os.getpid()}"
    execute(dsn, "CREATE TABLE t (id int4, note text)")
    execute(dsn, f"CREATE ROLE {name} LOGIN; GRANT INSERT ON t TO {name}")
    yield name
    execute(dsn, f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


async def usable(dsn: str) -> bool:
    session = await connect("psycopg", dsn)
    try:
        return await Ledger(DEFAULT_SCHEMA).exists(session)
    finally:
        await session.close()


async def test_a_ledger_is_there_where_it_can_be_used(dsn: str, role: str) -> None:
    own = make_conninfo(dsn, user=role)
    assert not await usable(own)
    await load_rows(dsn, numbered(1), exactly_once="ledger")
    assert not await usable(own)
    for privilege, still in TAKEN.items():
        execute(dsn, FULL.format(role))
        assert await usable(own)
        execute(dsn, f"REVOKE {privilege} FROM {role}")
        assert await usable(own) == still, privilege


@pytest.mark.parametrize("driver", ["psycopg", "asyncpg"])
async def test_who_may_not_see_the_clusters_identifier_has_a_ledger_too(
    dsn: str, role: str, driver: str
) -> None:
    await load_rows(dsn, numbered(1), exactly_once="ledger")
    execute(dsn, FULL.format(role))
    execute(dsn, "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    own = make_conninfo(dsn, user=role)
    result = await load_rows(own, numbered(3), exactly_once="ledger", driver=driver)
    assert result.total.committed == 3
    sql = f"SELECT system_identifier, state FROM {DEFAULT_SCHEMA}.loads WHERE load_id = "
    assert query(dsn, f"{sql}'{result.load_id}'") == [("", "done")]
