"""How a sweep of rows that arrive at a rate looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import groupby

from batchbench.cli.console import figures_grid, out, print_json, warn
from batchbench.errors import InputError
from batchbench.results import KeepingUp, Run, keeping_up

_WORDS = {True: "yes", False: "no", None: "too few chunks"}
_COLUMNS: Mapping[str, Callable[[KeepingUp], str]] = {
    "writers": lambda row: str(row.parallelism),
    "chunk": lambda row: f"{row.chunk_rows:,}" if row.chunk_rows else "?",
    "RTT ms": lambda row: f"{row.rtt_ms:g}" if row.rtt_ms else "",
    "p50 ms": lambda row: _ms(row.p50_s),
    "p99 ms": lambda row: _ms(row.p99_s),
    "max ms": lambda row: _ms(row.max_s),
    "late": lambda row: "" if row.late_share is None else f"{row.late_share:.0%}",
    "most waiting": lambda row: f"{row.most_backlog_rows:,}",
    "not written": lambda row: f"{row.skipped_rows:,}" if row.skipped_rows else "",
    "keeps up": lambda row: _WORDS[row.sustained],
    "sustains rows/s": lambda row: _highest(row),
}
"""Those that say nothing of any row are left out."""

_LEGEND = (
    "ms: from the scheduled arrival of a chunk's first row to its commit (p99 from 500 chunks on)",
    "late: batches that were not taken when their rows were there; most waiting: rows at once",
    "who does not keep up shows the highest rate that it wrote",
)


def show_keeping_up(run: Run, *, as_json: bool) -> int:
    """Print who kept up with the rate. Returns 0. Raises InputError where no trial ended well."""
    rows = keeping_up(run)
    for warning in run.warnings:
        warn(warning)
    if as_json:
        print_json({"run_id": run.info.run_id, "keeping_up": [_as_dict(row) for row in rows]})
        return 0
    if all(row.rows_per_s is None for row in rows):
        reason = next((row.reason for row in rows), "nothing was measured")
        raise InputError(f"{run.folder} holds no usable trial ({reason}); sweep again")
    for table, of_table in groupby(rows, key=lambda row: row.table):
        _show_table(table, list(of_table))
    for line in _LEGEND:
        out.print(line, markup=False)
    return 0


def _show_table(table: str, rows: list[KeepingUp]) -> None:
    grid = figures_grid(f"{table}: {rows[0].offered_rows_per_s:,.0f} rows/s arrive")
    for title in ("strategy", "driver"):
        grid.add_column(title)
    cells = {title: [of(row) for row in rows] for title, of in _COLUMNS.items()}
    told = {title: column for title, column in cells.items() if any(column)}
    for title in told:
        grid.add_column(title, justify="right")
    for row, figures in zip(rows, zip(*told.values(), strict=True), strict=True):
        grid.add_row(row.strategy, row.driver, *figures)
    out.print(grid)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.1f}"


def _highest(row: KeepingUp) -> str:
    if row.highest_rows_per_s is None:
        return f"failed: {row.reason}"
    if row.sustained is None:
        return "??"
    bound = ">= " if row.sustained else ""
    return f"{bound}{row.highest_rows_per_s:,.0f}"


def _as_dict(row: KeepingUp) -> dict[str, object]:
    return asdict(row) | {
        "sustained": row.sustained,
        "highest_rows_per_s": row.highest_rows_per_s,
    }
