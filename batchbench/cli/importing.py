"""batchbench import-benchmark"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.console import out
from batchbench.results import open_run
from batchbench.results.imported import read_benchmarks


def import_command(
    files: Annotated[
        list[Path],
        typer.Argument(
            help="What pytest --benchmark-json=FILE wrote; several of the same tests make one run.",
            metavar="FILE...",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the run. Default: one in results/."),
    ] = None,
) -> int:
    """Make a run of pytest-benchmark's JSON, for compare, gate, report and runs.

    Each file is a life of its process: with six or more, intervals count how far lives lie apart.
    """
    info, records = read_benchmarks(files)
    folder = output or Path("results") / info.run_id
    with open_run(folder, info) as writer:
        for record in records:
            writer.append(record)
    out.print(f"run: {folder}", markup=False)
    return 0
