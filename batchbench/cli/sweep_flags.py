"""Options that `batchbench sweep` and `tune` share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from batchbench.drivers import CAPABILITIES
from batchbench.strategies import OnConflict, strategy_names


class RegimeName(StrEnum):
    """--regime"""

    BURST = "burst"
    SUSTAINED = "sustained"


SourceFile = Annotated[
    str | None, typer.Option(help="With one --table: a file whose rows to load.")
]

Strategies = Annotated[
    str | None, typer.Option(help=f"With commas: {', '.join(strategy_names())}.")
]

Drivers = Annotated[str | None, typer.Option(help=f"With commas: {', '.join(CAPABILITIES)}.")]

ChunkSizes = Annotated[str | None, typer.Option(help="Rows a chunk, with commas.")]

Writers = Annotated[str | None, typer.Option(help="Writers, with commas.")]

Transactions = Annotated[
    str | None,
    typer.Option(
        help="What is committed together, with commas: chunk, batch (the whole load, by one"
        " writer), or numbers of chunks. Default: chunk."
    ),
]

TableState = Annotated[str, typer.Option(help="Before each load: empty, or filled:N with N rows.")]

Regime = Annotated[
    RegimeName,
    typer.Option(
        help="burst: VACUUM and CHECKPOINT outside the clock, as far as this role may."
        " sustained: they are part of each load."
    ),
]

ServerSetting = Annotated[
    list[str] | None,
    typer.Option(help="name=value for the load's sessions; may be repeated."),
]

Seed = Annotated[int, typer.Option(help="Of rows and order.", min=0)]

OnConflictFlag = Annotated[OnConflict, typer.Option(help="As in batchbench load.")]

AssumeTimezone = Annotated[
    str | None, typer.Option(help="Zone of times of --source that bear none.")
]

Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run. Default: results/ and the time."),
]

Watch = Annotated[bool, typer.Option("--watch", help="Serve the report on loopback while it runs.")]

Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --output, as it was planned.")
]

ScratchSchema = Annotated[
    str | None,
    typer.Option(help="Work in this schema, which is there, instead of making one."),
]
