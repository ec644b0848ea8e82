"""batchbench recommend"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.advice import show_advice
from batchbench.cli.console import err, out
from batchbench.cli.files import write_whole
from batchbench.cli.options import AsJson, RoundTrips, at_round_trips, closed_loop
from batchbench.errors import ConfigError
from batchbench.recommend import env_text, recommend
from batchbench.results import Run, load_run


def recommend_command(
    run: Annotated[Path, typer.Argument(help="The folder of a sweep's run.", metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the values to this .env file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    rtt_ms: RoundTrips = None,
    as_json: AsJson = False,
) -> int:
    """Print the BATCH_* values that a run recommends, each with its reason."""
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output} exists; give another name, or --force to replace it")
    stored = at_round_trips(_tunable(load_run(run)), rtt_ms)
    if as_json:
        show_advice(stored, as_json=True)
        text = env_text(recommend(stored)) if output is not None else ""
    else:
        text = env_text(recommend(stored))
        if output is None:
            out.print(text, markup=False, end="")
    if output is not None:
        write_whole(output, text)
        err.print(f"wrote {output}", markup=False)
    return 0


def _tunable(run: Run) -> Run:
    if run.info.is_imported:
        raise ConfigError(
            f"{run.folder} holds benchmarks of pytest-benchmark, which have no BATCH_* to set;"
            " recommend from a sweep"
        )
    return closed_loop(run)
