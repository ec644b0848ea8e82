"""Runs against each other, as frames and as lists."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from batchbench.compare import compare
from batchbench.errors import ConfigError, InputError
from batchbench.results import Run, TrialRecord, load, load_many, load_run, open_run
from batchbench.results.frame import export, frame
from batchbench.stats import Finding
from batchbench.stats.unpaired import unpaired_ratio

SAMPLE = Path(__file__).parent / "samples" / "run-v1"
STORED = load_run(SAMPLE)
TRIAL = next(record for record in STORED.trials)


def run(
    speed: float, machine: float = 1.0, *, trials: int = 30, seed: int = 1, yardstick: bool = True
) -> Run:
    """A run whose one configuration is `speed` times the usual, on a machine `machine` times."""
    rng = np.random.default_rng(seed)
    records: list[TrialRecord] = []
    for block in range(1, trials + 1):
        now = machine * rng.lognormal(0, 0.1)
        rows_per_s = 1e5 * speed * now * rng.lognormal(0, 0.05)
        of = {"block": block, "epoch": 1 + block % 3}
        records.append(
            replace(TRIAL, trial_id=f"t{block}", rows_per_s=rows_per_s, **of)  # type: ignore[arg-type]
        )
        if yardstick:
            own = {"kind": "yardstick", "strategy": "yardstick", "rows_per_s": 3e5 * now}
            records.append(replace(TRIAL, trial_id=f"y{block}", **of, **own))  # type: ignore[arg-type]
    return replace(STORED, records=tuple(records))


@pytest.mark.parametrize(("speed", "finding"), [(0.7, Finding.DIFFERENT), (1.4, Finding.DIFFERENT)])
def test_a_difference_is_found(speed: float, finding: Finding) -> None:
    comparison = compare(run(1.0), run(speed, seed=2))
    (difference,) = comparison.differences
    assert difference.verdict.finding is finding
    assert difference.verdict.ratio.estimate == pytest.approx(speed, rel=0.1)
    assert comparison.mean is not None
    assert comparison.mean.ratio.estimate == pytest.approx(difference.verdict.ratio.estimate)


def test_the_yardstick_takes_the_machine_out() -> None:
    comparison = compare(run(1.0), run(1.0, machine=0.5, seed=2))
    assert comparison.by_yardstick
    assert comparison.differences[0].verdict.ratio.estimate == pytest.approx(1, rel=0.05)
    without = compare(run(1.0), run(1.0, machine=0.5, seed=2, yardstick=False))
    assert not without.by_yardstick
    assert without.differences[0].verdict.ratio.estimate == pytest.approx(0.5, rel=0.1)


def test_few_trials_tell_nothing() -> None:
    comparison = compare(run(1.0, trials=3), run(0.5, trials=3))
    assert comparison.differences[0].verdict.finding is Finding.UNDECIDED


def test_nothing_in_common_is_said() -> None:
    other = run(1.0)
    renamed = tuple(replace(record, table="other") for record in other.records)
    with pytest.raises(InputError, match="no configuration in common"):
        compare(run(1.0), replace(other, records=renamed))


def test_other_machines_are_remarked() -> None:
    other = run(1.0)
    moved = replace(other.info, environment=replace(other.info.environment, cpu_count=999))
    comparison = compare(run(1.0), replace(other, info=moved))
    assert comparison.remarks == ("the two ran on different machines, or with different packages",)


def test_intervals_of_two_runs_hold_the_truth() -> None:
    rng, held = np.random.default_rng(5), 0
    for _ in range(300):
        one, other = rng.lognormal(0.2, 0.1, 20), rng.lognormal(0, 0.2, 15)
        ratio = unpaired_ratio(one, other)
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= np.exp(0.2) <= ratio.high
    assert 0.91 <= held / 300 <= 0.99


def six_alike(made: Run) -> Run:
    """As if six configurations had run: the same trials under six chunk sizes."""
    copies = [
        replace(record, chunk_size=size, trial_id=f"{record.trial_id}_{size}")
        for record in made.trials
        for size in range(1, 7)
    ]
    return replace(made, records=(*copies, *made.yardsticks))


def test_the_mean_claims_nothing_of_nothing() -> None:
    """Configurations that share blocks and yardstick are not independent of each other."""
    claims = 0
    for seed in range(60):
        one, other = (six_alike(run(1.0, trials=12, seed=s)) for s in (seed, seed + 1_000))
        mean = compare(one, other).mean
        assert mean is not None
        claims += mean.finding is Finding.DIFFERENT
    assert claims <= 6


def test_round_trips_are_told_apart() -> None:
    """What is lost far away is not lost in what is near, nor in a mean of both."""

    def both(far: float, seed: int) -> Run:
        near, distant = run(1.0, seed=seed), run(far, seed=seed + 1)
        moved = [replace(r, rtt_ms=5.0, trial_id=f"far{r.trial_id}") for r in distant.trials]
        return replace(near, records=(*near.records, *moved))

    comparison = compare(both(0.1, 1), both(0.05, 3))
    assert [difference.key.rtt_ms for difference in comparison.differences] == [5.0, 0.0]
    slower, same = (difference.verdict.ratio.estimate for difference in comparison.differences)
    assert (slower, same) == (pytest.approx(0.5, rel=0.1), pytest.approx(1, rel=0.1))
    assert comparison.differences[0].name.endswith(" +5 ms")
    only_near = replace(STORED, records=run(1.0).records)
    assert compare(both(0.1, 1), only_near).missing == (comparison.differences[0].name,)


def test_trials_of_a_block_without_its_yardstick_are_left_out() -> None:
    """As after a sweep that was stopped in the middle of a block."""
    whole = run(1.0)
    cut = replace(whole, records=tuple(r for r in whole.records if r.trial_id != "y30"))
    (difference,) = compare(cut, run(1.0, seed=2)).differences
    assert difference.verdict.ratio.pairs == 29


# --- frames -------------------------------------------------------------------------------------


def test_a_frame_is_typed() -> None:
    table = load(SAMPLE)
    assert len(table) == len(STORED.records)
    assert str(table.dtypes["strategy"]) == "category"
    assert str(table.dtypes["rows_per_s"]) == "float64"
    assert str(table.dtypes["chunk_size"]) == "Int64"
    assert table["p95_s"].notna().all()
    assert set(table["run_id"]) == {STORED.info.run_id}
    assert len(load_many([SAMPLE, SAMPLE])) == 2 * len(table)
    with pytest.raises(ConfigError, match="no run"):
        load_many([])


def test_a_failed_trial_has_no_figures() -> None:
    failed = replace(TRIAL, status="failed", rows_per_s=None, seconds=None, chunk_rows=None)
    table = frame(replace(STORED, records=(failed, TRIAL)))
    assert table["rows_per_s"].isna().tolist() == [True, False]
    assert table["chunk_rows"].isna().tolist() == [True, False]


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_exports_are_read_again(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"trials.{form}"
    export(STORED, path, form)
    back = pd.read_parquet(path) if form == "parquet" else pd.read_csv(path)
    assert back["rows_per_s"].tolist() == load(SAMPLE)["rows_per_s"].tolist()
    with pytest.raises(ConfigError, match="known: csv, parquet"):
        export(STORED, path, "xml")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(STORED, tmp_path / "no" / "file", "csv")


# --- the command line ---------------------------------------------------------------------------


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchbench", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={"PYTHONPATH": str(Path(__file__).parents[1]), "PATH": "/usr/bin:/bin"},
    )


def stored(folder: Path, made: Run) -> str:
    with open_run(folder, replace(made.info, schema_version=2)) as writer:
        for record in made.records:
            writer.append(record)
    return str(folder)


def test_compare_as_a_command(tmp_path: Path) -> None:
    one, slow = stored(tmp_path / "a", run(1.0)), stored(tmp_path / "b", run(0.7, seed=2))
    few = stored(tmp_path / "c", run(1.0, trials=3))
    done = command("compare", one, slow, "--fail-above", "5%", "--json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["configurations"][0]["finding"] == "different"
    done = command("compare", one, one, cwd=tmp_path)
    assert done.returncode == 5, "that two are within 2 % needs more trials"
    assert "1.000" in done.stdout
    assert re.search(r"cannot tell: no difference under \d+% would have been seen", done.stdout)
    assert command("compare", one, slow, cwd=tmp_path).returncode == 0
    done = command("compare", one, few, cwd=tmp_path)
    assert done.returncode == 5
    assert "cannot tell: 3 trials of a configuration, 6 are the least" in done.stdout
    done = command("compare", one, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "two runs" in done.stderr
    done = command("runs", str(tmp_path), "--json", cwd=tmp_path)
    assert {entry["trials"] for entry in json.loads(done.stdout)} == {30, 3}
    done = command("export", one, "-o", "x.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert command("export", one, "-o", "x.csv", cwd=tmp_path).returncode == 2
    done = command("export", one, "-o", "x.parquet", cwd=tmp_path)
    assert done.returncode == 0, "counts that were not measured too: " + done.stderr
