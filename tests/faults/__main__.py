"""python -m tests.faults --seeds 1,2,3,4,5"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tests.faults.arena import Arena
from tests.faults.cases import Case
from tests.faults.catalogue import CATALOGUE
from tests.faults.report import broken, evidence, table, totals
from tests.faults.runner import Run, run_case


def main() -> int:
    """Run the catalogue with each seed, print the table."""
    parser = argparse.ArgumentParser(prog="tests.faults", description=__doc__)
    parser.add_argument("--seeds", default="1", help="with commas")
    parser.add_argument("--only", default="", help="cases whose name holds this")
    parser.add_argument("--number", type=int, help="only this run of each case")
    parser.add_argument("--runs", type=int, help="of each case, instead of its own number")
    parser.add_argument("--out", type=Path, help="also write the table here (Markdown)")
    arguments = parser.parse_args()
    seeds = [int(text) for text in arguments.seeds.split(",")]
    cases = [case for case in CATALOGUE if arguments.only.lower() in case.name.lower()]
    started = time.monotonic()
    with Arena() as arena:
        runs = [
            _one(arena, case, seed, number)
            for seed in seeds
            for case in cases
            for number in range(arguments.runs or case.runs)
            if arguments.number in (None, number)
        ]
    words = f"{table(runs)}\n\n{totals(runs, time.monotonic() - started)}"
    print(words)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(evidence(words, seeds))
    return 1 if any(broken(run) for run in runs) else 0


def _one(arena: Arena, case: Case, seed: int, number: int) -> Run:
    run = run_case(arena, case, seed, number)
    if broken(run):
        print(f"BROKEN {run.name}: {run.setup.words}", file=sys.stderr)
        for problem in run.tally.verdict.problems:
            print(f"    {problem}", file=sys.stderr)
        if run.tally.verdict.lost or run.tally.verdict.doubled:
            print(
                f"    lost {run.tally.verdict.lost} doubled {run.tally.verdict.doubled}",
                file=sys.stderr,
            )
    return run


if __name__ == "__main__":
    sys.exit(main())
