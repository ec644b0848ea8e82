"""batchbench runs, batchbench export"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from batchbench.cli.console import figures_grid, out, print_json, warn
from batchbench.cli.options import AsJson, read_run
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.results import Run, load_run
from batchbench.results.frame import export
from batchbench.results.reading import RUN_FILE


def runs_command(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("results"),
    as_json: AsJson = False,
) -> int:
    """List the runs below a folder, newest first."""
    found = []
    for path in sorted(folder.rglob(RUN_FILE)):
        try:
            found.append(load_run(path.parent))
        except BatchbenchError as error:
            warn(str(error))
    found.sort(key=lambda run: run.info.created, reverse=True)
    if as_json:
        print_json([_document(run) for run in found])
        return 0
    if not found:
        out.print(f"no run in {folder}; make one with batchbench sweep", markup=False)
        return 0
    grid = figures_grid()
    for heading in ("folder", "created", "trials", "failed", "tables", "PostgreSQL"):
        grid.add_column(heading, justify="right" if heading in ("trials", "failed") else "left")
    for run in found:
        grid.add_row(*(escape(str(value)) for value in _document(run).values()))
    out.print(grid)
    return 0


def _document(run: Run) -> dict[str, object]:
    return {
        "folder": str(run.folder),
        "created": run.info.created,
        "trials": len(run.trials),
        "failed": sum(not record.usable for record in run.trials),
        "tables": ", ".join(dict.fromkeys(record.table for record in run.trials)),
        "postgresql": f"{run.info.server.version} ({run.info.server.kind})",
    }


def export_command(
    run: Annotated[Path, typer.Argument(help="The folder of a run.", metavar="RUN")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")],
    form: Annotated[
        str | None, typer.Option("--format", help="parquet or csv. Default: by the file's name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> int:
    """Write a run's trials as one table, one row a trial."""
    if output.exists() and not force:
        raise ConfigError(f"{output} exists; give another name, or --force to replace it")
    export(read_run(run), output, form or output.suffix.removeprefix(".") or "csv")
    return 0
