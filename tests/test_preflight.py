"""What will bite is said before the first row."""

from __future__ import annotations

import pytest

from batchbench.config import load_settings
from batchbench.drivers import connect, read_table
from batchbench.limits import ParameterUse, values_use
from batchbench.preflight import chunk_verdict, sequence_notices, table_notices
from batchbench.table import TableName
from tests.fixtures.loading import execute

BITING = [
    ("CREATE UNLOGGED TABLE t (id int)", "UNLOGGED"),
    ("CREATE TABLE t (id int) PARTITION BY LIST (id)", "is partitioned"),
    ("CREATE TABLE t (id int); ALTER TABLE t ENABLE ROW LEVEL SECURITY", "row security"),
    ("CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY, a int)", "fills id itself"),
    ("CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a + 1) STORED)", "fills b itself"),
    ("CREATE TABLE t (id int UNIQUE DEFERRABLE)", "t_id_key is checked at COMMIT only"),
    ("CREATE TABLE t (id int); CREATE UNIQUE INDEX u ON t (id) WHERE id > 0", "u is partial"),
    ("CREATE TABLE t (id int); CREATE UNIQUE INDEX u ON t ((id + 1))", "u is over an expression"),
    (
        "CREATE TABLE t (id int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER drops BEFORE INSERT ON t"
        " FOR EACH ROW EXECUTE FUNCTION f()",
        "BEFORE triggers (drops)",
    ),
    ("CREATE TABLE t (id serial); SELECT setval('t_id_seq', 2000000000)", "at 2,000,000,000"),
]


@pytest.mark.parametrize(("sql", "said"), BITING)
async def test_each_is_a_sentence(dsn: str, sql: str, said: str) -> None:
    execute(dsn, sql)
    session = await connect("psycopg", dsn)
    try:
        table = await read_table(session, TableName("t"))
        notices = table_notices(table) + await sequence_notices(session, table)
    finally:
        await session.close()
    assert len(notices) == 1
    assert said in notices[0]


async def test_a_plain_table_has_nothing_to_say(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (id bigserial PRIMARY KEY, a text UNIQUE)")
    session = await connect("asyncpg", dsn18)
    try:
        table = await read_table(session, TableName("t"))
        assert table_notices(table) + await sequence_notices(session, table) == []
    finally:
        await session.close()


@pytest.mark.parametrize(
    ("environ", "over"),
    [
        ({}, True),
        ({"BATCH_STRATEGY": "copy"}, False),
        ({"BATCH_STRATEGY": "values", "BATCH_DRIVER": "psycopg"}, True),
        ({"BATCH_T_CHUNK_SIZE": "3449"}, False),
        ({"BATCH_T_CHUNK_SIZE": "3450"}, True),
        ({"BATCH_T_CHUNK_SIZE": "3449", "BATCH_DRIVER": "asyncpg"}, True),
        ({"BATCH_T_CHUNK_SIZE": "1724", "BATCH_DRIVER": "asyncpg"}, False),
    ],
)
def test_what_is_over_the_limit(environ: dict[str, str], over: bool) -> None:
    settings, _ = load_settings(environ={"BATCH_T_CHUNK_SIZE": "7000"} | environ)

    def use_of(strategy: str) -> ParameterUse:
        return values_use(19) if strategy == "values" else ParameterUse(0)

    verdict = chunk_verdict("t", 19, settings.chunk_setting("t"), settings, use_of)
    assert verdict.over is over
    assert dict(verdict.largest) == {"asyncpg": 1_724, "psycopg": 3_449}
