"""python -m tests.noise: replay the noise corpus and print what the statistics say of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

from benchmarks.kept import write_dated
from tests.noise.checks import OTHER, RUNS, SAME, SHAPES, Check, check
from tests.noise.replay import Recording, recordings


def report(checks: list[Check], runs: int) -> Iterator[str]:
    """As lines of Markdown, recording by recording."""
    yield (
        f"{runs:,} replays a line. A/A: the same configuration under two names; A/B: another one,"
        " whose true ratio is that of the whole recording."
    )
    for name in dict.fromkeys(c.recording for c in checks):
        of_it = [c for c in checks if c.recording == name]
        yield from ("", f"## {name}", "")
        yield from _about(next(r for r in recordings() if r.name == name))
        yield from ("", *_table(of_it), "", *_summary(of_it))
    yield from ("", "## All together", "", *_summary(checks))
    yield (
        "- All replays of a recording draw on the same few hundred pairs, so that a line is off by"
        " about one percent more than its number of replays says."
    )


def _about(recording: Recording) -> Iterator[str]:
    """Where it was made, and what the machine did besides."""
    about, where = recording.about, recording.about["environment"]
    busy = sorted(about["cores_busy"])
    epochs, blocks = recording.seconds["yardstick"].shape
    loads = sum(float(seconds.sum()) for seconds in recording.seconds.values())
    yield (
        f"- {where['date']}, {where['cpu']}, {where['cpu_count']} cores, {where['memory_gib']} GiB,"
        f" {where['platform']}, Python {where['python']}; PostgreSQL {where['server']}; commit"
        f" {where['revision']}."
    )
    yield (
        f"- {epochs} epochs of {blocks} blocks, {loads:,.0f} s of loads; cores in use by anyone,"
        f" ours too: {busy[0]:.1f} to {busy[-1]:.1f}. {about['note']}"
    )


def _table(checks: list[Check]) -> Iterator[str]:
    yield (
        "| | arms | epochs x pairs | claimed | interval holds the truth | smallest difference"
        " reported | found, of that |"
    )
    yield "|---|---|---|---|---|---|---|"
    for c in checks:
        kind, found = "A/B", ""
        if c.found is not None:
            kind, found = "A/A", f"{c.found:.1%}"
        yield (
            f"| {kind} | {c.arms} | {c.shape.epochs} x {c.shape.pairs} | {c.claimed:.1%} |"
            f" {c.covered:.1%} | {c.smallest:.1%} | {found} |"
        )


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


def main() -> None:
    """Replay all; about half a minute a recording."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.noise",
        description=f"{__doc__} About half a minute for each recording of the corpus.",
    )
    parser.add_argument("--runs", type=int, default=RUNS, help=f"replays a line ({RUNS:,})")
    parser.add_argument("--out", type=Path, help="a file to write it to as well")
    options = parser.parse_args()
    checks = [
        check(recording, one, other, shape, options.runs)
        for recording in recordings()
        for one, other in (*SAME, *OTHER)
        for shape in SHAPES
    ]
    lines = report(checks, options.runs)
    print(write_dated(options.out, lines, "Statistics, replayed from the noise corpus"))


if __name__ == "__main__":
    main()
