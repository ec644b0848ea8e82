"""One revision's side of a comparison, spoken to by `revisions.py`: a sweep that waits its turn.

It is run by its path under the modules of the revision, so that this one file speaks for both: of
batchbench it needs `run_sweep` and what a plan is made of. Standard input says in its first line
what to measure; each further line lets one load run, which a line answers. The first load,
a warm-up, runs unasked. The end of the input ends the sweep.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from batchbench.config import Settings
from batchbench.errors import BatchbenchError
from batchbench.harness import Configuration, SweepEvent, SweepPlan, TrialEnded, run_sweep


def _say(**said: object) -> None:
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


def _listen(event: SweepEvent) -> None:
    """Answer, and hold the sweep until it is its turn again."""
    if not isinstance(event, TrialEnded):
        return
    record = event.record
    name = f"{record.table} {record.strategy} {record.driver}"
    failure = None if record.usable else record.reason or "rows are missing"
    _say(kind=record.kind, name=name, rows_per_s=record.rows_per_s, failure=failure)
    if not sys.stdin.readline():
        raise SystemExit(1)


async def _sweep(asked: dict[str, Any]) -> None:
    configurations = tuple(Configuration(**raw) for raw in asked["configurations"])
    plan = SweepPlan(
        configurations=configurations,
        rows=asked["rows"],
        repeats=asked["blocks"],
        seed=asked["seed"],
    )
    output = Path(asked["folder"])
    await run_sweep(plan, asked["dsn"], Settings(), output, on_progress=_listen)


def main() -> None:
    """Run the sweep that standard input asks for."""
    try:
        asyncio.run(_sweep(json.loads(sys.stdin.readline())))
    except BatchbenchError as error:
        _say(error=str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
