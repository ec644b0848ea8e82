"""Charts of one table's speed: over chunk size, over writers, and over both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchbench.recommend import Ladder
from batchbench.report.drawing import by_chunk, plug_series, point, series
from batchbench.report.figures import graphic, plural, short
from batchbench.report.first import Evidence
from batchbench.report.groups import Group, Spread, failures
from batchbench.report.model import (
    Axis,
    Cell,
    Chart,
    HeatChart,
    HeatView,
    Mark,
    Point,
    Series,
    View,
    XYChart,
)
from batchbench.report.walls import Wall, walls
from batchbench.results import TrialRecord
from batchbench.stats import Scaling
from batchbench.stats.scaling import FEWEST_LEVELS

_WALL_IN_SIGHT = 2.0
"""A wall further than this many times the largest chunk would squeeze the rest of the chart."""


def speed_charts(evidence: Evidence, table: str) -> tuple[Chart, ...]:
    """Those for which there is enough to draw."""
    groups = evidence.of_table(table)
    chosen = evidence.chosen(table)
    charts: list[Chart] = [_throughput(evidence, groups, chosen), _heat(groups, chosen)]
    ladders = [one for one in evidence.advice.ladders if one.table == table]
    scaling = _scaling(groups, ladders)
    return (*charts, scaling) if scaling is not None else tuple(charts)


def _rate(record: TrialRecord) -> float | None:
    return record.rows_per_s


def _say_speed(group: Group, spread: Spread) -> str:
    return f"{group.name}: {group.speed_text} rows/s ({spread.words})"


# --- over chunk size --------------------------------------------------------------------------


def _throughput(evidence: Evidence, groups: Sequence[Group], chosen: Group | None) -> XYChart:
    levels = sorted({group.way.parallelism for group in groups})
    found = walls(evidence.run.info, groups)
    views = tuple(_throughput_view(groups, level, found) for level in levels)
    return XYChart(
        id="throughput",
        title="Throughput over chunk size",
        about="Higher is faster. Points are medians, bars hold the median with 95%"
        " (of fewer than six trials: smallest to largest). A vertical line is a wall: no larger"
        " chunk of that strategy fits into one statement.",
        x=Axis("rows a chunk", "log"),
        y=Axis("rows/s", zero=True),
        views=views,
        first=levels.index(chosen.way.parallelism) if chosen else 0,
    )


def _throughput_view(groups: Sequence[Group], level: int, found: Iterable[Wall]) -> View:
    mine = [group for group in groups if group.way.parallelism == level]
    drawn = plug_series(mine, "line", lambda part: by_chunk(part, _rate, _say_speed), groups)
    largest = max((point.x for one in drawn for point in one.points), default=1.0)
    near = [wall for wall in found if wall.rows <= largest * _WALL_IN_SIGHT]
    far = [wall.text for wall in found if wall not in near]
    notes = [f"Beyond the right edge: {'; '.join(far)}." if far else "", failures(mine)]
    return View(
        plural(level, "writer"),
        drawn,
        tuple(Mark("x", wall.rows, wall.label, wall.text) for wall in near),
        " ".join(filter(None, notes)),
    )


# --- over both --------------------------------------------------------------------------------


def _heat(groups: Sequence[Group], chosen: Group | None) -> HeatChart:
    plugs = sorted({group.plug for group in groups})
    best = max((s.middle for g in groups if g.usable and (s := g.speed)), default=1.0)
    return HeatChart(
        id="heat",
        title="Chunk size and parallelism",
        about="Each cell is the median rows/s of one configuration; the stronger the colour, the"
        " closer to the table's best. The outlined cell is recommended.",
        x_label="rows a chunk",
        y_label="writers",
        views=tuple(_heat_view(groups, plug, best, chosen) for plug in plugs),
        first=plugs.index(chosen.plug) if chosen else 0,
    )


def _heat_view(
    groups: Sequence[Group], plug: tuple[str, str], best: float, chosen: Group | None
) -> HeatView:
    mine = {(g.way.parallelism, g.chunk_rows or 0): g for g in groups if g.plug == plug}
    columns = sorted({rows for _, rows in mine})
    rows = sorted({level for level, _ in mine}, reverse=True)
    return HeatView(
        " / ".join(plug),
        tuple(f"{column:,}" if column else "?" for column in columns),
        tuple(map(str, rows)),
        tuple(
            tuple(_cell(mine.get((level, column)), best, chosen) for column in columns)
            for level in rows
        ),
    )


def _cell(group: Group | None, best: float, chosen: Group | None) -> Cell:
    if group is None:
        return Cell(None, "", "not measured")
    speed = group.speed
    if not group.usable or speed is None:
        return Cell(None, "failed", f"{group.name}: {failures([group])}")
    share = graphic(speed.middle / best)
    text = f"{_say_speed(group, speed)}, {share:.2f} of the table's fastest"
    return Cell(share, short(speed.middle), text, group == chosen)


# --- over writers -----------------------------------------------------------------------------


def _scaling(groups: Sequence[Group], ladders: Iterable[Ladder]) -> XYChart | None:
    """None where only one number of writers was measured."""
    drawn: list[Series] = []
    notes: list[str] = []
    for ladder in ladders:
        name = f"{' / '.join(ladder.plug)}, {ladder.chunk_rows:,} rows"
        mine = _ladder_points(groups, ladder)
        drawn.append(series(name, *ladder.plug, "line", mine, groups))
        if ladder.fit is not None:
            curve = _curve(ladder.fit)
            drawn.append(series(f"fit: {name}", *ladder.plug, "curve", curve, groups))
            notes.append(f"{name}: {ladder.sentence}.")
    if not drawn:
        return None
    if not notes:
        notes.append(f"A scaling fit needs {FEWEST_LEVELS} or more numbers of writers.")
    return XYChart(
        id="scaling",
        title="Scaling over writers",
        about="Rows a second over the number of parallel writers, each strategy and driver at its"
        " best chunk size. Dashes without points are the fitted scalability law; contention is the"
        " share of work that writers wait for one another, crosstalk what each pair costs.",
        x=Axis("writers", whole=True),
        y=Axis("rows/s", zero=True),
        views=(View("", tuple(drawn), note=" ".join(notes)),),
    )


def _ladder_points(groups: Iterable[Group], ladder: Ladder) -> list[Point]:
    return [
        point(group.way.parallelism, speed, _say_speed(group, speed))
        for group in sorted(groups, key=lambda group: group.way.parallelism)
        if (*group.plug, group.chunk_rows) == (*ladder.plug, ladder.chunk_rows)
        and group.way.parallelism in ladder.rows_per_s
        and (speed := group.speed)
    ]


def _curve(fit: Scaling) -> list[Point]:
    steps = 48
    places = [1 + (fit.largest - 1) * step / steps for step in range(steps + 1)]
    return [Point(graphic(n), graphic(fit.rows_per_s(n)), None, None, "") for n in places]
