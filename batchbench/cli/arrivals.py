"""How a sweep of rows that arrive at a rate looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import groupby

from batchbench.cli.console import figures_grid, out, print_json, warn
from batchbench.errors import InputError
from batchbench.recommend import FlushAge, flush_ages
from batchbench.results import KeepingUp, Run, keeping_up

_WORDS = {True: "yes", False: "no", None: "too few chunks"}
_WAY: Mapping[str, Callable[[KeepingUp], str]] = {
    "strategy": lambda row: row.strategy,
    "driver": lambda row: row.driver,
    "writers": lambda row: str(row.parallelism),
    "chunk": lambda row: f"{row.chunk_rows:,}" if row.chunk_rows else "?",
}
_COLUMNS: Mapping[str, Callable[[KeepingUp], str]] = {
    "flush after ms": lambda row: "" if row.max_wait_ms is None else f"{row.max_wait_ms:g}",
    "rows a flush": lambda row: "" if row.flush_rows is None else f"{row.flush_rows:,.1f}",
    "RTT ms": lambda row: f"{row.rtt_ms:g}" if row.rtt_ms else "",
    "p50 ms": lambda row: _ms(row.p50_s),
    "p99 ms": lambda row: _ms(row.p99_s),
    "p99 from-to": lambda row: _doubt(row),
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
_LEGEND_OF_AGES = (
    "ms: from the scheduled arrival of a payload, one call of Writer.add, to its ticket (p99 from"
    " 500 tickets on, with its 95 % interval)",
    "late: payloads that the Writer had not taken within 5 ms; most waiting: rows at once",
    _LEGEND[-1],
)


def show_keeping_up(run: Run, target_p99_ms: int | None, *, as_json: bool) -> int:
    """Print who kept up with the rate, and which flush age keeps the target, if there is one.

    Returns the exit code: 1 where a table has no such age. Raises InputError where no trial ended
    well.
    """
    rows = keeping_up(run)
    advice = () if target_p99_ms is None else flush_ages(rows, target_p99_ms)
    code = int(any(age.chosen is None for age in advice))
    for warning in run.warnings:
        warn(warning)
    if as_json:
        document = {"run_id": run.info.run_id, "keeping_up": [_as_dict(row) for row in rows]}
        print_json(document | ({"flush_ages": list(map(_age_as_dict, advice))} if advice else {}))
        return code
    if all(row.rows_per_s is None for row in rows):
        reason = next((row.reason for row in rows), "nothing was measured")
        raise InputError(f"{run.folder} holds no usable trial ({reason}); sweep again")
    for table, of_table in groupby(rows, key=lambda row: row.table):
        _show_table(table, list(of_table))
    of_ages = any(row.max_wait_ms is not None for row in rows)
    for line in _LEGEND_OF_AGES if of_ages else _LEGEND:
        out.print(line, markup=False)
    for age in advice:
        _show_age(age)
    if of_ages and not advice:
        out.print("--target-p99-ms recommends an age (with --resume, of this run)", markup=False)
    return code


def _show_age(age: FlushAge) -> None:
    far = f" +{age.rtt_ms:g} ms" if age.rtt_ms else ""
    out.print(f"\n{age.table}{far}: {age.reason}", markup=False)
    if age.chosen is not None:
        out.print(f"limits=FlushLimits(max_wait_ms={age.chosen.max_wait_ms:g})", markup=False)


def _age_as_dict(age: FlushAge) -> dict[str, object]:
    chosen_ms = None if age.chosen is None else age.chosen.max_wait_ms
    return {
        "table": age.table,
        "rtt_ms": age.rtt_ms,
        "target_p99_ms": age.target_p99_ms,
        "max_wait_ms": chosen_ms,
        "reason": age.reason,
    }


def _show_table(table: str, rows: list[KeepingUp]) -> None:
    heading = f"{table}: {rows[0].offered_rows_per_s:,.0f} rows/s arrive"
    way = {title: [of(row) for row in rows] for title, of in _WAY.items()}
    if rows[0].max_wait_ms is not None and all(len(set(cells)) == 1 for cells in way.values()):
        one = ", ".join(f"{title} {cells[0]}" for title, cells in way.items())
        heading, way = f"{heading} by {rows[0].payload_rows} in a Writer: {one}", {}
    cells = way | {title: [of(row) for row in rows] for title, of in _COLUMNS.items()}
    told = {title: column for title, column in cells.items() if any(column)}
    grid = figures_grid(heading)
    for title in told:
        grid.add_column(title, justify="left" if title in ("strategy", "driver") else "right")
    for figures in zip(*told.values(), strict=True):
        grid.add_row(*figures)
    out.print(grid)


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:,.1f}"


def _doubt(row: KeepingUp) -> str:
    if row.p99_low_s is None or row.p99_high_s is None:
        return ""
    return f"{_ms(row.p99_low_s)}-{_ms(row.p99_high_s)}"


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
