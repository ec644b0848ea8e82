"""python -m benchmarks.tuning: does `batchbench tune` find what the whole grid finds?

For each seed: the grid, six times each configuration; a search over the same configurations, given
a share of the grid's time; and random search given the time that the search took, replayed from the
grid's own first block. What each of them would choose is then measured afresh, in pairs. All runs
are kept in a folder and go on where they stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from batchbench.config import Settings
from batchbench.harness import Configuration, Space, SweepPlan, tune_plan, usable_cores
from batchbench.harness.pace import spent_s
from batchbench.recommend import RankingRow, ranking, recommend
from batchbench.recommend.confirming import finalist_of, ratio_between
from batchbench.recommend.ranking import interval
from batchbench.results import Constraints, Run, TrialRecord
from batchbench.stats import FEWEST_PAIRS, Ratio, lower_bound
from benchmarks.kept import Bench, configurations_of, surroundings, write_dated

GRID_BLOCKS = FEWEST_PAIRS
NEAR = 0.95
MOST_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Options:
    """share: of the grid's time that the search gets. pairs: of the fresh measurement."""

    metric: str
    rows: int | None
    space: Space
    share: float
    pairs: int
    folder: Path


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one seed. Ratios: to the grid's best, measured afresh. tried: by random search."""

    seed: int
    configurations: int
    grid_s: float
    search_s: float
    tried: int
    best: str
    tuned: str
    lucky: str
    to_best: Ratio | None
    random_to_best: Ratio | None

    @property
    def share(self) -> float:
        """Of the grid's time."""
        return self.search_s / self.grid_s


def compare(seed: int, options: Options, bench: Bench) -> Outcome:
    """Grid, search and random search of one seed, and what their choices are worth."""
    conditions = SweepPlan(
        configurations=(Configuration(options.metric, "copy", "psycopg", 1_000, 1),), seed=seed
    )
    plan = tune_plan(
        conditions,
        [options.metric],
        Settings(),
        options.space,
        Constraints(),
        cores=usable_cores(),
        budget_s=float("inf"),
        rows=options.rows,
    )
    whole = replace(plan, search=None, repeats=GRID_BLOCKS, epochs=3, budget_s=None)
    grid = bench.run(whole, f"seed-{seed}-grid")
    # The search also pays for starting: what is left of it is what it is worth.
    searching = replace(plan, budget_s=options.share * spent_s(grid), seed=seed + 1_000)
    search = bench.run(searching, f"seed-{seed}-search")
    best = first(ranking(grid))
    tuned = recommend(search).chosen[0]
    lucky, tried = random_choice(grid, spent_s(search), seed)
    chosen = (best, tuned, lucky)
    fresh = bench.run(
        replace(
            whole,
            configurations=configurations_of(chosen),
            repeats=options.pairs,
            epochs=6,
            seed=seed + 2_000,
        ),
        f"seed-{seed}-fresh",
    )
    return Outcome(
        seed,
        len(whole.configurations),
        spent_s(grid),
        spent_s(search),
        tried,
        best.name,
        tuned.name,
        lucky.name,
        fresh_ratio(fresh, tuned, best),
        fresh_ratio(fresh, lucky, best),
    )


def first(rows: Sequence[RankingRow]) -> RankingRow:
    """The fastest that may be recommended."""
    return next(row for row in rows if row.eligible)


def random_choice(grid: Run, seconds: float, seed: int) -> tuple[RankingRow, int]:
    """The fastest of those that random search has time for, each tried once; and how many."""
    loads = len(grid.records)
    besides_s = spent_s(grid) / loads - fmean(r.seconds or 0.0 for r in grid.records)
    tried: list[TrialRecord] = []
    pool = [record for record in grid.trials if record.block == 1 and record.usable]
    for index in np.random.default_rng(seed).permutation(len(pool)).tolist():
        seconds -= besides_s + (pool[index].seconds or 0.0)
        if seconds < 0 and tried:
            break
        tried.append(pool[index])
    best = max(tried, key=lambda record: record.rows_per_s or 0.0)
    row = next(row for row in ranking(grid) if matches(row, best))
    return row, len(tried)


def matches(row: RankingRow, record: TrialRecord) -> bool:
    """Whether the record is one of the row's."""
    way = (row.way.strategy, row.way.driver, row.way.parallelism)
    same = way == (record.strategy, record.driver, record.parallelism)
    return same and (row.table, row.chunk_rows) == (record.table, record.chunk_rows)


def fresh_ratio(fresh: Run, one: RankingRow, best: RankingRow) -> Ratio | None:
    """None where both are the same."""
    if finalist_of(one) == finalist_of(best):
        return None
    return ratio_between(fresh, [finalist_of(one)], [finalist_of(best)])


def value(ratio: Ratio | None) -> float:
    """The estimate; 1 of the best itself."""
    return 1.0 if ratio is None else ratio.estimate


def report(outcomes: Sequence[Outcome], options: Options) -> Iterator[str]:
    """As lines of Markdown."""
    yield (
        f"Table {options.metric}, {outcomes[0].configurations}"
        f" configurations, grid of {GRID_BLOCKS} blocks; ratios to the grid's best from"
        f" {options.pairs} fresh pairs over 6 epochs, with 95 % intervals and one-sided lower"
        " bound. Random search got the time of the search."
    )
    yield ""
    yield (
        "| seed | grid, s | search, s | share | grid's best | tuned | ratio | at least |"
        " random (tried) | ratio |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    yield from map(line, outcomes)
    yield ""
    yield from summary(outcomes)


def line(one: Outcome) -> str:
    """Of one seed."""
    bound = 1.0 if one.to_best is None else lower_bound(one.to_best)
    return (
        f"| {one.seed} | {one.grid_s:,.0f} | {one.search_s:,.0f} | {one.share:.0%} | {one.best} |"
        f" {one.tuned} | {shown(one.to_best)} | {'??' if bound is None else f'{bound:.3f}'} |"
        f" {one.lucky} ({one.tried}) | {shown(one.random_to_best)} |"
    )


def shown(ratio: Ratio | None) -> str:
    """With its interval."""
    return "the same" if ratio is None else f"{ratio.estimate:.3f}{interval(ratio)}"


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What must be shown."""
    count = len(outcomes)
    near = sum(value(one.to_best) >= NEAR for one in outcomes)
    cheap = sum(one.share <= MOST_SHARE for one in outcomes)
    tuned = [value(one.to_best) for one in outcomes]
    lucky = [value(one.random_to_best) for one in outcomes]
    better = sum(a > b for a, b in zip(tuned, lucky, strict=True))
    worse = sum(a < b for a, b in zip(tuned, lucky, strict=True))
    yield f"- {near} of {count} searches end within 5 % of the grid's best; 9 of 10 are wanted."
    yield (
        f"- {cheap} of {count} took at most {MOST_SHARE:.0%} of the grid's time; mean"
        f" {fmean(one.share for one in outcomes):.0%}."
    )
    yield (
        f"- Mean ratio to the grid's best: {fmean(tuned):.3f}, random search {fmean(lucky):.3f};"
        f" tuned is better in {better} of {count}, worse in {worse}."
    )


def main() -> None:
    """Run what is missing of the seeds, and write what is known after each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--seeds", default="1,2,3,4,5,6,7,8,9,10")
    parser.add_argument("--metric", default="sleep")
    parser.add_argument("--rows", type=int, help="of each load; default: as tune does")
    parser.add_argument("--strategies", default="values,unnest,copy")
    parser.add_argument("--chunk-sizes", default="250,500,1000,2000,4000,8000")
    parser.add_argument("--writers", default="1,2")
    parser.add_argument("--share", type=float, default=0.2, help="of the grid's time, to search")
    parser.add_argument("--pairs", type=int, default=36)
    parser.add_argument("--folder", type=Path, default=Path("results/evidence-tune"))
    parser.add_argument("--out", type=Path, help="a file to write it to as well")
    given = parser.parse_args()
    space = Space(
        strategies=given.strategies.split(","),
        chunk_sizes=[int(size) for size in given.chunk_sizes.split(",")],
        writers=[int(count) for count in given.writers.split(",")],
    )
    options = Options(given.metric, given.rows, space, given.share, given.pairs, given.folder)
    bench = Bench(options.folder, "benchmarks.tuning", print)
    outcomes: list[Outcome] = []
    for seed in map(int, given.seeds.split(",")):
        outcomes.append(compare(seed, options, bench))
        lines = [*report(outcomes, options), *surroundings(bench.kept)]
        text = write_dated(given.out, lines, "Tuning against the whole grid")
    print(text)


if __name__ == "__main__":
    main()
