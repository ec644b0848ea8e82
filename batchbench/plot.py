"""A run's main charts as matplotlib figures, for notebooks and papers.

Each function takes a run and returns a Figure of its own: nothing global is touched. They draw
what the HTML report draws, with the same medians, intervals and limits.
table: one of the run's tables, None for its first. view: one of the names that the page offers
in the chart's list, None for the one that it shows first.
Each raises InputError where the run has no usable trial, no such table or view, or where there
is too little to draw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from batchbench.errors import ConfigError, InputError
from batchbench.report import build_report
from batchbench.report.figures import short
from batchbench.report.model import (
    Axis,
    BarChart,
    BarView,
    Chart,
    HeatChart,
    HeatView,
    Series,
    TableReport,
    View,
    XYChart,
)
from batchbench.results import Run

FORMATS = ("png", "svg", "pdf")

_HUES = (
    "#1f5fbf", "#0c7f63", "#bb5a09", "#7c3fb8", "#b92c72", "#66690f", "#2f7590", "#76583f",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "p", "X")
_DASHES = ("-", "--")
_STEPS = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 2, 2)), (0, (1, 3)), (0, (3, 1, 1, 1)))
_INK, _SOFT, _GRID, _DANGER = "#171b22", "#4d5665", "#e6e9ee", "#b3261e"
_HEAT = LinearSegmentedColormap.from_list("batchbench", ["#eef3fb", "#1f5fbf"])
_STYLE: Any = {  # matplotlib types its keys one by one
    # A table may be called "$x$": names are no formulas.
    "text.parse_math": False,
    "font.size": 9.5,
    "text.color": _INK,
    "axes.edgecolor": _SOFT,
    "axes.labelcolor": _SOFT,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "batchbench",
}


def throughput(run: Run, table: str | None = None, view: str | None = None) -> Figure:
    """Rows a second over chunk size, by strategy and driver, with the walls. view: "2 writers"."""
    return _figure(run, table, "throughput", view)


def heat_map(run: Run, table: str | None = None, view: str | None = None) -> Figure:
    """Rows a second over chunk size and writers. view: "copy / psycopg"."""
    return _figure(run, table, "heat", view)


def scaling(run: Run, table: str | None = None) -> Figure:
    """Rows a second over writers, with the scalability law where there are enough levels."""
    return _figure(run, table, "scaling", None)


def latency(run: Run, table: str | None = None, view: str | None = None) -> Figure:
    """The distribution of the chunks' latency."""
    return _figure(run, table, "latency", view)


def memory(run: Run, table: str | None = None, view: str | None = None) -> Figure:
    """Peak memory over chunk size, with the limit. view: "peak, 2 writers"."""
    return _figure(run, table, "memory", view)


def pareto(run: Run, table: str | None = None, view: str | None = None) -> Figure:
    """Speed against its cost. view: "speed and memory", "speed and latency"."""
    return _figure(run, table, "pareto", view)


def save_figures(run: Run, folder: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Every chart of every table as TABLE-CHART.FORMAT; files of that name are replaced.

    Raises ConfigError where they cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stem, figure in _all_figures(run):
            for name in formats:
                path = folder / f"{stem}.{name}"
                _save(figure, path, name)
                written.append(path)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror})") from error
    return written


def _save(figure: Figure, path: Path, kind: str) -> None:
    """The same bytes for the same run: no dates in the files."""
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with mpl.rc_context(_STYLE):
        figure.savefig(path, format=kind, metadata=dates.get(kind))


def _all_figures(run: Run) -> Iterator[tuple[str, Figure]]:
    taken: set[str] = set()
    for table in build_report(run).tables:
        name = re.sub(r"[^\w.-]+", "_", table.table, flags=re.ASCII).strip("._") or "table"
        while name in taken:
            name += "_"
        taken.add(name)
        for chart in (*table.speed_charts, *table.cost_charts):
            yield f"{name}-{chart.id}", draw(chart, table.table)


# --- finding the chart ------------------------------------------------------------------------


def _figure(run: Run, table: str | None, chart_id: str, view: str | None) -> Figure:
    part = _part(run, table)
    for chart in (*part.speed_charts, *part.cost_charts):
        if chart.id == chart_id:
            return draw(chart, part.table, view)
    raise InputError(f"the trials of {part.table} are too few for the chart {chart_id!r}")


def _part(run: Run, table: str | None) -> TableReport:
    parts = build_report(run).tables
    for part in parts:
        if table in (None, part.table):
            return part
    names = ", ".join(part.table for part in parts)
    raise InputError(f"the run has no trials of a table {table!r}; it has {names}")


def draw(chart: Chart, table: str, view: str | None = None) -> Figure:
    """A chart of a report as a figure."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8.0, 4.8), dpi=144, layout="constrained")
        axes = figure.add_subplot()
        if isinstance(chart, XYChart):
            shown = chart.views[_index(chart, view)]
            _draw_xy(axes, chart, shown)
        elif isinstance(chart, HeatChart):
            _draw_heat(axes, chart, chart.views[_index(chart, view)])
        else:
            _draw_bars(axes, chart.views[_index(chart, view)])
        name = chart.views[_index(chart, view)].name
        title = f"{chart.title}: {', '.join(filter(None, (table, name)))}"
        axes.set_title(_clean(title), loc="left", fontweight="bold")
    return figure


def _index(chart: XYChart | HeatChart | BarChart, view: str | None) -> int:
    names = [one.name for one in chart.views]
    if view is None:
        return chart.first
    if view not in names:
        raise InputError(f"{chart.title} has no view {view!r}; it has {', '.join(names)}")
    return names.index(view)


def _clean(text: str) -> str:
    """Without control characters, which an SVG file must not hold."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", "�", text)


# --- drawing ----------------------------------------------------------------------------------


def _draw_xy(axes: Axes, chart: XYChart, view: View) -> None:
    axes.grid(color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for series in view.series:
        _draw_series(axes, series)
    for mark in view.marks:
        line = axes.axvline if mark.axis == "x" else axes.axhline
        line(mark.at, color=_DANGER, linestyle="--", linewidth=1.1)
        where = (mark.at, 0.98) if mark.axis == "x" else (0.99, mark.at)
        axes.annotate(
            _clean(mark.label),
            where,
            xycoords=axes.get_xaxis_transform() if mark.axis == "x" else axes.get_yaxis_transform(),
            xytext=(4, 0) if mark.axis == "x" else (0, 3),
            textcoords="offset points",
            rotation=90 if mark.axis == "x" else 0,
            ha="left" if mark.axis == "x" else "right",
            va="top" if mark.axis == "x" else "bottom",
            color=_DANGER,
            fontsize=8,
        )
    _scale(axes, "x", chart.x, view.x_label or chart.x.label)
    _scale(axes, "y", chart.y, chart.y.label)
    if view.series:
        axes.legend(frameon=False, fontsize=8.5)


def _draw_series(axes: Axes, series: Series) -> None:
    color = _HUES[series.hue % len(_HUES)]
    xs = [point.x for point in series.points]
    ys = [point.y for point in series.points]
    name = _clean(series.name)
    if series.style == "points":
        fills = [color if point.strong else "none" for point in series.points]
        marker = _MARKERS[series.shape % len(_MARKERS)]
        axes.scatter(xs, ys, marker=marker, facecolors=fills, edgecolors=color)
        axes.scatter([], [], marker=marker, color=color, label=name)
        return
    below = [point.y - (point.y if point.low is None else point.low) for point in series.points]
    above = [(point.y if point.high is None else point.high) - point.y for point in series.points]
    curve = series.style == "curve"
    dashes = _STEPS if series.style == "step" else _DASHES
    axes.errorbar(
        xs,
        ys,
        yerr=[below, above] if series.style == "line" else None,
        color=color,
        linestyle=":" if curve else dashes[series.shape % len(dashes)],
        marker=_MARKERS[series.shape % len(_MARKERS)] if series.style == "line" else None,
        markersize=5,
        elinewidth=0.9,
        capsize=2.5,
        drawstyle="steps-post" if series.style == "step" else "default",
        label=name,
    )


def _scale(axes: Axes, which: str, axis: Axis, label: str) -> None:
    ruler = axes.xaxis if which == "x" else axes.yaxis
    ruler.set_label_text(_clean(label))
    if axis.scale == "log":
        (axes.set_xscale if which == "x" else axes.set_yscale)("log")
        ruler.set_minor_locator(NullLocator())
        ruler.set_major_locator(LogLocator(subs=(1, 2, 5)))
    if axis.zero:
        (axes.set_xlim if which == "x" else axes.set_ylim)(0, 1 if axis.percent else None)
    if axis.whole:
        ruler.set_major_locator(MaxNLocator(integer=True))
    if axis.percent:
        ruler.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    else:
        ruler.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def _draw_heat(axes: Axes, chart: HeatChart, view: HeatView) -> None:
    shares = [
        [float("nan") if cell.share is None else cell.share for cell in row] for row in view.cells
    ]
    axes.imshow(shares, cmap=_HEAT, vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(view.columns)), view.columns)
    axes.set_yticks(range(len(view.rows)), view.rows)
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for y, row in enumerate(view.cells):
        for x, cell in enumerate(row):
            dark = cell.share is not None and cell.share > 0.6
            weight = "bold" if cell.chosen else "normal"
            color = "white" if dark else _INK
            label = f"[{cell.label}]" if cell.chosen else cell.label or "–"
            axes.text(x, y, label, ha="center", va="center", color=color, fontweight=weight)


def _draw_bars(axes: Axes, view: BarView) -> None:
    names = [_clean(bar.name) for bar in view.bars]
    left = [0.0] * len(names)
    for index, part in enumerate(view.parts):
        widths = [bar.values[index] for bar in view.bars]
        axes.barh(names, widths, left=left, color=_HUES[index % len(_HUES)], label=_clean(part))
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.invert_yaxis()
    axes.set_xlabel(view.unit)
    if len(view.parts) > 1:
        axes.legend(frameon=False, fontsize=8.5)
