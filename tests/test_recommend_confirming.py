"""A recommendation is confirmed by fresh trials only, and says what is missing where it is not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchbench.config import child_environment
from batchbench.errors import ConfigError, InputError
from batchbench.recommend import Claim, env_text, judge_claims, ranking, recommend
from batchbench.recommend.confirming import Finalist, finalist_of
from batchbench.report import build_report
from batchbench.results import Constraints, Run, load_run
from tests.test_recommend import copying, run_of

Key = tuple[str, str, str, int, int]
SMALL, LARGE, SLOW = copying(500), copying(900), copying(100)
UNNEST = ("sleep", "unnest", "asyncpg", 500, 1)


def fresh(
    speeds: Mapping[Key, Sequence[float | None]], *, epochs: int = 6, name: str = "fresh"
) -> Run:
    """A confirmation whose blocks are spread over the epochs."""
    run = run_of(speeds)
    blocks = max(len(one) for one in speeds.values())
    records = tuple(
        replace(one, epoch=1 + (one.block - 1) * epochs // blocks) for one in run.records
    )
    return replace(run, info=replace(run.info, run_id=name, confirms="x"), records=records)


def swept(*fresh_runs: Run, **more: Sequence[float]) -> Run:
    """Recommends SMALL: LARGE is 2 % faster, UNNEST is near, SLOW is not."""
    run = run_of(
        {
            SMALL: [98_000] * 3,
            LARGE: [100_000] * 3,
            UNNEST: [90_000] * 3,
            SLOW: [50_000] * 3,
        }
    )
    return replace(run, confirmations=fresh_runs)


def noisy(ratio: float, *, blocks: int = 24, seed: int = 1, sd: float = 0.05) -> Run:
    """SMALL runs at this ratio of LARGE; UNNEST is slower."""
    rng = np.random.default_rng(seed)
    noise = rng.lognormal(0, sd / np.sqrt(2), (3, blocks))
    levels = {SMALL: ratio * 100_000, LARGE: 100_000, UNNEST: 80_000}
    speeds = {
        key: (level * one).tolist() for (key, level), one in zip(levels.items(), noise, strict=True)
    }
    return fresh(speeds)


def test_all_within_reach_is_measured_again() -> None:
    advice = recommend(swept())
    assert [one.chunk_rows for one in advice.finalists] == [500, 900, 500]
    assert advice.provisional
    assert "no fresh run" in advice.doubt
    assert "estimate: 98,000" in advice.reasons["BATCH_SLEEP_CHUNK_SIZE"]


def test_the_next_best_are_measured_again_even_out_of_reach() -> None:
    """Few trials may have put them there."""
    run = run_of({SMALL: [100_000], LARGE: [60_000], SLOW: [50_000], UNNEST: [40_000]})
    assert [one.chunk_rows for one in recommend(run).finalists] == [500, 900, 100]


def test_fresh_trials_confirm_and_give_the_figures() -> None:
    advice = recommend(swept(noisy(1.0)))
    (verdict,) = advice.verdicts
    assert verdict.confirmed
    assert not advice.provisional
    assert verdict.bound is not None
    assert 0.95 <= verdict.bound < 1
    assert "chunks of 900" in verdict.against
    reason = advice.reasons["BATCH_SLEEP_CHUNK_SIZE"]
    assert "fresh run fresh" in reason
    assert "98,000" not in reason
    text = env_text(advice)
    assert "provisional" not in text
    assert "confirmed" in text


def test_few_pairs_leave_it_provisional_and_say_how_many_would_decide() -> None:
    advice = recommend(swept(noisy(0.99, blocks=12, sd=0.15)))
    (verdict,) = advice.verdicts
    assert not verdict.confirmed
    assert verdict.more_pairs is not None
    assert verdict.more_pairs > 0
    assert f"about {verdict.more_pairs} more pairs" in advice.doubt
    assert "min" in advice.doubt
    noisier = recommend(swept(noisy(0.99, blocks=12, sd=0.3)))
    assert (noisier.verdicts[0].more_pairs or 0) > verdict.more_pairs


def test_what_was_lucky_is_refuted() -> None:
    advice = recommend(swept(noisy(0.9)))
    assert advice.provisional
    assert advice.verdicts[0].more_pairs is None
    assert "recommend from the fresh run instead" in advice.doubt


@pytest.mark.parametrize(("blocks", "says"), [(1, "only 1 pair"), (5, "only 5 pairs")])
def test_under_six_pairs_nothing_is_said(blocks: int, says: str) -> None:
    assert says in recommend(swept(noisy(1.0, blocks=blocks))).doubt


def test_a_choice_that_fails_is_not_confirmed_and_a_rival_that_fails_is_none() -> None:
    good, bad = [100_000.0] * 12, [100_000.0] * 11 + [None]
    failed = recommend(swept(fresh({SMALL: bad, LARGE: good, UNNEST: good})))
    assert "the choice failed in the fresh run (the server refused)" in failed.doubt
    alone = recommend(swept(fresh({SMALL: good, LARGE: bad, UNNEST: [150_000.0, *bad[1:]]})))
    assert alone.verdicts[0].confirmed
    assert "nothing else could be compared" in alone.verdicts[0].sentence


def test_a_run_of_another_choice_does_not_count() -> None:
    other = fresh({SMALL: [100_000.0] * 12, SLOW: [1.0] * 12})
    assert "made for another choice" in recommend(swept(other)).doubt
    assert "no fresh run" in recommend(swept(fresh({SLOW: [1.0] * 12}))).doubt


def test_each_further_run_is_a_look_with_half_the_error() -> None:
    one, two = noisy(1.0, seed=2), noisy(1.0, seed=3)
    once, twice = recommend(swept(one)).verdicts[0], recommend(swept(one, two)).verdicts[0]
    assert (once.pairs, twice.pairs) == (24, 48)
    assert (once.confidence, twice.confidence) == (0.95, 0.975)


def test_chunks_are_claimed_by_table_and_ways_over_all_tables() -> None:
    def both(key: Key, sleep: float, activity: float, blocks: int) -> dict[Key, list[float]]:
        return {key: [sleep] * blocks, ("activity", *key[1:]): [activity] * blocks}

    def speeds(blocks: int) -> dict[Key, list[float]]:
        return {
            **both(SMALL, 98_000, 100_000, blocks),
            **both(LARGE, 100_000, 99_000, blocks),
            **both(UNNEST, 100_500, 92_000, blocks),  # better on one table, worse on both together
        }

    advice = recommend(replace(run_of(speeds(3)), confirmations=(fresh(speeds(12)),)))
    assert [verdict.claim.subject for verdict in advice.verdicts] == [
        *("sleep", "activity", "all tables")
    ]
    assert len(advice.finalists) == 6
    assert not advice.provisional
    overall = advice.verdicts[2]
    assert overall.ratio is not None
    assert overall.ratio.estimate == pytest.approx((98 * 100 / (100.5 * 92)) ** 0.5)
    assert overall.against == "unnest over asyncpg, 1 writer"


def test_at_the_limit_one_in_twenty_is_confirmed_and_a_good_choice_mostly() -> None:
    """Six epochs that differ by 3.5 %, pairs by 12 %; at the limit of 0.95, and at 1.02."""
    finalists = [finalist_of(row) for row in ranking(run_of({SMALL: [1.0], LARGE: [1.0]}))]
    own = next(one for one in finalists if one.chunk_rows == 500)
    claim = Claim("sleep", (own,), (tuple(one for one in finalists if one != own),))
    base = run_of({SMALL: [1.0] * 60, LARGE: [1.0] * 60})
    rng = np.random.default_rng(5)

    def confirmed(ratio: float) -> bool:
        epochs = rng.normal(0, 0.035, 6)
        logs = np.log(ratio) + np.repeat(epochs, 10) + rng.normal(0, 0.12, 60)
        records = tuple(
            replace(
                one,
                epoch=1 + (one.block - 1) // 10,
                rows_per_s=1e5 * float(np.exp(logs[one.block - 1])) if one.chunk_size == 500
                else 1e5,
            )
            for one in base.records
        )  # fmt: skip
        return judge_claims([claim], [replace(base, records=records)])[0].confirmed

    count = 300
    assert sum(confirmed(0.95) for _ in range(count)) <= 0.05 * count + 3 * (0.0475 * count) ** 0.5
    assert sum(confirmed(1.02) for _ in range(count)) >= 0.75 * count


def test_finalists_are_named_in_words() -> None:
    row = ranking(swept())[0]
    assert str(finalist_of(row)) == "sleep, copy over psycopg, 1 writer, chunks of 900"
    assert isinstance(finalist_of(row), Finalist)


# --- constraints ----------------------------------------------------------------------------------


def test_what_breaks_a_constraint_is_never_recommended_and_sets_no_measure() -> None:
    run = swept()
    heavy = tuple(
        replace(one, peak_rss_mb=300.0) if one.chunk_size == 900 else one for one in run.records
    )
    run = replace(run, records=heavy)
    advice = recommend(run, Constraints(max_memory_mb=200))
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "500"
    assert advice.chosen[0].ratio == 1.0
    assert any("peak memory 300 of at most 200 MB" in remark for remark in advice.remarks)
    assert all(one.chunk_rows != 900 for one in advice.finalists)
    with pytest.raises(InputError, match="no configuration of run keeps to the constraints"):
        recommend(run, Constraints(max_memory_mb=1))


def test_a_search_is_judged_by_the_constraints_that_it_had_in_the_report_too() -> None:
    run = swept()
    heavy = tuple(
        replace(one, peak_rss_mb=300.0) if one.chunk_size == 500 else one for one in run.records
    )
    document = {"constraints": {"max_memory_mb": 200, "max_p99_ms": None}}
    plan = {**run.info.plan, "search": document}
    run = replace(run, records=heavy, info=replace(run.info, plan=plan))
    assert recommend(run).values["BATCH_SLEEP_CHUNK_SIZE"] == "900"
    assert "BATCH_SLEEP_CHUNK_SIZE=900" in build_report(run).env
    wider = Constraints(max_memory_mb=400)
    assert recommend(run, wider).values["BATCH_SLEEP_CHUNK_SIZE"] == "500"
    assert "BATCH_SLEEP_CHUNK_SIZE=500" in build_report(run, constraints=wider).env


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"max_p99_ms": 9.0}, "p99 20 of at most 9 ms"),
        ({"max_connections": 1}, "connections 2 of at most 1"),
        ({"max_wal_mb_per_s": 50.0}, "WAL 100 of at most 50 MB/s"),
        ({"max_memory_mb": 50.0}, "peak memory was not measured, and 50 MB is the limit"),
    ],
)
def test_constraints_say_what_was_found(limit: dict[str, float], says: str) -> None:
    (one,) = run_of({copying(500, writers=2): [100_000.0]}).records
    one = replace(
        one,
        peak_rss_mb=None,
        seconds=2.0,
        observed={"wal_bytes": 200e6},
        chunk_seconds=(0.01,) * 90 + (0.02,) * 10,
    )
    assert Constraints(**limit).broken([one]) == says  # type: ignore[arg-type]
    assert Constraints().broken([one]) is None


def test_p99_is_of_all_chunks_together_from_500_on() -> None:
    (one,) = run_of({SMALL: [100_000.0]}).records
    one = replace(one, chunk_seconds=(0.01,) * 99 + (0.5,))
    assert Constraints(max_p99_ms=100).broken([one] * 4) == "p99 500 of at most 100 ms"
    many = [replace(one, chunk_seconds=(0.01,) * 599 + (0.5,))]
    assert Constraints(max_p99_ms=100).broken(many) is None


def test_a_constraint_must_be_above_0() -> None:
    with pytest.raises(ConfigError, match="--max-p99-ms 0: it must be above 0"):
        Constraints(max_p99_ms=0)


# --- on the command line --------------------------------------------------------------------------


def batchbench(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchbench", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
    )


def test_a_sweep_confirms_and_the_run_remembers(dsn18: str, tmp_path: Path) -> None:
    """In a run below the run, under its conditions, that goes on where it stopped."""
    grid = ("--profile", "sleep", "--strategy", "copy", "--chunk-size", "50,100")
    where = ("--dsn", dsn18, "-o", "run", "--rows", "500", "--repeats", "2")
    done = batchbench("sweep", *grid, *where, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    confirming = ("recommend", "run", "--dsn", dsn18, "--confirm", "--budget", "8s")
    done = batchbench(*confirming, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    (confirmation,) = run.confirmations
    assert confirmation.info.confirms == run.info.run_id
    assert confirmation.info.plan["rows"] == 500
    assert {record.chunk_size for record in confirmation.trials} <= {50, 100}
    assert "in the fresh run" in done.stdout

    trials = confirmation.folder / "trials.ndjson"
    lines = trials.read_text().splitlines(keepends=True)
    trials.write_text("".join(lines[:2]))
    batchbench(*confirming, cwd=tmp_path)
    run = load_run(tmp_path / "run")
    assert len(run.confirmations) == 1
    assert len(run.confirmations[0].records) > 2
    assert run.confirmations[0].warnings == ()

    (confirmation.folder / "run.json").write_text("{")
    assert any("confirmation-1" in warning for warning in load_run(tmp_path / "run").warnings)

    other = batchbench("recommend", "run", "--confirm", "--server", "embedded", cwd=tmp_path)
    assert other.returncode == 2
    assert "was measured on a server of kind dsn" in other.stderr
