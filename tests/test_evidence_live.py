"""The evidence of live sweeps: the names, what counts as a claim, and that runs go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from batchbench.results import Run, TrialRecord
from batchbench.stats import judge, ratio_of_logs
from batchbench.strategies import find_strategy
from benchmarks import injected
from benchmarks.injected import CopySlowed, install
from benchmarks.kept import Bench, surroundings
from benchmarks.live import SAME, SLOWER, Kind, Seen, holds, plan_of, report, truth_plan, verdict_of


@pytest.fixture
def names(tmp_path: Path) -> Iterator[None]:
    """The injected strategies, known to this process and those that it starts."""
    before = list(sys.path)
    install(tmp_path / "names")
    yield
    sys.path[:] = before


def seen(kind: Kind, log: float, noise: float = 0.05) -> Seen:
    logs = [log + noise * (-1) ** n for n in range(40)]
    return Seen(kind, 1, judge(ratio_of_logs(logs)), 80.0)


def test_a_claim_is_a_verdict_of_a_difference_and_names_the_slower_one() -> None:
    assert not seen(SAME, 0.0).claimed
    assert seen(SAME, 0.2).claimed
    assert seen(SAME, -0.2).claimed
    assert seen(SLOWER, -0.2).claimed
    assert not seen(SLOWER, 0.2).claimed, "that it is faster is not found, but wrong"
    assert holds([seen(SAME, 0.2)] * 2 + [seen(SLOWER, 0.0)] * 4)
    assert not holds([seen(SAME, 0.2)] * 3)
    assert not holds([seen(SLOWER, 0.0)] * 5)


def test_the_report_counts_what_must_be_shown() -> None:
    truth = judge(ratio_of_logs([-0.1] * 320))
    text = "\n".join(report(truth, [seen(SAME, 0.0), seen(SLOWER, -0.2), seen(SLOWER, 0.0)]))
    assert "0.905" in text
    assert "from 320 pairs" in text
    assert "0 of 1 sweeps claim" in text
    assert "1 of 2 sweeps find" in text
    assert "took 80 s at most" in text


def test_the_same_twice_and_one_that_is_held_up(names: None) -> None:
    assert truth_plan(320).repeats == 320
    for kind in (SAME, SLOWER):
        for configuration in plan_of(kind, 1, 90.0).configurations:
            assert find_strategy(configuration.strategy).name == configuration.strategy


def test_the_slowed_one_is_the_slower_in_its_own_sweep_which_goes_on(
    names: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk of the slowed one takes longer: of its own time, however slow the machine is."""
    told: list[str] = []
    bench = Bench(tmp_path / "runs", "tests", told.append)
    plan = replace(plan_of(SLOWER, 1, 90.0), rows=2_000, repeats=2, epochs=1, budget_s=None)
    run = bench.run(plan, "ab")
    assert {record.strategy for record in run.trials} == {"copy-one", CopySlowed.name}
    assert all(record.usable for record in run.trials)
    assert verdict_of(run, SLOWER).ratio.pairs == 2
    # broken off after its first block: what is there stays, what is missing is run
    (tmp_path / "runs" / "ab" / "ended.json").unlink()
    kept = first_block(run)
    again = Bench(tmp_path / "runs", "tests", told.append).run(plan, "ab")
    ids = [record.trial_id for record in again.records if record.kind != "warmup"]
    assert len(set(ids)) == len(ids) == 6
    assert again.records[: len(kept)] == tuple(kept)
    assert len(again.info.resumed) == 1
    ended = json.loads((tmp_path / "runs" / "ab" / "ended.json").read_text())
    assert ended.keys() == {"cores_busy", "load"}
    monkeypatch.setattr(Bench, "_measure", None)
    bench.run(plan, "ab")  # ended: it is read
    assert len(told) == 2
    assert "2 runs from" in list(surroundings(bench.kept))[1]


def first_block(run: Run) -> list[TrialRecord]:
    """Cut the stored run down to it."""
    path = run.folder / "trials.ndjson"
    kept = [record for record in run.records if record.block <= 1]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[: len(kept)]))
    return kept


async def test_a_chunk_is_held_up_by_a_share_of_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = iter([10.0, 12.0, 12.1, 12.5, 99.0])
    monkeypatch.setattr(injected.time, "perf_counter", lambda: next(clock))

    async def written(*_: object, **__: object) -> str:
        return "written"

    monkeypatch.setattr(injected.CopyPlan, "write", written)
    monkeypatch.setattr(injected, "SLOWED", 0.2)
    plan = injected.SlowedCopyPlan(None)  # type: ignore[arg-type]
    assert await plan.write(None, None, full=True, alone=True) == "written"  # type: ignore[arg-type]
    assert next(clock) == 99.0, "until 12.4: a fifth of two seconds"
