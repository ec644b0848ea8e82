"""What the chart builders share: colours, markers, points."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from batchbench.recommend import Way
from batchbench.report.figures import graphic, plural
from batchbench.report.groups import Group, Spread
from batchbench.report.model import Point, Series, Style
from batchbench.results import TrialRecord

_HUES = ("copy", "unnest", "values", "optimistic", "staging")
_SOLID = "psycopg"


def hue_of(strategy: str, strategies: Sequence[str]) -> int:
    """Its colour: the same in every report for our own strategies, the next ones for others."""
    if strategy in _HUES:
        return _HUES.index(strategy)
    others = [name for name in strategies if name not in _HUES]
    return len(_HUES) + others.index(strategy)


def shape_of(hue: int, driver: str) -> int:
    """Its marker and dash: even numbers are lines without gaps. Another for each strategy and
    driver, so that no two series look alike to who sees no colours.
    """
    return 2 * hue + (driver != _SOLID)


def plug_series(
    groups: Sequence[Group],
    style: Style,
    points: Callable[[Sequence[Group]], Iterable[Point]],
    among: Sequence[Group],
) -> tuple[Series, ...]:
    """A series for each strategy and driver. among: all groups, which the colours are given by."""
    found = []
    for strategy, driver in sorted({group.plug for group in groups}):
        mine = [group for group in groups if group.plug == (strategy, driver)]
        drawn = tuple(points(mine))
        if drawn:
            found.append(series(f"{strategy} / {driver}", strategy, driver, style, drawn, among))
    return tuple(found)


def series(
    name: str,
    strategy: str,
    driver: str,
    style: Style,
    points: Iterable[Point],
    among: Sequence[Group],
) -> Series:
    """A series in the colour of its strategy and the shape of its driver."""
    hue = hue_of(strategy, sorted({group.plug[0] for group in among}))
    return Series(name, hue, shape_of(hue, driver), style, tuple(points))


def point(
    x: float, spread: Spread, text: str, factor: float = 1.0, *, strong: bool = True
) -> Point:
    """A median with its bar. factor: from the figure's unit to the chart's."""
    low, high = graphic(spread.low * factor), graphic(spread.high * factor)
    return Point(graphic(x), graphic(spread.middle * factor), low, high, text, strong)


def by_chunk(
    groups: Sequence[Group],
    of: Callable[[TrialRecord], float | None],
    say: Callable[[Group, Spread], str],
) -> list[Point]:
    """A point for each chunk size, in order. Groups without that figure have none."""
    found = []
    for group in sorted(groups, key=lambda group: group.chunk_rows or 0):
        spread = group.spread(of) if group.usable else None
        if spread is not None and group.chunk_rows:
            found.append(point(group.chunk_rows, spread, say(group, spread)))
    return found


def writers_text(way: Way) -> str:
    """ "2 writers"."""
    return plural(way.parallelism, "writer")
