"""The server's own COPY, which a sweep times in every block: what the machine can do."""

from __future__ import annotations

from statistics import median

from batchbench.report.groups import Block, block_of, mean_logs
from batchbench.results import Run, TrialRecord
from batchbench.stats import Drift, drift_of


def yardstick_logs(run: Run, table: str) -> dict[Block, float]:
    """Mean log speed of a table's yardstick in every block; empty where it did not run.

    Where none is the table's own, one of the run serves all tables.
    """
    timed = _timed(run)
    own = [record for record in timed if record.table == table]
    return mean_logs(own or timed)


def drift_of_yardstick(run: Run) -> Drift | None:
    """Whether the machine stayed the same; None of fewer than two yardstick trials."""
    timed = _timed(run)
    if len(timed) < 2:
        return None
    # Tables differ in what a row costs: each is held against its own median.
    by_table: dict[str, list[float]] = {}
    for record in timed:
        by_table.setdefault(record.table, []).append(record.seconds or 0.0)
    typical = {table: median(seconds) for table, seconds in by_table.items()}
    shares = [(record.seconds or 0.0) / typical[record.table] for record in timed]
    return drift_of(shares, [block_of(record)[0] for record in timed])


def _timed(run: Run) -> list[TrialRecord]:
    return [record for record in run.yardsticks if record.status == "ok" and record.seconds]
