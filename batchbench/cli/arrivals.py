"""How a sweep of rows that arrive at a rate looks."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby

from batchbench.cli.console import figures_grid, out, print_json, warn
from batchbench.errors import InputError
from batchbench.results import KeepingUp, Run, keeping_up

_COLUMNS = (
    *("writers", "chunk", "RTT ms", "p50 ms", "p99 ms", "max ms", "late", "most waiting"),
    *("skipped", "keeps up", "sustains rows/s"),
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
    out.print(
        "times from the scheduled arrival of a chunk's first row to its commit; p99 from 500"
        " chunks on. Who does not keep up shows the highest rate that it wrote.",
        markup=False,
    )
    return 0


def _show_table(table: str, rows: list[KeepingUp]) -> None:
    grid = figures_grid(f"{table}: {rows[0].offered_rows_per_s:,.0f} rows/s arrive")
    for title in ("strategy", "driver"):
        grid.add_column(title)
    for title in _COLUMNS:
        grid.add_column(title, justify="right")
    for row in rows:
        grid.add_row(row.strategy, row.driver, *_figures(row))
    out.print(grid)


def _figures(row: KeepingUp) -> tuple[str, ...]:
    return (
        str(row.parallelism),
        f"{row.chunk_rows:,}" if row.chunk_rows else "?",
        f"{row.rtt_ms:g}",
        *map(_ms, (row.p50_s, row.p99_s, row.max_s)),
        "" if row.late_share is None else f"{row.late_share:.0%}",
        f"{row.most_backlog_rows:,}",
        f"{row.skipped_rows:,}",
        {True: "yes", False: "no", None: "too few chunks"}[row.sustained],
        _highest(row),
    )


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.1f}"


def _highest(row: KeepingUp) -> str:
    if row.highest_rows_per_s is None:
        return f"failed: {row.reason}"
    bound = ">= " if row.sustained else ""
    return f"{bound}{row.highest_rows_per_s:,.0f}"


def _as_dict(row: KeepingUp) -> dict[str, object]:
    return asdict(row) | {
        "sustained": row.sustained,
        "highest_rows_per_s": row.highest_rows_per_s,
    }
