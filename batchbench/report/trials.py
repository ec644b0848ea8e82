"""Every trial as a table that a page can sort and filter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchbench.report.figures import graphic
from batchbench.report.groups import block_of
from batchbench.report.model import TrialColumn, TrialTable
from batchbench.results import Run, TrialRecord

Cell = str | float | int | None
MOST_TRIALS = 5_000
"""A page of more would come near 2 MB."""


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    of: Callable[[TrialRecord], Cell]
    numeric: bool = True
    filtered: bool = False


def _rounded(value: float | None, factor: float = 1.0) -> float | None:
    return None if value is None else graphic(value * factor)


_COLUMNS = (
    _Column("table", lambda r: r.table, numeric=False, filtered=True),
    _Column("strategy", lambda r: r.strategy, numeric=False, filtered=True),
    _Column("driver", lambda r: r.driver, numeric=False, filtered=True),
    _Column("writers", lambda r: r.parallelism),
    _Column("chunk, rows", lambda r: r.chunk_rows or r.chunk_size),
    _Column("epoch", lambda r: block_of(r)[0]),
    _Column("block", lambda r: r.block),
    _Column("rows/s", lambda r: _rounded(r.rows_per_s)),
    _Column("seconds", lambda r: _rounded(r.seconds)),
    _Column("p50, ms", lambda r: _rounded(r.p50_s, 1e3)),
    _Column("p95, ms", lambda r: _rounded(r.p95_s, 1e3)),
    _Column("slowest, ms", lambda r: _rounded(r.max_s, 1e3)),
    _Column("peak, MB", lambda r: _rounded(r.peak_rss_mb)),
    _Column("CPU, s", lambda r: _rounded(r.cpu_s)),
    _Column("retries", lambda r: r.retries),
    _Column("result", lambda r: _result(r), numeric=False, filtered=True),
    _Column("why", lambda r: r.reason or "", numeric=False),
)


def _result(record: TrialRecord) -> str:
    if record.usable:
        return "ok"
    return "failed" if record.status == "failed" else "rows not found"


def trial_table(run: Run, most: int = MOST_TRIALS) -> TrialTable:
    """All trials, or the first so many; columns that say nothing in this run are left out."""
    records = run.trials[:most]
    rows = [tuple(column.of(record) for column in _COLUMNS) for record in records]
    kept = [index for index, column in enumerate(_COLUMNS) if _tells(column, rows, index)]
    return TrialTable(
        tuple(_head(_COLUMNS[index], [row[index] for row in rows]) for index in kept),
        tuple(tuple(row[index] for index in kept) for row in rows),
        len(run.trials) - len(records),
    )


def _tells(column: _Column, rows: Sequence[tuple[Cell, ...]], index: int) -> bool:
    if column.name == "epoch":
        return len({row[index] for row in rows}) > 1
    if column.name in ("why", "retries"):
        return any(row[index] for row in rows)
    return any(row[index] is not None for row in rows)


def _head(column: _Column, values: Sequence[Cell]) -> TrialColumn:
    choices = tuple(sorted({str(value) for value in values})) if column.filtered else ()
    return TrialColumn(column.name, column.numeric, choices)
