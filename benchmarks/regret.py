"""python -m benchmarks.regret: what a recommendation costs against the best that there is.

A case is one of the profile's tables and a round trip. Each is swept as `batchbench sweep --profile
TABLE --rtt-ms RTT --budget ...` does. What that recommends is then measured afresh, on another
server, in pairs with every configuration that the sweep saw within 15 % of its best, and with the
next two at least. Regret is 1 less the ratio of the recommended one to the best of the fresh run:

- "regret": each epoch is held against the configuration that the *other* epochs put first, so that
  nobody's luck is counted as speed. This one is judged.
- "to the first": against whoever came out first, luck included; it is never too low.
- "at most": upper bound of 95 %, against all of them at once.

Runs are kept in a folder: a case that was broken off goes on. A case takes about four minutes, all
fifteen an hour; --dry-run says what is left.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from batchbench.config import METRIC_TABLES, Settings, choose_allocator
from batchbench.harness import (
    MOST_BLOCKS,
    SweepPlan,
    confirmation_plan,
    default_plan,
    sized,
    usable_cores,
)
from batchbench.harness.pace import spent_s
from batchbench.recommend import REACH, Claim, Finalist, judge_claims, ranking, recommend
from batchbench.recommend.confirming import FEWEST_RIVALS, finalist_of, ratio_between
from batchbench.results import Run
from benchmarks.kept import Bench, configuration_of, surroundings, write_dated

RTTS_MS = (0.0, 1.0, 5.0)
MOST_REGRET = 0.05
ALLOWED_MISSES = 1
"""Of the fifteen."""

_AROUND_S = 15.0  # a case's two servers, their ends, and the rows


@dataclass(frozen=True, slots=True)
class Case:
    """What is swept. rtt_ms: of the harness's own delaying proxy."""

    table: str
    rtt_ms: float

    def __str__(self) -> str:
        return f"{self.table}-{self.rtt_ms:g}ms"


CASES = tuple(Case(*both) for both in product(METRIC_TABLES, RTTS_MS))


@dataclass(frozen=True, slots=True)
class Times:
    """Of a sweep and of the fresh run that follows it, seconds."""

    sweep_s: float
    fresh_s: float


@dataclass(frozen=True, slots=True)
class Regret:
    """As shares; `bound` with 95 % confidence, one-sided. None where there are too few pairs.
    fault: why the fresh run cannot say.
    """

    held_out: float | None
    to_first: float | None
    bound: float | None
    pairs: int
    first: Finalist
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a case. swept: configurations; near: measured afresh."""

    case: Case
    swept: int
    near: int
    chosen: Finalist
    regret: Regret
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether its regret is small enough."""
        return not self.regret.fault and _small(self.regret.held_out)


def _small(share: float | None) -> bool:
    return share is not None and share <= MOST_REGRET


def sweep_plan(case: Case, budget_s: float) -> SweepPlan:
    """What `batchbench sweep` plans for the case in this time."""
    plan = default_plan(
        usable_cores(), Settings(), tables=[case.table], rtts_ms=[case.rtt_ms], budget_s=budget_s
    )
    return sized(replace(plan, budget_s=budget_s), budget_s)


def finalists_of(sweep: Run) -> tuple[Finalist, ...]:
    """The recommended one, then all within reach of the best."""
    rows = [row for row in ranking(sweep) if row.eligible]
    near = [row for n, row in enumerate(rows) if n <= FEWEST_RIVALS or (row.ratio or 0) >= REACH]
    chosen = recommend(sweep).chosen[0]
    return tuple(dict.fromkeys(map(finalist_of, [chosen, *near])))


def measure(case: Case, times: Times, bench: Bench) -> Outcome:
    """Sweep, recommend, and measure that afresh: what is missing of it."""
    sweep = bench.run(sweep_plan(case, times.sweep_s), f"{case}-sweep")
    finalists = finalists_of(sweep)
    configurations = [configuration_of(one, case.rtt_ms) for one in finalists]
    plan = confirmation_plan(sweep, configurations, times.fresh_s)
    fresh = bench.run(replace(plan, repeats=MOST_BLOCKS), f"{case}-fresh")
    return Outcome(
        case,
        len(sweep.info.plan["configurations"]),
        len(finalists),
        finalists[0],
        regret_of(fresh, finalists[0], finalists[1:]),
        spent_s(sweep) + spent_s(fresh),
    )


def regret_of(fresh: Run, chosen: Finalist, rivals: Sequence[Finalist]) -> Regret:
    """What the fresh run says of the choice."""
    claim = Claim(chosen.table, (chosen,), tuple((rival,) for rival in rivals))
    (verdict,) = judge_claims([claim], [fresh])
    first = fastest(fresh, chosen, rivals)
    ratio = ratio_between(fresh, [chosen], [first])
    if verdict.bound is None or ratio is None:
        return Regret(None, None, None, verdict.pairs, first, verdict.fault or verdict.says)
    return Regret(
        held_out(fresh, chosen, rivals),
        1 - ratio.estimate,
        1 - verdict.bound,
        verdict.pairs,
        first,
        verdict.fault,
    )


def fastest(run: Run, chosen: Finalist, rivals: Sequence[Finalist]) -> Finalist:
    """By estimate; the chosen one where it is not beaten."""

    def speed(one: Finalist) -> float:
        ratio = ratio_between(run, [one], [chosen])
        return 0.0 if ratio is None else ratio.estimate

    return max((chosen, *rivals), key=speed)


def held_out(fresh: Run, chosen: Finalist, rivals: Sequence[Finalist]) -> float:
    """Mean over the epochs, each against the one that the others put first. Of a single epoch its
    own first must do.
    """
    epochs = {record.epoch for record in fresh.trials}
    logs = []
    for epoch in epochs:
        others = _part(fresh, (epochs - {epoch}) or epochs)
        rival = fastest(others, chosen, rivals)
        ratio = ratio_between(_part(fresh, {epoch}), [chosen], [rival])
        logs += [] if ratio is None else [ratio.log]
    return float(-np.expm1(np.mean(logs)))


def _part(run: Run, epochs: Iterable[int]) -> Run:
    kept = set(epochs)
    return replace(run, records=tuple(r for r in run.records if r.epoch in kept))


def report(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """As lines of Markdown."""
    yield (
        "Recommended by a sweep, then measured afresh in pairs with all that the sweep saw within"
        f" {1 - REACH:.0%} of its best. Regret: 1 - ratio to the best. In the first column of it"
        " each epoch is held against whom the other epochs put first; `to the first` has the luck"
        " of the fresh run's first in it; `at most` is the 95 % upper bound against all of them at"
        " once."
    )
    yield ""
    yield (
        "| table | round trip, ms | swept | afresh | recommended | first afresh | pairs | regret |"
        " to the first | at most | seconds | holds |"
    )
    yield "|---|--:|--:|--:|---|---|--:|--:|--:|--:|--:|---|"
    yield from map(line, outcomes)
    yield ""
    yield from summary(outcomes)


def line(one: Outcome) -> str:
    """Of one case."""
    found = one.regret
    first = "the same" if found.first == one.chosen else _named(found.first)
    return (
        f"| {one.case.table} | {one.case.rtt_ms:g} | {one.swept} | {one.near} |"
        f" {_named(one.chosen)} | {first} | {found.pairs} | {_share(found.held_out)} |"
        f" {_share(found.to_first)} | {_share(found.bound)} | {one.seconds:,.0f} |"
        f" {found.fault or ('yes' if one.holds else 'no')} |"
    )


def _named(one: Finalist) -> str:
    return f"{one.way}, chunks of {one.chunk_rows:,}"


def _share(value: float | None) -> str:
    return "??" if value is None else f"{value:.1%}"


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """What must be shown."""
    lucky = sum(_small(one.regret.to_first) for one in outcomes)
    sure = sum(_small(one.regret.bound) for one in outcomes)
    yield (
        f"- Regret of at most {MOST_REGRET:.0%} in {sum(one.holds for one in outcomes)} of"
        f" {len(outcomes)} cases; {len(CASES) - ALLOWED_MISSES} of {len(CASES)} are wanted."
    )
    yield (
        f"- To the first, its luck included: in {lucky}. The upper bound itself is at most"
        f" {MOST_REGRET:.0%} in {sure}."
    )


def plan_text(cases: Sequence[Case], times: Times, folder: Path) -> Iterator[str]:
    """What is left to do, and how long it takes."""
    left_s = 0.0
    for case in cases:
        plan = sweep_plan(case, times.sweep_s)
        there = [(folder / f"{case}-{part}" / "ended.json").exists() for part in ("sweep", "fresh")]
        state = "ended" if all(there) else "half done" if any(there) else "to do"
        left_s += 0 if all(there) else times.fresh_s + _AROUND_S
        left_s += 0 if there[0] else times.sweep_s
        yield f"{case}: {len(plan.configurations)} configurations, {plan.rows:,} rows; {state}"
    yield f"about {left_s / 60:.0f} minutes are left"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, report after each case: 1 where too many do not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.regret",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", help="some of them, with commas: sleep-0ms,workout-5ms")
    parser.add_argument("--sweep-s", type=float, default=90.0, help="of each sweep (90)")
    parser.add_argument("--fresh-s", type=float, default=130.0, help="of each fresh run (130)")
    parser.add_argument("--folder", type=Path, default=Path("results/evidence-regret"))
    parser.add_argument("--out", type=Path, help="a file to write the report to as well")
    parser.add_argument("--dry-run", action="store_true", help="say what is left, measure nothing")
    given = parser.parse_args(arguments)
    wanted = (given.cases or ",".join(map(str, CASES))).split(",")
    unknown = set(wanted) - set(map(str, CASES))
    if unknown:
        parser.error(f"no case {min(unknown)}; known: {', '.join(map(str, CASES))}")
    cases = [case for case in CASES if str(case) in wanted]
    times = Times(given.sweep_s, given.fresh_s)
    if given.dry_run:
        print("\n".join(plan_text(cases, times, given.folder)))
        return 0
    bench = Bench(given.folder, "benchmarks.regret", lambda text: print(text, file=sys.stderr))
    outcomes: list[Outcome] = []
    for case in cases:
        outcomes.append(measure(case, times, bench))
        lines = [*report(outcomes), *surroundings(bench.kept)]
        text = write_dated(given.out, lines, "What a recommendation costs")
    print(text)
    return int(sum(not one.holds for one in outcomes) > ALLOWED_MISSES)


if __name__ == "__main__":
    choose_allocator()
    sys.exit(main())
