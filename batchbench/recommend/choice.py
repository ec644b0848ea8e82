"""Which `BATCH_*` values to set, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from batchbench.config import chunk_variable
from batchbench.errors import InputError
from batchbench.recommend.confirming import (
    ClaimVerdict,
    Finalist,
    claims,
    confirmed_figures,
    finalist_of,
    finalists,
    judge_claims,
)
from batchbench.recommend.ranking import RankingRow, Way, ranking
from batchbench.recommend.scaling import Ladder, ladders
from batchbench.recommend.sustained import Sustained, order_text, sustained_loads
from batchbench.results import Constraints, Run
from batchbench.stats import FEWEST_PAIRS

ENOUGH = 0.97
"""A smaller chunk, or fewer writers, may cost this share of the best speed: they lock less,
retry cheaper and hold less memory."""


@dataclass(frozen=True, slots=True)
class GoalVerdict:
    """Whether any configuration of a table meets the goal. best: the fastest usable one."""

    table: str
    met: bool
    best: RankingRow | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """Values by variable, in the order to print them, and a line of reason for each.

    provisional: whether a confirmation is missing; `doubt` says why. chosen: the configuration
    behind each table's chunk size. verdicts: what fresh runs say of each claim that it makes.
    remarks: what was left out. ladders: how speed grows with writers. sustained: one long
    load of each finalist; orders: whether that ranks them as bursts do, a sentence a table.
    boundary: what to commit together, where the run compared that: no variable sets it.
    """

    run_id: str
    values: Mapping[str, str]
    reasons: Mapping[str, str]
    provisional: bool
    doubt: str
    goals: tuple[GoalVerdict, ...]
    chosen: tuple[RankingRow, ...]
    verdicts: tuple[ClaimVerdict, ...] = ()
    remarks: tuple[str, ...] = ()
    ladders: tuple[Ladder, ...] = ()
    sustained: tuple[Sustained, ...] = ()
    orders: tuple[str, ...] = ()
    boundary: str = ""

    @property
    def scaling(self) -> tuple[Ladder, ...]:
        """The ladders of what is recommended."""
        chosen = {(row.table, *row.way.plug) for row in self.chosen}
        return tuple(one for one in self.ladders if (one.table, *one.plug) in chosen)

    @property
    def finalists(self) -> tuple[Finalist, ...]:
        """What a fresh run has to measure to confirm it."""
        return finalists(verdict.claim for verdict in self.verdicts)

    @property
    def goal_met(self) -> bool:
        """Whether every table has a configuration that meets the goal."""
        return all(goal.met for goal in self.goals)


def recommend(run: Run, constraints: Constraints | None = None) -> Recommendation:
    """What to set. Raises InputError where the run has no usable trial, or none that keeps to the
    constraints.
    """
    rows = ranking(run, constraints)
    usable = [row for row in rows if row.eligible]
    if not usable:
        raise InputError(_none_allowed(run, rows))
    tables = list(dict.fromkeys(row.table for row in rows))
    means = geometric_means(usable)
    way = _choose_way(means)
    chosen = []
    remarks = []
    for table in tables:
        mine = [row for row in usable if row.table == table and row.way == way]
        if mine:
            chosen.append(_choose_chunk(mine))
        else:
            remarks.append(f"{table}: no usable trial of {way}, so its chunk size is left alone")
    measured = [row for row in rows if row.ratio is not None and row.breaks is None]
    ratios = {one: mean.ratio for one, mean in geometric_means(measured).items()}
    verdicts = judge_claims(claims(measured, chosen, ratios), run.confirmations)
    values, reasons = _way_values(way, means)
    sustained = sustained_loads(run)
    orders = [order_text(sustained, finalist_of(row)) for row in chosen]
    _add_chunks(chosen, values, reasons, verdicts, sustained)
    return Recommendation(
        run_id=run.info.run_id,
        values=values,
        reasons=reasons,
        provisional=not all(verdict.confirmed for verdict in verdicts),
        doubt=_doubt(chosen, verdicts),
        goals=tuple(_goal(table, usable) for table in tables),
        chosen=tuple(chosen),
        verdicts=verdicts,
        remarks=tuple(remarks + _failures(rows) + _broken(rows)),
        ladders=ladders(run),
        sustained=sustained,
        orders=tuple(filter(None, orders)),
        boundary=_boundary(way, means),
    )


def _none_allowed(run: Run, rows: Sequence[RankingRow]) -> str:
    first = next(row for row in rows if row.breaks is not None)
    return (
        f"no configuration of {run.folder} keeps to the constraints; the fastest, {first.name} on"
        f" {first.table}: {first.breaks}; allow more, or sweep smaller chunks and fewer writers"
    )


@dataclass(frozen=True, slots=True, order=True)
class Mean:
    """tables: on how many a way is usable. ratio: to each table's best, geometric mean."""

    tables: int
    ratio: float


def geometric_means(usable: Iterable[RankingRow]) -> dict[Way, Mean]:
    """Of the best that each way does on each table."""
    best: dict[Way, dict[str, float]] = {}
    for row in usable:
        by_table = best.setdefault(row.way, {})
        by_table[row.table] = max(by_table.get(row.table, 0.0), row.ratio or 0.0)
    return {
        way: Mean(len(ratios), math.exp(fmean(math.log(ratio) for ratio in ratios.values())))
        for way, ratios in best.items()
    }


def _choose_way(means: Mapping[Way, Mean]) -> Way:
    """The best strategy and driver, with the fewest writers that are near enough to it.

    A way that serves more tables goes before one that serves fewer.
    """
    best = max(means, key=lambda way: means[way])
    near = [
        way
        for way, mean in means.items()
        if (way.strategy, way.driver) == (best.strategy, best.driver)
        and mean.tables == means[best].tables
        and mean.ratio >= ENOUGH * means[best].ratio
    ]
    return min(near, key=lambda way: (way.parallelism, way.transaction != "chunk"))


def _choose_chunk(rows: Sequence[RankingRow]) -> RankingRow:
    """The smallest chunk near enough to the table's best that meets the goal, else the fastest.

    rows: of one table and the chosen way, best first.
    """
    able = [row for row in rows if row.goal_met] or list(rows)
    near = [row for row in able if row.ratio is not None and row.ratio >= ENOUGH]
    return min(near, key=lambda row: row.chunk_rows or 0) if near else able[0]


def _way_values(way: Way, means: Mapping[Way, Mean]) -> tuple[dict[str, str], dict[str, str]]:
    mean = means[way]
    tables = "1 table" if mean.tables == 1 else f"{mean.tables} tables"
    figures = f"{mean.ratio:.3f} of each table's best, geometric mean of {tables}"
    values = {
        "BATCH_STRATEGY": way.strategy,
        "BATCH_DRIVER": way.driver,
        "BATCH_ENABLE_PARALLEL": "true" if way.parallelism > 1 else "false",
        "BATCH_PARALLELISM": str(way.parallelism),
    }
    together = f"{way}: {figures}"
    levels = {w.parallelism: m.ratio for w, m in means.items() if _same_plugs(w, way)}
    reasons = {
        "BATCH_STRATEGY": together + _next_best(way, means, "strategy"),
        "BATCH_DRIVER": together + _next_best(way, means, "driver"),
        "BATCH_ENABLE_PARALLEL": _levels(levels),
        "BATCH_PARALLELISM": _levels(levels),
    }
    return values, reasons


def _boundary(way: Way, means: Mapping[Way, Mean]) -> str:
    """What to commit together, and what each boundary is worth; "" where one was measured."""
    best: dict[str, float] = {}
    for one, mean in means.items():
        best[one.transaction] = max(best.get(one.transaction, 0.0), mean.ratio)
    if len(best) < 2 and way.transaction == "chunk":
        return ""
    figures = ", ".join(f"{name}: {ratio:.3f}" for name, ratio in sorted(best.items()))
    value = way.transaction if way.transaction.isdigit() else repr(way.transaction)
    return (
        f"commit with batchbench load --transaction {way.transaction}, in a program"
        f" load(transaction={value}); of the best by transaction: {figures}"
    )


def _same_plugs(one: Way, other: Way) -> bool:
    return one.plug == other.plug


def _next_best(way: Way, means: Mapping[Way, Mean], part: str) -> str:
    """The best way with another strategy, or another driver."""
    others = [w for w in means if getattr(w, part) != getattr(way, part)]
    if not others:
        return f"; no other {part} was measured"
    other = max(others, key=lambda w: means[w])
    return f"; next: {other}, {means[other].ratio:.3f}"


def _levels(levels: Mapping[int, float]) -> str:
    if len(levels) == 1:
        return "the only parallelism that was measured with that strategy and driver"
    figures = ", ".join(f"{count}: {ratio:.3f}" for count, ratio in sorted(levels.items()))
    return f"the fewest writers within {ENOUGH:g} of the best; of the best by writers: {figures}"


def _add_chunks(
    chosen: Iterable[RankingRow],
    values: dict[str, str],
    reasons: dict[str, str],
    verdicts: Sequence[ClaimVerdict],
    sustained: Sequence[Sustained],
) -> None:
    long = {one.finalist: one for one in sustained}
    for row in chosen:
        variable = chunk_variable(row.table)
        # What a choice is worth is told from fresh trials: its own ones helped to choose it.
        figures = next(confirmed_figures(verdicts, row.table), f"estimate: {row.figures}")
        found = long.get(finalist_of(row))
        figures += "" if found is None else f"; {found.says}"
        rows, reason = row.chunk_rows or 1, f"{row.table}: {figures}"
        if variable in values:  # two tables, one variable: the smaller chunk suits both
            rows = min(rows, int(values[variable]))
            reason = f"{reasons[variable]}; {reason}"
        values[variable] = str(rows)
        reasons[variable] = reason


def _doubt(chosen: Iterable[RankingRow], verdicts: Sequence[ClaimVerdict]) -> str:
    """Why it is provisional; "" where it is not."""
    if any(verdict.run_ids for verdict in verdicts):
        return "; ".join(verdict.sentence for verdict in verdicts if not verdict.confirmed)
    pairs = min((row.pairs for row in chosen), default=0)
    if pairs < FEWEST_PAIRS:
        counted = "1 pair" if pairs == 1 else f"{pairs} pairs"
        return (
            f"only {counted} of trials for each comparison, {FEWEST_PAIRS} are the least for an"
            " interval; no fresh run has confirmed the choice"
        )
    return "chosen by estimates; no fresh run has confirmed the choice"


def _goal(table: str, usable: Iterable[RankingRow]) -> GoalVerdict:
    mine = [row for row in usable if row.table == table]
    return GoalVerdict(table, any(row.goal_met for row in mine), mine[0] if mine else None)


def _failures(rows: Iterable[RankingRow]) -> list[str]:
    return [
        f"left out: {row.table}, {row.way}, chunks of {row.chunk_sizes[0]:,}:"
        f" {row.failed} of {row.trials} trials failed ({row.reason})"
        for row in rows
        if row.failed
    ]


def _broken(rows: Iterable[RankingRow]) -> list[str]:
    """The fastest of each table that a constraint forbids."""
    first: dict[str, RankingRow] = {}
    for row in rows:
        if row.breaks is not None:
            first.setdefault(row.table, row)
    return [
        f"not allowed: {row.table}, {row.name} ({row.breaks}), {row.ratio:.3f} of the best that is"
        for row in first.values()
    ]


def env_text(recommendation: Recommendation) -> str:
    """The values as a `.env` file, each under a comment that says why, of which run."""
    run = recommendation.run_id
    lines = [f"# batchbench recommendation of run {run}"]
    if recommendation.provisional:
        lines.append(f"# provisional: {recommendation.doubt}")
    lines += [f"# {remark}" for remark in recommendation.remarks]
    lines += [f"# {verdict.sentence}" for verdict in recommendation.verdicts if verdict.confirmed]
    if recommendation.boundary:
        lines.append(f"# {recommendation.boundary}")
    lines += [f"# {text}" for text in recommendation.orders]
    lines += [
        f"# scaling of {one.table}, {one.name}: {one.sentence}"
        for one in recommendation.scaling
        if one.sentence
    ]
    for variable, value in recommendation.values.items():
        reason = f"# {recommendation.reasons[variable]}; run {run}"
        lines += ["", reason, f"{variable}={value}"]
    return "\n".join(" ".join(line.split()) for line in lines) + "\n"
