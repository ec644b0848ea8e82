"""batchbench loads"""

from __future__ import annotations

from typing import Annotated

import typer

from batchbench.cli.console import err, figures_grid, out, print_json
from batchbench.cli.options import AsJson, DataDir, Dsn, ServerSpec, server_of_the_user
from batchbench.cli.running import run_async
from batchbench.drivers import connect
from batchbench.engine.plan import DEFAULT_DRIVER
from batchbench.errors import ConfigError
from batchbench.ledger import DEFAULT_SCHEMA, Ledger, LoadEntry


def loads_command(
    prune_older_than: Annotated[
        str | None,
        typer.Option(
            "--prune-older-than",
            help="Delete what the ledger knows of loads that began longer ago, such as 30d;"
            " they cannot be resumed then.",
        ),
    ] = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    ledger_schema: Annotated[
        str, typer.Option(help="Schema of the ledger's tables.")
    ] = DEFAULT_SCHEMA,
    as_json: AsJson = False,
) -> int:
    """List the loads that the ledger knows, newest first, with their states.

    A load that is "running" without a process was killed: go on with it by
    batchbench load --resume LOAD_ID and the same files.
    """
    days = _days(prune_older_than)
    ledger = Ledger(ledger_schema)
    with server_of_the_user(dsn, server, data_dir) as opened:
        entries, pruned = run_async(_ask(opened.dsn, ledger, days))
    if days is not None:
        err.print(f"deleted what was known of {pruned:,} loads", markup=False)
    if as_json:
        print_json([entry.as_dict() for entry in entries])
        return 0
    grid = figures_grid()
    for title in ("load id", "state", "started"):
        grid.add_column(title)
    for title in ("committed", "duplicates"):
        grid.add_column(title, justify="right")
    grid.add_column("tables")
    for entry in entries:
        grid.add_row(
            entry.load_id,
            entry.state,
            entry.started_at,
            f"{entry.committed:,}",
            f"{entry.duplicates:,}",
            entry.tables,
        )
    out.print(grid)
    return 0


async def _ask(dsn: str, ledger: Ledger, days: int | None) -> tuple[list[LoadEntry], int]:
    session = await connect(DEFAULT_DRIVER, dsn)
    try:
        if not await ledger.exists(session):
            raise ConfigError(
                f"there is no ledger in schema {ledger.schema}: no load has made one here"
            )
        pruned = await ledger.prune(session, days) if days is not None else 0
        return await ledger.loads(session), pruned
    finally:
        await session.close()


def _days(text: str | None) -> int | None:
    if text is None:
        return None
    number = text.removesuffix("d")
    if number == text or not number.isascii() or not number.isdigit():
        raise ConfigError(f"--prune-older-than takes a number of days such as 30d, not {text!r}")
    return int(number)
