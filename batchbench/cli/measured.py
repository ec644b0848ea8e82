"""Configured values against what a run has measured."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from batchbench.cli.console import note
from batchbench.config import Settings, chunk_variable
from batchbench.errors import InputError
from batchbench.report import evidence_of, gains_of
from batchbench.results import Run, load_run
from batchbench.results.reading import RUN_FILE

_RESULTS = Path("results")


def slower_than_measured(
    folder: Path | None, settings: Settings, variables: Collection[str]
) -> dict[str, str]:
    """By chunk variable: a sentence where the configured values are measurably slower than what a
    run recommends, for its shortest round trips.

    folder: of the run; None: the newest that measured one of the variables' tables.

    Raises InputError where a run that was named cannot be used.
    """
    run = _newest(variables) if folder is None else load_run(folder)
    if run is None:
        return {}
    if run.is_open_loop:
        raise InputError(
            f"{run.folder} measured who keeps up, not who is fastest; name another run"
        )
    note(f"values are held against run {run.info.run_id} in {run.folder}")
    evidence = replace(evidence_of(run.at(run.rtts_ms[0])), settings=settings)
    return {
        chunk_variable(gain.table): (
            f"{gain.table}: the configured values ({gain.current}) are measurably slower than those"
            f" of run {run.info.run_id} ({gain.recommended}): {gain.text} with the latter; see"
            f" batchbench recommend {run.folder}"
        )
        for gain in gains_of(evidence)
        if gain.symbol == "+" and chunk_variable(gain.table) in variables
    }


def _newest(variables: Collection[str]) -> Run | None:
    """The newest run that measured one of the tables; None where there is none."""
    found = []
    for path in _RESULTS.rglob(RUN_FILE):
        try:
            run = load_run(path.parent)
        except InputError:
            continue  # `batchbench runs` says what is wrong with it
        tables = {chunk_variable(record.table) for record in run.trials if record.usable}
        if run.info.confirms is None and not run.is_open_loop and tables & set(variables):
            found.append(run)
    return max(found, key=lambda run: run.info.created, default=None)
