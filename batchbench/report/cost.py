"""Charts of what one table's speed costs: memory, latency, and the trade between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from batchbench.report.drawing import by_chunk, plug_series, series
from batchbench.report.figures import graphic, milliseconds, number, plural
from batchbench.report.first import Evidence
from batchbench.report.groups import Group, Spread
from batchbench.report.model import Axis, Chart, Mark, Point, Series, View, XYChart
from batchbench.report.observed import server_charts
from batchbench.results import GOAL_PEAK_RSS_MB, TrialRecord

_MOST_STEPS = 40


def cost_charts(evidence: Evidence, table: str) -> tuple[Chart, ...]:
    """Those for which there is enough to draw."""
    groups = [group for group in evidence.of_table(table) if group.usable]
    if not groups:
        return ()
    chosen = evidence.chosen(table)
    return (
        _latency(groups, chosen),
        _memory(evidence, groups, chosen),
        _pareto(groups),
        *server_charts(groups),
    )


# --- latency ----------------------------------------------------------------------------------


def _latency(groups: Sequence[Group], chosen: Group | None) -> XYChart:
    views = [View("fastest of each strategy and driver", _fastest_curves(groups))]
    if chosen is not None:
        same = [g for g in groups if g.way == chosen.way]
        views.append(View(f"{chosen.way}, by chunk size", _chunk_curves(same)))
    return XYChart(
        id="latency",
        title="Latency of a chunk",
        about="The share of chunks that were written within a time. Further left is faster; a long"
        " flat end on the right is a tail. All chunks of all trials count.",
        x=Axis("ms a chunk", "log"),
        y=Axis("share of chunks", zero=True, percent=True),
        views=tuple(views),
    )


def _fastest_curves(groups: Sequence[Group]) -> tuple[Series, ...]:
    best: dict[tuple[str, str], Group] = {}
    for group in sorted(groups, key=lambda group: group.speed.middle if group.speed else 0.0):
        best[group.plug] = group
    alike = len({group.way.parallelism for group in best.values()}) == 1
    return tuple(
        series(_curve_name(group, alike), *plug, "step", _curve(group), groups)
        for plug, group in sorted(best.items())
    )


def _curve_name(group: Group, alike: bool) -> str:
    """alike: whether all have as many writers."""
    writers = "" if alike else f", {plural(group.way.parallelism, 'writer')}"
    return f"{' / '.join(group.plug)}, {group.chunk_rows or 0:,} rows{writers}"


def _chunk_curves(groups: Sequence[Group]) -> tuple[Series, ...]:
    ordered = sorted(groups, key=lambda group: group.chunk_rows or 0)
    drawn = [
        Series(f"{group.chunk_rows:,} rows", index % 8, index // 8, "step", tuple(_curve(group)))
        for index, group in enumerate(ordered)
        if group.chunk_rows
    ]
    return tuple(drawn)


def _curve(group: Group) -> list[Point]:
    """The distribution at 40 places at most, each of them a latency that was measured."""
    latencies = sorted(s for record in group.good for s in record.chunk_seconds)
    count = len(latencies)
    steps = min(count, _MOST_STEPS)
    ranks = sorted({round(step * (count - 1) / max(1, steps - 1)) for step in range(steps)})
    return [
        Point(
            graphic(latencies[rank] * 1e3),
            graphic((rank + 1) / count),
            None,
            None,
            f"{(rank + 1) / count:.1%} of {plural(count, 'chunk')} within"
            f" {milliseconds(latencies[rank])} ms: {group.name}",
        )
        for rank in ranks
        if latencies[rank] > 0
    ]


# --- memory -----------------------------------------------------------------------------------


def _peak(record: TrialRecord) -> float | None:
    return record.peak_rss_mb


def _added(record: TrialRecord) -> float | None:
    if record.peak_rss_mb is None or record.rss_before_mb is None:
        return None
    return record.peak_rss_mb - record.rss_before_mb


def _memory(evidence: Evidence, groups: Sequence[Group], chosen: Group | None) -> XYChart:
    levels = sorted({group.way.parallelism for group in groups})
    first = levels.index(chosen.way.parallelism) if chosen else 0
    marks = _limits(evidence)
    views = []
    for level in levels:
        mine = [group for group in groups if group.way.parallelism == level]
        name = plural(level, "writer")
        peak = plug_series(mine, "line", lambda part: by_chunk(part, _peak, _say_peak), groups)
        views.append(View(f"peak, {name}", peak, marks))
    for level in levels:
        mine = [group for group in groups if group.way.parallelism == level]
        name = plural(level, "writer")
        more = plug_series(mine, "line", lambda part: by_chunk(part, _added, _say_added), groups)
        views.append(View(f"added by the load, {name}", more))
    return XYChart(
        id="memory",
        title="Memory over chunk size",
        about="Peak memory of the client process, Python and its libraries included. Lower is"
        " cheaper; the line is the limit. “Added by the load” leaves out what the"
        " process held before.",
        x=Axis("rows a chunk", "log"),
        y=Axis("MB", zero=True),
        views=tuple(views),
        first=first,
    )


def _limits(evidence: Evidence) -> tuple[Mark, ...]:
    limit = None if evidence.settings is None else evidence.settings.memory_limit_mb
    if limit == GOAL_PEAK_RSS_MB:
        return (_limit(limit, "the goal, and BATCH_MEMORY_LIMIT_MB"),)
    goal = _limit(GOAL_PEAK_RSS_MB, "the goal")
    return (goal,) if limit is None else (goal, _limit(limit, "BATCH_MEMORY_LIMIT_MB"))


def _limit(mb: float, what: str) -> Mark:
    label = f"{mb:,.0f} MB"
    return Mark("y", mb, f"limit {label}", f"The line at {label}: {what}")


def _say_peak(group: Group, spread: Spread) -> str:
    return f"{group.name}: peak {number(spread.middle)} MB ({spread.words})"


def _say_added(group: Group, spread: Spread) -> str:
    return f"{group.name}: {number(spread.middle)} MB more than before ({spread.words})"


# --- the trade --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Costed:
    """A configuration's speed in rows/s, peak memory in MB and tail latency in s."""

    group: Group
    speed: float
    memory: float
    tail: float
    is_p99: bool

    def beats(self, other: _Costed) -> bool:
        """As good in all three and better in one."""
        mine = (self.speed, -self.memory, -self.tail)
        theirs = (other.speed, -other.memory, -other.tail)
        return mine != theirs and all(a >= b for a, b in zip(mine, theirs, strict=True))


def _pareto(groups: Sequence[Group]) -> XYChart:
    known = {group: costed for group in groups if (costed := _costed(group)) is not None}
    front = {
        group
        for group, costed in known.items()
        if not any(other.beats(costed) for other in known.values())
    }
    has_p99 = bool(known) and all(costed.is_p99 for costed in known.values())
    label = "p99 of a chunk, ms" if has_p99 else "slowest chunk, ms"

    def cloud(cost: Callable[[_Costed], float]) -> tuple[Series, ...]:
        def points(part: Sequence[Group]) -> Iterable[Point]:
            for group in part:
                x, y = graphic(cost(known[group])), graphic(known[group].speed)
                yield Point(x, y, None, None, _say_costs(known[group]), group in front)

        return plug_series(list(known), "points", points, groups)

    return XYChart(
        id="pareto",
        title="Pareto front",
        about="Each point is a configuration. Filled points are the front: no other one is faster,"
        " smaller in memory and quicker in its slowest chunks, all at once. Up and to the left is"
        " better.",
        x=Axis("cost"),
        y=Axis("rows/s", zero=True),
        views=(
            View("speed and memory", cloud(lambda one: one.memory), x_label="peak memory, MB"),
            View("speed and latency", cloud(lambda one: one.tail * 1e3), x_label=label),
        ),
    )


def _costed(group: Group) -> _Costed | None:
    speed, memory, tail = group.speed, group.spread(_peak), group.tail
    if speed is None or memory is None or tail is None:
        return None
    return _Costed(group, speed.middle, memory.middle, tail[1], tail[0] == "p99")


def _say_costs(one: _Costed) -> str:
    tail = "p99" if one.is_p99 else "slowest chunk"
    return (
        f"{one.group.name}: {one.group.speed_text} rows/s, peak {number(one.memory)} MB,"
        f" {tail} {milliseconds(one.tail)} ms"
    )
