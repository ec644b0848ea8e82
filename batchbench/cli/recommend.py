"""batchbench recommend"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.advice import show_advice
from batchbench.cli.console import err, out
from batchbench.cli.options import AsJson
from batchbench.errors import ConfigError
from batchbench.recommend import env_text, recommend
from batchbench.results import Run, load_run


def recommend_command(
    run: Annotated[Path, typer.Argument(help="The folder of a sweep's run.", metavar="RUN")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the values to this .env file.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
    rtt_ms: Annotated[
        float | None,
        typer.Option(help="Of a run with several round trips: those that your service has."),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Print the BATCH_* values that a run recommends, each with its reason."""
    if output is not None and output.exists() and not force:
        raise ConfigError(f"{output} exists; give another name, or --force to replace it")
    stored = _at(load_run(run), rtt_ms)
    if as_json:
        show_advice(stored, as_json=True)
        text = env_text(recommend(stored)) if output is not None else ""
    else:
        text = env_text(recommend(stored))
        if output is None:
            out.print(text, markup=False, end="")
    if output is not None:
        _write(output, text)
        err.print(f"wrote {output}", markup=False)
    return 0


def _at(run: Run, rtt_ms: float | None) -> Run:
    """The part of the run that is meant: what is best near may be worst far away."""
    if run.is_open_loop:
        raise ConfigError(
            f"the rows of {run.folder} arrived at a rate of their own, so its speeds tell who keeps"
            " up, not who is fastest; recommend from a sweep without --arrival-rate"
        )
    if rtt_ms is None and len(run.rtts_ms) == 1:
        return run
    if rtt_ms not in run.rtts_ms:
        known = ", ".join(f"{known:g}" for known in run.rtts_ms)
        raise ConfigError(
            f"{run.folder} was measured with round trips of {known} ms more; name one of them with"
            " --rtt-ms"
        )
    return run.at(rtt_ms)


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    draft = path.with_name(path.name + ".part")
    try:
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
