"""What the server shows of a trial, beside the client's own figures.

| name | unit | what |
|---|---|---|
| wal_bytes | bytes | write-ahead log written meanwhile, by anyone: a quiet server is assumed |
| table_bytes | bytes | the table afterwards, with indexes and TOAST |
"""

from __future__ import annotations

from collections.abc import Mapping

from batchbench.drivers import Session
from batchbench.errors import WriteError
from batchbench.table import TableName

_POSITION_SQL = "SELECT pg_catalog.pg_current_wal_lsn()::text"
_SINCE_SQL = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), $1::text::pg_lsn)::text
"""
_SIZE_SQL = "SELECT pg_catalog.pg_total_relation_size($1::text::pg_catalog.regclass)::text"


async def wal_position(session: Session) -> str | None:
    """Where the write-ahead log ends now; None where this role may not know."""
    return await _answer(session, _POSITION_SQL)


async def seen_since(
    session: Session, position: str | None, table: TableName
) -> Mapping[str, float | None]:
    """The figures by name. position: of the write-ahead log, before the trial."""
    grown = None if position is None else await _answer(session, _SINCE_SQL, position)
    size = await _answer(session, _SIZE_SQL, table.sql)
    return {
        "wal_bytes": None if grown is None else float(grown),
        "table_bytes": None if size is None else float(size),
    }


async def _answer(session: Session, sql: str, *arguments: str) -> str | None:
    try:
        return (await session.fetch(sql, *arguments))[0][0]
    except WriteError as error:
        if error.fate_unknown:
            raise
        await session.rollback()
        return None
