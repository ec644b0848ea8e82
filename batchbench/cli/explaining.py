"""How the reason of one recommended value looks."""

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby

from batchbench.cli.console import figures_grid, out, print_json
from batchbench.recommend import Explanation, Option, RankingRow

_COLUMNS = ("rows/s", "vs recommended", "peak MB", "p99 ms")
_SLOWEST = "*"
_BEST_SHOWN = 8


def show_explanation(found: Explanation, *, as_json: bool) -> None:
    """Print it."""
    if as_json:
        print_json(asdict(found))
        return
    out.print(f"{found.variable}={found.value}", markup=False)
    out.print(f"{found.reason}\n", markup=False)
    grid = figures_grid("what other values would cost")
    grid.add_column("value", justify="right")
    grid.add_column("measured as")
    for title in _COLUMNS:
        grid.add_column(title, justify="right")
    for option in found.options:
        grid.add_row(*_option_cells(option))
    out.print(grid)
    for table, rows in groupby(found.front, key=lambda row: row.table):
        _show_front(table, list(rows))
    out.print(
        f"p99 of all chunks together; {_SLOWEST} the slowest, where there are under 500. Ratios"
        " with 95 % intervals, from six pairs on.",
        markup=False,
    )


def _option_cells(option: Option) -> tuple[str, ...]:
    speeds = [f"{row.rows_per_s:,.0f}" for row in option.rows if row.rows_per_s is not None]
    versus = "recommended" if option.chosen else _ratio(option)
    return (
        option.value,
        _measured_as(option),
        speeds[0] if len(speeds) == 1 else "",
        f"{versus}, not allowed: {option.fault}" if option.fault else versus,
        *_costs(option.peak_rss_mb, option.tail_s, option.rows),
    )


def _measured_as(option: Option) -> str:
    if len(option.rows) == 1:
        return option.rows[0].name
    return f"{option.rows[0].way}, {len(option.rows)} tables" if option.rows else ""


def _ratio(option: Option) -> str:
    ratio = option.to_chosen
    if ratio is None:
        return "??"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.estimate:.3f}"
    return f"{ratio.estimate:.3f} ({ratio.low:.3f} to {ratio.high:.3f})"


def _costs(
    peak_mb: float | None, tail_s: float | None, rows: tuple[RankingRow, ...]
) -> tuple[str, str]:
    slowest = _SLOWEST if any(row.p99_s is None for row in rows) else ""
    return (
        "" if peak_mb is None else f"{peak_mb:,.0f}",
        "" if tail_s is None else f"{tail_s * 1e3:,.1f}{slowest}",
    )


def _show_front(table: str, rows: list[RankingRow]) -> None:
    grid = figures_grid(f"{table}: beaten by nothing in speed, memory and p99 at once")
    grid.add_column("configuration")
    for title in ("rows/s", "of the best", "peak MB", "p99 ms"):
        grid.add_column(title, justify="right")
    for row in rows[:_BEST_SHOWN]:
        grid.add_row(
            row.name,
            f"{row.rows_per_s:,.0f}",
            f"{row.ratio:.3f}",
            *_costs(row.peak_rss_mb, row.tail_s, (row,)),
        )
    out.print(grid)
    if len(rows) > _BEST_SHOWN:
        out.print(f"  and {len(rows) - _BEST_SHOWN} slower ones (--json has all)\n")
