"""The gate: pass, fail, cannot tell, and never green by accident."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from batchbench.compare import compare
from batchbench.config import child_environment
from batchbench.errors import ConfigError, InputError
from batchbench.gate import (
    GOAL,
    Result,
    Rule,
    Rules,
    Status,
    exit_code,
    judge_baseline,
    judge_pairs,
    judge_run,
    junit,
    markdown,
    portability,
    read_rules,
)
from batchbench.harness.revisions import ROUNDS, Pair, in_turn, revisions
from batchbench.results import Run, TrialRecord
from tests.slowdown import __main__ as slowdown
from tests.test_compare import STORED, TRIAL, run, stored

ROOT = Path(__file__).parents[1]


def rules(**changes: object) -> Rules:
    rule = {"metric": "rows_per_s", "above": None, "below": None, "only": {}, **changes}
    return Rules((Rule(**rule),))  # type: ignore[arg-type]


def statuses(results: list[Result]) -> list[Status]:
    return [result.status for result in results]


def with_records(*records: TrialRecord) -> Run:
    return replace(STORED, records=records)


# --- single figures -----------------------------------------------------------------------------


def test_the_goal_is_the_rule_where_nobody_says_otherwise(tmp_path: Path) -> None:
    results = judge_run(run(1.0), GOAL)
    assert statuses(results) == [Status.PASS, Status.PASS]
    assert exit_code(results) == 0


def test_medians_of_speeds_and_largest_of_memory() -> None:
    trials = [
        replace(TRIAL, trial_id=str(n), rows_per_s=float(speed), peak_rss_mb=float(peak))
        for n, (speed, peak) in enumerate([(100, 10), (200, 20), (900, 90)])
    ]
    measured = with_records(*trials)
    assert statuses(judge_run(measured, rules(above=199))) == [Status.PASS]
    assert statuses(judge_run(measured, rules(above=201))) == [Status.FAIL]
    assert statuses(judge_run(measured, rules(metric="peak_rss_mb", below=90))) == [Status.FAIL]
    assert statuses(judge_run(measured, rules(metric="peak_rss_mb", below=91))) == [Status.PASS]


def test_a_failed_trial_fails_whatever_the_figures() -> None:
    failed = replace(TRIAL, status="failed", reason="the disk is full")
    (result,) = judge_run(with_records(TRIAL, replace(failed, trial_id="x")), rules(above=1))
    assert result.status is Status.FAIL
    assert "the disk is full" in result.seen


def test_each_round_trip_is_held_to_the_rule() -> None:
    far = replace(TRIAL, trial_id="far", rtt_ms=20.0, rows_per_s=10.0)
    fast = [replace(TRIAL, trial_id=str(n), rows_per_s=1e5) for n in range(5)]
    results = judge_run(with_records(*fast, far), rules(above=2_000))
    assert statuses(results) == [Status.PASS, Status.FAIL]
    assert results[1].subject.endswith(" +20 ms")


@pytest.mark.parametrize("only", [{"table": "nothing"}, {"chunk_size": 1}])
def test_what_was_not_measured_is_no_pass(only: dict[str, object]) -> None:
    results = judge_run(with_records(TRIAL), rules(above=1, only=only))
    assert exit_code(results) == 5
    assert exit_code(judge_run(with_records(), GOAL)) == 5
    assert exit_code([]) == 5


def test_lines_that_cannot_be_read_are_no_pass(tmp_path: Path) -> None:
    folder = Path(stored(tmp_path / "r", run(1.0)))
    with (folder / "trials.ndjson").open("a") as file:
        file.write('{"kind": "trial"')
    done = gate(str(folder), cwd=tmp_path)
    assert done.returncode == 5, done.stdout
    assert "left out: 1 of 61" in done.stdout
    assert done.stderr == f"warning: {folder}: trials.ndjson, line 61: cut off; left out\n"


# --- against a baseline -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speed", "trials", "code"), [(1.0, 40, 0), (0.7, 40, 1), (0.9, 40, 5), (1.0, 3, 5)]
)
def test_a_slowdown_must_be_shown_and_so_must_its_absence(
    speed: float, trials: int, code: int
) -> None:
    """One that is exactly at the bound cannot be told."""
    comparison = compare(run(1.0, trials=40), run(speed, trials=trials, seed=2))
    assert exit_code(judge_baseline(comparison, GOAL)) == code


def test_a_configuration_that_is_missing_is_no_pass() -> None:
    more = run(1.0)
    other = replace(more, records=(*more.records, replace(TRIAL, trial_id="z", strategy="unnest")))
    results = judge_baseline(compare(other, more), GOAL)
    assert exit_code(results) == 5
    assert "only one of the runs" in results[-1].seen


def on(run: Run, machine: int, run_id: str) -> Run:
    moved = replace(run.info.environment, cpu_count=machine)
    return replace(run, info=replace(run.info, environment=moved, run_id=run_id))


def test_what_runs_of_the_same_code_differ_by_is_no_regression() -> None:
    """Through the yardstick, the other machine seems slower by a quarter."""
    here, there = on(run(1.0), 2, "here"), on(run(0.75, machine=3.0, seed=2), 8, "there")
    after = on(run(0.76, machine=2.0, seed=3), 8, "after")
    comparison = compare(here, after)
    found = portability([here, there])
    assert found.words == "± 32% between 2 runs of the same code on 2 machines"
    (unknown,) = judge_baseline(comparison, GOAL)
    assert (unknown.status, "was not measured" in unknown.seen) == (Status.UNDECIDED, True)
    (known,) = judge_baseline(comparison, GOAL, found)
    assert known.status is Status.UNDECIDED
    assert found.words in known.rule
    (slow,) = judge_baseline(compare(here, on(run(0.4, seed=4), 8, "slow")), GOAL, found)
    assert slow.status is Status.FAIL
    small = replace(found, error=0.02)
    assert statuses(judge_baseline(compare(here, here), GOAL, small)) == [Status.PASS]
    assert statuses(judge_baseline(compare(here, here), GOAL, found)) == [Status.UNDECIDED]


def test_the_error_holds_95_of_100_differences() -> None:
    """A shift of each run, as machines have: further pairs of runs are within it as often."""
    rng = np.random.default_rng(5)

    def shifted(number: int) -> Run:
        return on(run(rng.lognormal(0, 0.1), trials=8, seed=number), number, f"run{number}")

    found = portability([shifted(number) for number in range(12)])
    fresh = [shifted(number) for number in range(100, 160)]
    logs = [
        compare(one, other).differences[0].verdict.ratio.log
        for one, other in zip(fresh[::2], fresh[1::2], strict=True)
    ]
    held = sum(abs(value) <= found.error for value in logs)
    assert (found.differences, found.machines) == (66, 12)
    assert 25 <= held <= 30
    with pytest.raises(InputError, match="two different runs"):
        portability([run(1.0), run(1.0)])
    bare = [on(run(1.0, yardstick=False), 1, name) for name in "ab"]
    with pytest.raises(InputError, match="no yardstick"):
        portability(bare)


def test_times_of_different_machines_are_never_compared() -> None:
    here, there = (on(run(speed, yardstick=False), 2 * speed, "r") for speed in (1, 4))  # type: ignore[arg-type]
    comparison = compare(there, here)
    (difference,) = comparison.differences
    assert difference.verdict.sign == "??"
    (result,) = judge_baseline(comparison, GOAL)
    assert (result.status, result.seen) == (
        Status.UNDECIDED,
        "on another machine, and not both runs have a yardstick",
    )


def test_the_error_is_kept_with_the_baseline(tmp_path: Path) -> None:
    base = stored(tmp_path / "base", on(run(1.0), 2, "base"))
    other = stored(tmp_path / "other", on(run(1.01, seed=2), 4, "other"))
    new = stored(tmp_path / "new", on(run(1.0, seed=3), 8, "new"))
    done = gate(new, "--baseline", base, "--portability", other, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = (tmp_path / "base" / "portability.json").read_bytes()
    done = gate(new, "--baseline", base, "--update-baseline", "--markdown", "m.md", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "between 2 runs of the same code on 2 machines" in (tmp_path / "m.md").read_text()
    assert (tmp_path / "base" / "portability.json").read_bytes() == kept
    (tmp_path / "base" / "portability.json").write_text("{}")
    done = gate(new, "--baseline", base, cwd=tmp_path)
    assert (done.returncode, "measure it again with --portability" in done.stderr) == (2, True)
    assert gate(new, "--portability", other, cwd=tmp_path).returncode == 2


# --- rules --------------------------------------------------------------------------------------


def test_rules_are_read(tmp_path: Path) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(
        '[gate]\nmax_slowdown = "7%"\n[[gate.rule]]\nmetric = "p95_s"\nbelow = 0.5\n'
        'table = "sleep"\n'
    )
    found = read_rules(path)
    assert found.max_slowdown == pytest.approx(0.07)
    assert found.rules[0].name == "p95_s < 0.5 (table sleep)"
    path.write_text("[tool.batchbench.gate]\nmax_slowdown = 0.2\n")
    assert read_rules(path).max_slowdown == 0.2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gate", "not TOML"),
        ("[other]\na = 1\n", "has no .gate."),
        ("gate = 3\n", "not int"),
        ("[gate]\nfaster = 1\n", "no 'faster'"),
        ("[gate]\nmax_slowdown = 'much'\n", "max_slowdown is a share"),
        ("[[gate.rule]]\nmetric = 'speed'\nabove = 1\n", "rule 1: metric 'speed' is unknown"),
        ("[[gate.rule]]\nmetric = 'p95_s'\n", "rule 1: give one number"),
        ("[[gate.rule]]\nmetric = 'p95_s'\nabove = 1\nbelow = 2\n", "rule 1: give one number"),
        ("[[gate.rule]]\nmetric = 'p95_s'\nabove = 1\ncolour = 2\n", "rule 1: there is no"),
    ],
)
def test_a_broken_rule_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "gates.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_rules(path)


# --- outputs ------------------------------------------------------------------------------------

THREE = [
    Result("a < 1", "t | copy <b>", Status.PASS, "0.5"),
    Result("b < 1", "x", Status.FAIL, "2"),
    Result("c < 1", "y", Status.UNDECIDED, "not measured"),
]


def test_junit_and_markdown() -> None:
    suite = ElementTree.fromstring(junit(THREE))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")
    assert [case.find("failure") is not None for case in suite] == [False, True, False]
    text = markdown(THREE)
    assert text.startswith("### batchbench gate: failed")
    assert "t \\| copy &lt;b>" in text
    assert text.index("| ✗") < text.index("| ??") < text.index("| ✓")


# --- as a command -------------------------------------------------------------------------------


def gate(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchbench", "gate", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=child_environment({"PYTHONPATH": str(ROOT), **environment}),
    )


def report_lines(run: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "batchbench", "report", run, "-o", "report.html"],
        capture_output=True,
        text=True,
        cwd=folder,
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_gate_as_a_command(tmp_path: Path) -> None:
    good, slow = stored(tmp_path / "good", run(1.0)), stored(tmp_path / "slow", run(0.6, seed=2))
    summary = tmp_path / "summary.md"
    done = gate(
        *(good, "--junit", "j.xml", "--markdown", "m.md"),
        cwd=tmp_path,
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert done.returncode == 0, done.stderr
    assert summary.read_text() == (tmp_path / "m.md").read_text()
    ElementTree.parse(tmp_path / "j.xml")
    # The same three first lines as the report has; its own gates are not configured here.
    plain, marked = done.stdout.splitlines()[:3], (tmp_path / "m.md").read_text()
    for line, told in zip(plain, report_lines(good, tmp_path), strict=True):
        assert line.startswith(told.rstrip("."))
        assert f"**{line[5:].partition('?')[0]}?**" in marked
    assert "; gates passed (2 of 2)" in plain[0]
    base = str(tmp_path / "base")
    first = gate(good, "--baseline", base, "--update-baseline", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    done = gate(slow, "--baseline", base, "--update-baseline", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["exit_code"] == 1
    assert "stays as it is" in done.stderr
    kept = (tmp_path / "base" / "trials.ndjson").read_bytes()
    assert kept == (tmp_path / "good" / "trials.ndjson").read_bytes()
    assert gate("nothing", cwd=tmp_path).returncode == 2
    assert gate(cwd=tmp_path).returncode == 2


def test_too_few_rounds_against_a_ref_tell_nothing(dsn18: str, tmp_path: Path) -> None:
    """The revision that is checked out, against the tree as it is; needs the repository."""
    if subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True).returncode:
        pytest.skip("not a git checkout, so there is no revision to measure")
    words = ("--rounds", "1", "--budget", "1s", "--dsn", dsn18)
    done = gate("--against-ref", "HEAD", *words, cwd=ROOT)
    assert done.returncode == 5, done.stderr
    assert "too few for an interval" in done.stdout
    assert done.stdout.startswith("[??] Did it pass? Gates cannot tell (1 of 1).\n")
    assert "[??] Can it be trusted? Too few rounds to tell anything." in done.stdout
    listed = subprocess.run(
        ["git", "-C", ROOT, "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert "batchbench_ref_" not in listed.stdout


def test_refs_that_cannot_be_measured(dsn18: str, tmp_path: Path) -> None:
    done = gate("--against-ref", "HEAD", "--dsn", dsn18, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "empty"]):
        subprocess.run([*git, *words], check=True)
    done = gate("--against-ref", "HEAD", "--dsn", dsn18, cwd=tmp_path)
    assert (done.returncode, "has no batchbench" in done.stderr) == (2, True)
    done = gate("--against-ref", "nowhere", "--dsn", dsn18, cwd=tmp_path)
    assert (done.returncode, "nowhere" in done.stderr) == (2, True), done.stderr


def repository(folder: Path, dependencies: list[str]) -> Path:
    """With a batchbench in it that cannot sweep."""
    (folder / "batchbench").mkdir(parents=True)
    for name in ("__init__.py", "__main__.py"):
        (folder / "batchbench" / name).touch()
    project = f'[project]\nname = "batchbench"\ndependencies = {json.dumps(dependencies)}\n'
    (folder / "pyproject.toml").write_text(project)
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    return folder


def test_a_ref_that_cannot_sweep_is_one_sentence(dsn18: str, tmp_path: Path) -> None:
    folder = repository(tmp_path / "r", ["x"])
    done = gate("--against-ref", "HEAD", "--dsn", dsn18, cwd=folder, PYTHONSAFEPATH="1")
    assert done.returncode == 2
    said = r"error: revision (HEAD|this tree) cannot be measured: \w+Error: "
    assert re.match(said, done.stderr), done.stderr
    assert done.stderr.count("\n") == 1


def test_packages_of_a_ref_are_kept_for_the_next_time(tmp_path: Path) -> None:
    """The tree needs a package more than the ref; neither needs the network."""
    folder = repository(tmp_path / "r", [])
    project = folder / "pyproject.toml"
    project.write_text(project.read_text().replace("[]", '["x"]'))
    pythons = []
    for _ in range(2):
        with revisions("HEAD", folder) as (old, new):
            pythons.append((old.python, old.python.stat(follow_symlinks=False).st_mtime_ns))
            assert new.python == Path(sys.executable)
    assert pythons[0] == pythons[1]
    assert pythons[0][0].is_relative_to(folder / ".git")


class Scripted:
    """A sweep of one revision: its loads in their order, and whose turn it was."""

    def __init__(self, name: str, rows_per_s: float, names: str, turns: list[str]) -> None:
        self.name, self.turns = name, turns
        self.loads = iter([("yardstick", "y"), *(("trial", name) for name in names)])
        self.rows_per_s = rows_per_s

    async def turn(self) -> Mapping[str, object] | None:
        self.turns.append(self.name)
        kind, name = next(self.loads, (None, None))
        return kind and {"kind": kind, "name": name, "rows_per_s": self.rows_per_s}


@pytest.mark.parametrize("until_s", [0.0, float("inf")])
async def test_revisions_take_turns_and_are_paired_by_name(until_s: float) -> None:
    """To the end of the time, in whole blocks of four, or of the sweeps."""
    turns: list[str] = []
    old, new = Scripted("old", 100.0, "abcddcba", turns), Scripted("new", 80.0, "badcabcd", turns)
    pairs = await in_turn((old, new), until_s)  # type: ignore[arg-type]
    assert [log for _, log in pairs] == [pytest.approx(np.log(0.8))] * (8 if until_s else 4)
    assert sorted(name for name, _ in pairs[:4]) == list("abcd")
    assert turns[:6] == ["old", "new", "new", "old", "old", "new"]


@pytest.mark.parametrize(("true_ratio", "wanted"), [(1.0, Status.PASS), (0.845, Status.FAIL)])
def test_our_own_bound_tells_both_trees_apart(true_ratio: float, wanted: Status) -> None:
    """Ten rounds of 45 pairs, whose processes differ by 3 % and whose pairs by 15 %."""
    bound = read_rules(ROOT / "pyproject.toml").max_slowdown
    rng, right = np.random.default_rng(8), 0
    rounds = np.repeat(np.arange(ROUNDS), 45)
    for _ in range(200):
        luck = rng.normal(0, 0.03, ROUNDS)[rounds] + rng.normal(0, 0.15, len(rounds))
        logs = (np.log(true_ratio) + luck).tolist()
        pairs = [Pair(int(n), "copy", log) for n, log in zip(rounds, logs, strict=True)]
        right += judge_pairs("", pairs, bound)[0].status is wanted
    assert right >= 198


# --- its evidence -------------------------------------------------------------------------------


def test_the_slowdown_still_fits_the_engine() -> None:
    """The patch that `make evidence-gate` slows the engine by."""
    git = ["git", "-C", str(ROOT), "apply", "--check", str(slowdown.PATCH)]
    done = subprocess.run(git, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_evidence_goes_on_where_it_ended(tmp_path: Path) -> None:
    figures = {"seconds": 1.0, "busy": 0.5, "ratio": 1.0, "low": 0.9, "high": 1.1, "seen": "1.0"}
    made = [
        slowdown.Verdict(source=of, case=case.name, at="now", exit_code=case.wanted, **figures)  # type: ignore[arg-type]
        for of, case in (
            ("this", slowdown.TOO_FEW),
            ("this", slowdown.UNCHANGED),
            ("older", slowdown.SLOWED),
        )
    ]
    state = tmp_path / "state.ndjson"
    state.write_text("".join(json.dumps(asdict(verdict)) + "\n" for verdict in made))
    kept = slowdown.read_state(state, "this")
    assert kept == made[:2]
    left = [case.name for case in slowdown.todo(2, kept)]
    assert left == [slowdown.SLOWED.name, slowdown.UNCHANGED.name, slowdown.SLOWED.name]
    assert "| unchanged | 1 | 0 | 1 | - |" in slowdown.text(kept, "this")
