"""A few lines between batchbench and libraries that write rows themselves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from batchbench import sync
from batchbench.config import load_settings
from batchbench.engine import LoadOptions
from batchbench.table import TableName


def insert(
    table: Any,
    connection: Any,
    keys: list[str],
    rows: Iterable[tuple[Any, ...]],
    options: LoadOptions | None = None,
) -> int:
    """For pandas: `frame.to_sql("orders", engine, method=batchbench.adapters.insert)`, over
    SQLAlchemy's `postgresql+psycopg`, inside the transaction that pandas opens. Options go in with
    `functools.partial`; without, `BATCH_*` says, and one row that does not fit stops it all.

    Returns the rows written. Raises what `sync.load` raises.
    """
    chosen = options or LoadOptions(settings=load_settings()[0], on_reject="stop")
    name = TableName(table.name, table.schema)
    result = sync.load(rows, name, None, chosen, columns=keys, connection=connection)
    return result.total.committed
