"""One INSERT of a chunk's rows that are numbered as they came: what values and unnest share."""

from __future__ import annotations

from batchbench.drivers import Session, Statement
from batchbench.strategies import Payload, Target, Written
from batchbench.strategies.naming import naming_sql, written_by_name
from batchbench.strategies.sql import insert_into, on_conflict, read_rows, select_rows


def insert_sql(target: Target, rows: str, names: tuple[str, ...]) -> str:
    """INSERT from `rows`, whose column `n` grows with input order; see `select_rows`."""
    if target.by_input:
        rows = f"{read_rows(target, rows, names, 'n')} AS r"
    if target.tells_rows:
        return naming_sql(target, rows, names, "n")
    return f"{insert_into(target)} {select_rows(target, rows, names, 'n')}{on_conflict(target)}"


async def insert_rows(
    target: Target, session: Session, statement: Statement, payload: Payload
) -> Written:
    """Run it. Where it only counts, rows that a trigger dropped are among the duplicates."""
    if target.tells_rows:
        return written_by_name(target, await session.ask(statement, payload.parameters))
    row_count = await session.execute(statement, payload.parameters)
    return Written(row_count, payload.row_count - row_count if target.key is not None else 0)
