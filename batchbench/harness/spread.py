"""How much single loads vary, as a run shows it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from batchbench.results import Run, TrialRecord

PAIR_SD = 0.15
"""Of one pair's log ratio, where no run is asked: 0.11-0.17 was measured on two shared cores."""

_Cells = dict[tuple[int, str], float]


def pair_sd(run: Run) -> float | None:
    """The spread of one pair's log ratio within a server's life; None where the run has too few
    trials to show it.

    By table and epoch, what configurations and blocks differ by is taken off; what is left of two
    trials makes a pair's. Only configurations without a failed trial count, and whole blocks.
    """
    squares, degrees = 0.0, 0
    for cells in _by_table_and_epoch(run.trials):
        blocks = sorted({block for block, _ in cells})
        names = sorted({name for _, name in cells})
        rows = [
            [cells[block, name] for name in names]
            for block in blocks
            if all((block, name) in cells for name in names)
        ]
        if len(rows) < 2 or len(names) < 2:
            continue
        logs = np.array(rows)
        rest = logs - logs.mean(axis=1, keepdims=True) - logs.mean(axis=0) + logs.mean()
        squares += float((rest**2).sum())
        degrees += (len(rows) - 1) * (len(names) - 1)
    return math.sqrt(2 * squares / degrees) if degrees else None


def _by_table_and_epoch(trials: Iterable[TrialRecord]) -> Iterable[_Cells]:
    """Log speeds by block and configuration."""
    trials = list(trials)
    failed = {record.name for record in trials if not record.usable}
    groups: dict[tuple[str, int], _Cells] = {}
    for record in trials:
        if record.rows_per_s and record.name not in failed:
            cells = groups.setdefault((record.table, record.epoch), {})
            cells[record.block, record.name] = math.log(record.rows_per_s)
    return groups.values()
