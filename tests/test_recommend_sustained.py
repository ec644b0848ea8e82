"""Sustained loads stand beside the confirmed figures, and say where they rank otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
from typer.testing import CliRunner

import batchbench.harness.confirming as confirming_plans
from batchbench.harness import Configuration, sustained_plan
from batchbench.harness.plan import SweepPlan
from batchbench.recommend import env_text, recommend
from batchbench.results import Run, load_run
from tests.fixtures.commands import app
from tests.test_recommend import run_of
from tests.test_recommend_confirming import LARGE, SMALL, UNNEST, Key, noisy, swept


def with_sustained(speeds: Mapping[Key, float | None], seconds: tuple[int, ...]) -> Run:
    """SMALL is recommended, and confirmed beside LARGE and UNNEST, which is slower."""
    run = run_of({key: [speed] for key, speed in speeds.items()})
    records = tuple(replace(one, regime="sustained", rows_by_second=seconds) for one in run.records)
    return replace(swept(noisy(1.0)), sustained=(replace(run, records=records),))


def test_the_confirmed_value_has_its_sustained_speed_and_slowest_second_beside_it() -> None:
    run = with_sustained({SMALL: 70_000, LARGE: 69_000, UNNEST: 50_000}, (70_000, 61_000, 900))
    advice = recommend(run)
    reason = advice.reasons["BATCH_SLEEP_CHUNK_SIZE"]
    assert "confirmed, " in reason
    assert "sustained, with VACUUM and CHECKPOINT: 70,000 rows/s, 61,000 in its slowest" in reason
    assert [one.lowest for one in advice.sustained] == [61_000] * 3


def test_one_whole_second_has_no_slowest() -> None:
    run = with_sustained({SMALL: 70_000, LARGE: 69_000}, (70_000, 900))
    assert "slowest second" not in env_text(recommend(run))


def test_another_order_is_said_plainly_with_what_chance_can_do() -> None:
    run = with_sustained({SMALL: 40_000, LARGE: 69_000, UNNEST: 80_000}, ())
    (text,) = recommend(run).orders
    assert text.startswith("sleep: the sustained order differs from the burst order: unnest over")
    assert "the choice comes third of 3 at 0.50 of it" in text
    assert "by chance two may differ by" in text
    assert f"# {text}" in env_text(recommend(run)).splitlines()


def test_the_same_order_and_a_failed_load() -> None:
    tied = with_sustained({SMALL: 1.0, LARGE: 1.0}, ())
    bursts = {one.finalist.chunk_rows: median(one.bursts) for one in recommend(tied).sustained}
    fast, slow = sorted((SMALL, LARGE), key=lambda key: bursts[key[3]], reverse=True)
    run = with_sustained({fast: 70_000, slow: 60_000, UNNEST: 50_000}, ())
    assert recommend(run).orders == ("sleep: sustained loads order the finalists as bursts do",)
    run = with_sustained({SMALL: None, LARGE: 60_000}, ())
    assert "the sustained load failed: the server refused" in env_text(recommend(run))
    assert recommend(run).orders == ()


@pytest.mark.parametrize(("budget_s", "seconds"), [(600.0, 5), (26.0, 3), (1.0, 2)])
def test_loads_are_as_long_as_the_time_allows_but_never_too_short(
    budget_s: float, seconds: int
) -> None:
    speeds = {
        Configuration("sleep", "copy", "psycopg", size, 1): 100_000.0
        for size in (500, 1_000, 2_000)
    }
    plan_of_it = SweepPlan(configurations=tuple(speeds), rows=10_000, filled=7)
    run = replace(swept(), info=replace(swept().info, plan=plan_of_it.document()))
    plan, need_s = sustained_plan(run, speeds, budget_s)
    assert (plan.rows, plan.repeats, plan.regime, plan.filled) == (
        *(seconds * 100_000, 1, "sustained", 7),
    )
    assert (need_s <= budget_s) == (budget_s > 1)


def test_a_confirmation_ends_with_sustained_loads(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are kept in a run below the run; where there is no time for them, it says how much."""
    folder = str(tmp_path / "run")
    grid = ("--profile", "sleep", "--strategy", "copy", "--driver", "psycopg", "--repeats", "1")
    runner = CliRunner()
    begin = (
        "sweep",
        *grid,
        "--chunk-size",
        "50,100",
        "--rows",
        "500",
        "--dsn",
        dsn18,
        "-o",
        folder,
    )
    assert runner.invoke(app, begin).exit_code == 0
    confirming = ("recommend", folder, "--dsn", dsn18, "--confirm", "--json", "--budget", "2s")
    done = runner.invoke(app, confirming)
    assert done.exit_code == 0, done.stderr
    assert "no sustained loads: one of each of 2 configurations takes about" in done.stderr
    assert json.loads(done.stdout)["sustained"] == []

    monkeypatch.setattr(confirming_plans, "_SUSTAINED_S", (0.05,))
    monkeypatch.setattr(confirming_plans, "_SETTLING_S", 0.0)
    monkeypatch.setattr(confirming_plans, "EPOCH_S", 0.0)
    done = runner.invoke(app, confirming)
    assert done.exit_code == 0, done.stderr
    loads = json.loads(done.stdout)["sustained"]
    assert {one["chunk_rows"] for one in loads} == {50, 100}
    assert all(one["rows_per_s"] and one["burst_rows_per_s"] for one in loads)
    (run,) = load_run(tmp_path / "run").sustained
    assert {record.regime for record in run.records} == {"sustained"}
    assert all(sum(record.rows_by_second) == record.rows for record in run.trials)

    trials = run.folder / "trials.ndjson"
    trials.write_text("".join(trials.read_text().splitlines(keepends=True)[:1]))
    done = runner.invoke(app, confirming)
    (run,) = load_run(tmp_path / "run").sustained
    assert len(run.trials) == 2, done.stderr
