"""python -m tests.slowdown: does `gate --against-ref` tell a slowed engine from an unchanged one?

In clones of this commit: one as it is, one whose engine takes a fifth more time for every chunk
(engine.patch). Each run's verdict is kept in a state file, so that runs go on where they ended; a
run counts for the source that it was made of.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchbench.config import child_environment

ROOT = Path(__file__).parents[2]
PATCH = Path(__file__).with_name("engine.patch")
RUN_LIMIT_S = 600
GATE = (
    *(sys.executable, "-m", "batchbench", "gate", "--against-ref", "HEAD"),
    *("--server", "embedded", "--json"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """words: for the gate. wanted: its exit code."""

    name: str
    slowed: bool
    words: tuple[str, ...]
    wanted: int


UNCHANGED = Case("unchanged", False, (), 0)
SLOWED = Case("a fifth more time per chunk", True, (), 1)
TOO_FEW = Case("unchanged, one round", False, ("--rounds", "1", "--budget", "10s"), 5)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One run of the gate. ratio, low, high: of all configurations together. busy: how many
    processes wanted the machine's cores when it ended, averaged over its last minutes.
    """

    source: str
    case: str
    at: str
    exit_code: int
    seconds: float
    busy: float
    ratio: float | None
    low: float | None
    high: float | None
    seen: str


def git(folder: Path, *words: str) -> str:
    """What git says. Raises CalledProcessError."""
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def make_clone(folder: Path, *, slowed: bool) -> Path:
    """This commit, slowed or not. What is not committed is not in it."""
    clone = folder / ("slowed" if slowed else "unchanged")
    git(folder, "clone", "--quiet", str(ROOT), str(clone))
    if slowed:
        git(clone, "apply", str(PATCH))
    return clone


def run_gate(clone: Path, case: Case, source: str) -> Verdict:
    """Hold the clone's tree against its commit, on an embedded server of its own."""
    started_s = time.perf_counter()
    done = subprocess.run(
        [*GATE, *case.words],
        cwd=clone,
        env=child_environment({"PYTHONPATH": str(clone)}),
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
    )
    seconds = time.perf_counter() - started_s
    together: dict[str, Any] = {"seen": (done.stderr.strip().splitlines() or [""])[-1]}
    if done.stdout:
        together = json.loads(done.stdout)["results"][0]
    return Verdict(
        source=source,
        case=case.name,
        at=datetime.now(UTC).isoformat(timespec="minutes"),
        exit_code=done.returncode,
        seconds=round(seconds, 1),
        busy=round(os.getloadavg()[1] / (os.cpu_count() or 1), 2),
        ratio=together.get("ratio"),
        low=together.get("low"),
        high=together.get("high"),
        seen=together["seen"],
    )


def read_state(path: Path, source: str) -> list[Verdict]:
    """What was run of this source so far."""
    if not path.is_file():
        return []
    verdicts = [Verdict(**json.loads(line)) for line in path.read_text().splitlines()]
    return [verdict for verdict in verdicts if verdict.source == source]


def todo(runs: int, done: Sequence[Verdict]) -> Iterator[Case]:
    """What is missing, one of each kind after the other."""
    cases = [TOO_FEW, *[UNCHANGED, SLOWED] * runs]
    left = [verdict.case for verdict in done]
    for case in cases:
        if case.name in left:
            left.remove(case.name)
        else:
            yield case


def text(verdicts: Sequence[Verdict], source: str) -> str:
    """As Markdown."""
    lines = [
        "# The gate against a ref",
        "",
        f"`make evidence-gate`, source {source[:12]}, {os.cpu_count()} cores. Each run is"
        " `batchbench gate --against-ref HEAD` in a clone; in the slowed ones the engine takes a"
        " fifth more time for every chunk. Busy: processes that wanted a core, for each core;"
        " beyond 1 the machine had other work than the gate's.",
        "",
        "| tree | runs | wanted | exit code as wanted | of these | ratio, all runs | longest run |",
        "|---|--:|---|--:|---|---|--:|",
        *_summary(verdicts),
        "",
        "| tree | ended | exit code | seen | seconds | busy |",
        "|---|---|--:|---|--:|--:|",
    ]
    lines += [
        f"| {v.case} | {v.at} | {v.exit_code} | {v.seen} | {v.seconds:.0f} | {v.busy} |"
        for v in verdicts
    ]
    return "\n".join(lines) + "\n"


def _summary(verdicts: Sequence[Verdict]) -> Iterator[str]:
    for case in (UNCHANGED, SLOWED, TOO_FEW):
        of_it = [verdict for verdict in verdicts if verdict.case == case.name]
        if not of_it:
            continue
        codes = sorted({v.exit_code for v in of_it if v.exit_code != case.wanted})
        others = ", ".join(f"{sum(v.exit_code == c for v in of_it)} x {c}" for c in codes)
        ratios = [v.ratio for v in of_it if v.ratio]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}" if ratios else ""
        yield (
            f"| {case.name} | {len(of_it)} | {case.wanted} |"
            f" {sum(v.exit_code == case.wanted for v in of_it)} | {others or '-'} | {spread} |"
            f" {max(v.seconds for v in of_it):.0f} s |"
        )


def main() -> int:
    """Run what is missing. 1 where a verdict was not as wanted."""
    parser = argparse.ArgumentParser(prog="python -m tests.slowdown", description=__doc__)
    parser.add_argument("--runs", type=int, default=10, help="of each tree")
    parser.add_argument("--state", type=Path, required=True, help="verdicts so far; is added to")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown; is replaced")
    options = parser.parse_args()
    source = git(ROOT, "rev-parse", "HEAD:batchbench")
    verdicts = read_state(options.state, source)
    options.state.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="batchbench_slowdown_") as folder:
        clones = {slowed: make_clone(Path(folder), slowed=slowed) for slowed in (False, True)}
        for case in list(todo(options.runs, verdicts)):
            verdicts.append(run_gate(clones[case.slowed], case, source))
            with options.state.open("a") as state:
                state.write(json.dumps(asdict(verdicts[-1])) + "\n")
            options.out.write_text(text(verdicts, source), encoding="utf-8")
            print(f"{case.name}: {verdicts[-1].exit_code}, {verdicts[-1].seen}", flush=True)
    print(text(verdicts, source))
    wanted = {case.name: case.wanted for case in (UNCHANGED, SLOWED, TOO_FEW)}
    return int(any(verdict.exit_code != wanted[verdict.case] for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
