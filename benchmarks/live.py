"""python -m benchmarks.live: does a sweep claim what is not there, and find what is?

First the true size of an injected slowdown: 320 pairs of COPY and of COPY that is held up after
each chunk. Then 20 sweeps of COPY under two names (A/A), and 20 of it beside the slowed one (A/B),
in turn, each on a server of its own, within 90 s. A claim is the verdict "different", as reports
have it: the whole 95 % interval of the paired ratio beyond 2 %.

Runs are kept in a folder: what was broken off goes on. About five minutes for the true size and
100 s a sweep, 75 minutes together; --dry-run says what is left.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchbench.config import choose_allocator
from batchbench.harness import MOST_BLOCKS, PAIR_SD, SweepPlan, full_grid
from batchbench.harness.pace import spent_s
from batchbench.recommend import Finalist, Way
from batchbench.recommend.confirming import ratio_between
from batchbench.recommend.ranking import interval
from batchbench.results import Run
from batchbench.stats import Finding, Verdict, detectable, judge
from benchmarks.injected import CopyOne, CopySlowed, CopyTwo, install
from benchmarks.kept import Bench, surroundings, write_dated

SWEEPS = 20
SWEEP_S = 86.0  # a block that takes longer than those before it still ends within 90
MOST_S = 90.0
TRUTH_PAIRS = 320
MOST_CLAIMED, LEAST_FOUND = 2, 16
"""Of 20 each."""

_METRIC, _DRIVER, _WRITERS = "heart_rate", "psycopg", 1
_ROWS, _CHUNK_ROWS = 20_000, 1_000  # many short pairs: longer loads vary hardly less
_EPOCHS = 10  # more would leave too few pairs, fewer say less of what lives of a server differ by
_AROUND_S = 8.0
_TRUTH_S = 300.0  # about, with its epochs


@dataclass(frozen=True, slots=True)
class Kind:
    """Two names. other: the strategy beside COPY."""

    name: str
    other: str


SAME = Kind("aa", CopyTwo.name)
SLOWER = Kind("ab", CopySlowed.name)


@dataclass(frozen=True, slots=True)
class Seen:
    """Of one sweep."""

    kind: Kind
    number: int
    verdict: Verdict
    seconds: float

    @property
    def claimed(self) -> bool:
        """Whether it says that the two differ; of the slowed one, that it is the slower one."""
        told = self.verdict.finding is Finding.DIFFERENT
        return told and (self.kind is SAME or self.verdict.ratio.estimate < 1)


def plan_of(kind: Kind, seed: int, budget_s: float) -> SweepPlan:
    """A sweep of the two names."""
    names = [CopyOne.name, kind.other]
    return SweepPlan(
        configurations=full_grid([_METRIC], names, [_DRIVER], [_CHUNK_ROWS], [_WRITERS]),
        rows=_ROWS,
        repeats=MOST_BLOCKS,
        epochs=_EPOCHS,
        seed=seed,
        budget_s=budget_s,
    )


def truth_plan(pairs: int) -> SweepPlan:
    """As many pairs as tell the true size, over twice the epochs."""
    plan = plan_of(SLOWER, seed=1_000, budget_s=0.0)
    return replace(plan, repeats=pairs, epochs=2 * _EPOCHS, budget_s=None)


def verdict_of(run: Run, kind: Kind) -> Verdict:
    """What a report says of the other name against COPY. Raises ValueError where no block has
    both.
    """
    sides = [
        [Finalist(_METRIC, Way(name, _DRIVER, _WRITERS), _CHUNK_ROWS)]
        for name in (kind.other, CopyOne.name)
    ]
    ratio = ratio_between(run, *sides)
    if ratio is None:
        raise ValueError(f"{run.folder}: no block has both")
    return judge(ratio)


def todo(sweeps: int) -> Iterator[tuple[Kind, int]]:
    """One of each kind after the other."""
    return ((kind, number) for number in range(1, sweeps + 1) for kind in (SAME, SLOWER))


def report(truth: Verdict, seen: Sequence[Seen]) -> Iterator[str]:
    """As lines of Markdown."""
    yield from summary(truth, seen)
    yield ""
    yield "| sweep | beside copy-one | pairs | ratio | verdict | could have found | trials, s |"
    yield "|--:|---|--:|---|---|--:|--:|"
    for one in seen:
        verdict = one.verdict
        ratio, least = verdict.ratio, verdict.smallest
        yield (
            f"| {one.number} | {one.kind.other} | {ratio.pairs} |"
            f" {ratio.estimate:.3f}{interval(ratio)} | {verdict.finding} |"
            f" {'??' if least is None else f'{least:.1%}'} | {one.seconds:.0f} |"
        )
    yield ""


def summary(truth: Verdict, seen: Sequence[Seen]) -> Iterator[str]:
    """What must be shown."""
    same, slower = ([one for one in seen if one.kind is kind] for kind in (SAME, SLOWER))
    size = truth.ratio
    yield (
        f"- The injected slowdown: {size.estimate:.3f}{interval(size)} of the speed, from"
        f" {size.pairs} pairs over {size.epochs} epochs."
    )
    yield (
        f"- A/A, the same under two names: {sum(one.claimed for one in same)} of {len(same)} sweeps"
        f" claim a difference; at most {MOST_CLAIMED} of {SWEEPS} are wanted."
    )
    yield (
        f"- A/B, the slowed one: {sum(one.claimed for one in slower)} of {len(slower)} sweeps find"
        f" it; at least {LEAST_FOUND} of {SWEEPS} are wanted."
    )
    longest = max((one.seconds for one in seen), default=0.0)
    yield f"- Trials of a sweep took {longest:.0f} s at most; {MOST_S:.0f} s are wanted."


def holds(seen: Sequence[Seen]) -> bool:
    """Whether what is wanted holds of all 20; of fewer, whether it still can."""
    claimed = sum(one.claimed for one in seen if one.kind is SAME)
    missed = sum(not one.claimed for one in seen if one.kind is SLOWER)
    return claimed <= MOST_CLAIMED and missed <= SWEEPS - LEAST_FOUND


def plan_text(sweeps: int, budget_s: float, folder: Path) -> Iterator[str]:
    """What is left to do, and how long it takes."""
    names = [f"{kind.name}-{number}" for kind, number in todo(sweeps)]
    left = [name for name in ("truth", *names) if not (folder / name / "ended.json").exists()]
    seconds = sum(_TRUTH_S if name == "truth" else budget_s + _AROUND_S for name in left)
    pairs = 75  # what there was room for on two cores at rest
    least = detectable(PAIR_SD, pairs, _EPOCHS) or 0.0
    yield f"{len(left)} of {1 + len(names)} runs are left, about {seconds / 60:.0f} minutes"
    yield (
        f"{pairs} pairs that vary by {PAIR_SD:.0%} find a difference of {least:.0%} nine times in"
        " ten"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, report after each sweep: 1 where it does not hold."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--sweeps", type=int, default=SWEEPS, help="of each kind (20)")
    parser.add_argument("--seconds", type=float, default=SWEEP_S, help="of each sweep (86)")
    parser.add_argument("--truth-pairs", type=int, default=TRUTH_PAIRS, help="(320)")
    parser.add_argument("--folder", type=Path, default=Path("results/evidence-live"))
    parser.add_argument("--out", type=Path, help="a file to write the report to as well")
    parser.add_argument("--dry-run", action="store_true", help="say what is left, measure nothing")
    given = parser.parse_args(arguments)
    if given.dry_run:
        print("\n".join(plan_text(given.sweeps, given.seconds, given.folder)))
        return 0
    install(given.folder / "names")
    bench = Bench(given.folder, "benchmarks.live", lambda text: print(text, file=sys.stderr))
    truth = verdict_of(bench.run(truth_plan(given.truth_pairs), "truth"), SLOWER)
    seen: list[Seen] = []
    text = ""
    for kind, number in todo(given.sweeps):
        run = bench.run(plan_of(kind, number, given.seconds), f"{kind.name}-{number}")
        seen.append(Seen(kind, number, verdict_of(run, kind), spent_s(run)))
        lines = [*report(truth, seen), *surroundings(bench.kept)]
        text = write_dated(given.out, lines, "Sweeps of the same, and of a slowed one")
    print(text)
    return int(not holds(seen))


if __name__ == "__main__":
    choose_allocator()
    sys.exit(main())
