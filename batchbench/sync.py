"""A face without async: for scripts, and for notebooks whose loop is running already."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

import psycopg

from batchbench.accounting import LoadResult
from batchbench.config import load_settings
from batchbench.drivers.connector import Dsn
from batchbench.engine import LoadOptions
from batchbench.engine import load as load_async
from batchbench.errors import ConfigError
from batchbench.events import Listener
from batchbench.sources import Source, open_source
from batchbench.table import TableName, parse_table_name

T = TypeVar("T")


def load(
    rows: Any,
    tables: str | TableName | Mapping[str | None, TableName],
    dsn: Dsn | None = None,
    options: LoadOptions | None = None,
    *,
    connection: object = None,
    columns: Sequence[str] | None = None,
    resume: str | None = None,
    on_event: Listener | None = None,
) -> LoadResult:
    """Load rows and wait; see `batchbench.engine.load`.

    rows: a path, a DataFrame, an Arrow table, anything with `__arrow_c_stream__` (polars, DuckDB),
        dicts, tuples with `columns`, or a `Source`. tables: a name, or one for each target of a
        source that fans out. options: None, what `BATCH_*` says.
    connection: a psycopg.Connection, or SQLAlchemy's over one. Those with async belong to a loop.
    May be called where an event loop is running: the load has a thread and a loop of its own.
    """
    if connection is not None:
        _check_without_async(connection)
    source: Source = rows if hasattr(rows, "batches") else open_source(rows, columns=columns)
    if isinstance(tables, str):
        tables = parse_table_name(tables)
    if isinstance(tables, TableName):
        tables = {None: tables}
    chosen = options or LoadOptions(settings=load_settings()[0])
    loading = load_async(
        source, tables, dsn, chosen, connection=connection, resume=resume, on_event=on_event
    )
    return run(loading)


def _check_without_async(connection: Any) -> None:
    """The load has a loop of its own, and a connection with async belongs to another."""
    connection = getattr(connection, "connection", connection)  # of SQLAlchemy's Connection
    if not isinstance(getattr(connection, "driver_connection", connection), psycopg.Connection):
        raise ConfigError(
            f"sync.load takes a psycopg.Connection, or SQLAlchemy's over one (postgresql+psycopg),"
            f" not a {type(connection).__module__}.{type(connection).__qualname__}: one with async"
            " goes to batchbench.engine.load"
        )


def run(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`, on a loop of its own in a thread of its own.

    Ctrl-C cancels it, which lets chunks in flight finish, and is raised when it has ended.
    """
    answer: Future[T] = Future()
    loop = _new_loop()
    task = loop.create_task(work)

    def live() -> None:
        try:
            answer.set_result(loop.run_until_complete(task))
        except BaseException as error:  # noqa: BLE001 - handed to the caller's thread
            answer.set_exception(error)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    thread = threading.Thread(target=live, name="batchbench", daemon=True)
    thread.start()
    try:
        return answer.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(task.cancel)
        raise
    finally:
        thread.join()


def _new_loop() -> asyncio.AbstractEventLoop:
    """psycopg waits on sockets in a way that Windows' own loop cannot."""
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop()
    return asyncio.new_event_loop()
