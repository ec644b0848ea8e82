"""Why a recommended value and not another: what each would cost. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batchbench.config import chunk_variable
from batchbench.errors import ConfigError
from batchbench.recommend.choice import Recommendation, geometric_means, recommend
from batchbench.recommend.confirming import finalist_of, ratio_between
from batchbench.recommend.ranking import RankingRow, Way, ranking
from batchbench.results import Constraints, Run
from batchbench.stats import Ratio

_OF_WAY: dict[str, Callable[[Way], str]] = {
    "BATCH_STRATEGY": lambda way: way.strategy,
    "BATCH_DRIVER": lambda way: way.driver,
    "BATCH_ENABLE_PARALLEL": lambda way: "true" if way.parallelism > 1 else "false",
    "BATCH_PARALLELISM": lambda way: str(way.parallelism),
}


@dataclass(frozen=True, slots=True)
class Option:
    """One value that the variable could have, at its best.

    rows: what was measured of it, a configuration a table. to_chosen: speed against the
    recommended value's, None of that itself, and where no block has both. fault: why it is not to
    be had, "" where it is.
    """

    value: str
    rows: tuple[RankingRow, ...]
    chosen: bool
    to_chosen: Ratio | None
    fault: str = ""

    @property
    def peak_rss_mb(self) -> float | None:
        """The largest of the tables."""
        return max((r.peak_rss_mb for r in self.rows if r.peak_rss_mb is not None), default=None)

    @property
    def tail_s(self) -> float | None:
        """The longest of the tables: p99, or the slowest chunk where a table has too few."""
        return max((r.tail_s for r in self.rows if r.tail_s is not None), default=None)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a variable has its recommended value.

    options: in the order of the values. front: by table, what nothing else beats in speed, memory
    and p99 at once, the fastest first.
    """

    variable: str
    value: str
    reason: str
    options: tuple[Option, ...]
    front: tuple[RankingRow, ...]


def explain(run: Run, variable: str, constraints: Constraints | None = None) -> Explanation:
    """Raises ConfigError where the run recommends no such variable; InputError as `recommend`."""
    advice = recommend(run, constraints)
    name = variable.strip().upper()
    if name not in advice.values:
        known = ", ".join(advice.values)
        raise ConfigError(f"{run.folder} recommends no {variable!r}; it recommends {known}")
    rows = ranking(run, constraints)
    measured = [row for row in rows if row.ratio is not None]
    if name in _OF_WAY:
        options = _ways(run, measured, advice, _OF_WAY[name])
        front = pareto_front(measured)
    else:
        chosen = tuple(row for row in advice.chosen if chunk_variable(row.table) == name)
        options = _chunks(run, rows, chosen)
        tables = {row.table for row in chosen}
        front = pareto_front([row for row in measured if row.table in tables])
    return Explanation(name, advice.values[name], advice.reasons[name], tuple(options), front)


def _chunks(run: Run, rows: Sequence[RankingRow], chosen: Sequence[RankingRow]) -> list[Option]:
    """Every chunk size of the recommended way, on the tables of the variable."""
    options = []
    for own in chosen:
        mine = [row for row in rows if (row.table, row.way) == (own.table, own.way)]
        for row in sorted(mine, key=lambda row: row.chunk_rows or row.chunk_sizes[0]):
            value = f"{row.chunk_rows or row.chunk_sizes[0]}"
            options.append(_option(run, value, (row,), (own,)))
    return options


def _ways(
    run: Run,
    measured: Sequence[RankingRow],
    advice: Recommendation,
    part: Callable[[Way], str],
) -> list[Option]:
    """Of each value the best way that has it, with its best chunk on every table."""
    means = geometric_means(measured)
    own = advice.chosen
    best: dict[str, Way] = {part(own[0].way): own[0].way}
    for way in sorted(means, key=lambda way: means[way], reverse=True):
        best.setdefault(part(way), way)
    options = []
    for value, way in best.items():
        rows = own if way == own[0].way else _best_rows(measured, way, own)
        options.append(_option(run, value, tuple(rows), own))
    return sorted(options, key=lambda option: (len(option.value), option.value))


def _best_rows(
    measured: Sequence[RankingRow], way: Way, own: Sequence[RankingRow]
) -> list[RankingRow]:
    found: dict[str, RankingRow] = {}
    for row in measured:
        if row.way == way:
            found.setdefault(row.table, row)
    return [found[row.table] for row in own if row.table in found]


def _option(
    run: Run, value: str, rows: tuple[RankingRow, ...], own: Sequence[RankingRow]
) -> Option:
    chosen = rows == tuple(own)
    faults = [row.breaks or (f"failed: {row.reason}" if row.failed else "") for row in rows]
    fault = next(filter(None, faults), "")
    comparable = not chosen and all(row.ratio is not None for row in rows)
    ratio = None
    if comparable:
        tables = {row.table for row in rows}
        against = [finalist_of(row) for row in own if row.table in tables]
        ratio = ratio_between(run, [finalist_of(row) for row in rows], against)
    return Option(value, rows, chosen, ratio, fault)


def pareto_front(rows: Sequence[RankingRow]) -> tuple[RankingRow, ...]:
    """Of each table what no other is at least as good as in speed, memory and p99, and better in
    one; what was not measured of a row counts as the worst.
    """
    return tuple(
        row
        for row in rows
        if not any(_beats(other, row) for other in rows if other.table == row.table)
    )


def _beats(one: RankingRow, other: RankingRow) -> bool:
    mine, theirs = _costs(one), _costs(other)
    return mine != theirs and all(a <= b for a, b in zip(mine, theirs, strict=True))


def _costs(row: RankingRow) -> tuple[float, float, float]:
    endless = float("inf")
    peak, tail = row.peak_rss_mb, row.tail_s
    return (
        -(row.ratio or 0.0),
        endless if peak is None else peak,
        endless if tail is None else tail,
    )
