"""python -m tests.noise: replay the noise corpus and print what the statistics say of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from tests.noise.checks import OTHER, RUNS, SAME, SHAPES, Check, check
from tests.noise.replay import recordings


def table(checks: list[Check], runs: int) -> str:
    """As Markdown."""
    lines = [
        "# Statistics, replayed from the noise corpus",
        "",
        f"{runs:,} replays a line. A/A: the same configuration under two names; A/B: another one,"
        " whose true ratio is that of the whole recording.",
        "",
        "| recording | | arms | epochs x pairs | claimed | interval holds the truth | smallest"
        " difference reported | found, of that |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for c in checks:
        kind, found = "A/B", ""
        if c.found is not None:
            kind, found = "A/A", f"{c.found:.1%}"
        lines.append(
            f"| {c.recording} | {kind} | {c.arms} | {c.shape.epochs} x {c.shape.pairs} |"
            f" {c.claimed:.1%} | {c.covered:.1%} | {c.smallest:.1%} | {found} |"
        )
    return "\n".join([*lines, "", *_summary(checks), ""])


def _summary(checks: list[Check]) -> Iterator[str]:
    same = [c for c in checks if c.found is not None]
    claimed, found = [c.claimed for c in same], [c.found or 0.0 for c in same]
    covered = [c.covered for c in checks if c.shape.epochs >= 6]
    yield (
        f"- A/A claims a difference in {fmean(claimed):.1%} (by line {min(claimed):.1%} to"
        f" {max(claimed):.1%}); at most 5 % are wanted."
    )
    yield (
        f"- A/B at the smallest difference reported is found in {fmean(found):.1%} (by line"
        f" {min(found):.1%} to {max(found):.1%}); at least 90 % are wanted."
    )
    yield (
        f"- From 6 epochs on, intervals hold the truth in {fmean(covered):.1%} (by line"
        f" {min(covered):.1%} to {max(covered):.1%}); 93-97 % are wanted. Of fewer epochs they are"
        " wider on purpose."
    )
    yield (
        "- All replays of a recording draw on the same few hundred pairs, so that a line is off by"
        " about one percent more than its number of replays says."
    )


def main() -> None:
    """Replay all; about a minute."""
    parser = argparse.ArgumentParser(prog="python -m tests.noise", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--out", type=Path, help="a file to write it to as well")
    options = parser.parse_args()
    checks = [
        check(recording, one, other, shape, options.runs)
        for recording in recordings()
        for one, other in (*SAME, *OTHER)
        for shape in SHAPES
    ]
    text = table(checks, options.runs)
    print(text)
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
