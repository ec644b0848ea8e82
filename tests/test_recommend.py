"""Advice from records: by estimate, within blocks, legal, and readable as settings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchbench.config import load_settings
from batchbench.errors import InputError
from batchbench.recommend import Way, env_text, ranking, recommend
from batchbench.results import Run, TrialRecord
from tests.test_results import INFO, record

Speeds = Mapping[tuple[str, str, str, int, int], Sequence[float | None]]
"""Rows a second by block, of table, strategy, driver, chunk size and writers; None: it failed."""


def run_of(speeds: Speeds, *, chunk_rows: Mapping[int, int] | None = None) -> Run:
    trials = []
    for position, (key, blocks) in enumerate(speeds.items(), 1):
        table, strategy, driver, chunk_size, parallelism = key
        for block, rows_per_s in enumerate(blocks, 1):
            if rows_per_s is not None and math.isnan(rows_per_s):
                continue
            made: TrialRecord = replace(
                record(block, position=position),
                trial_id=f"{key}#{block}",
                table=table,
                strategy=strategy,
                driver=driver,
                chunk_size=chunk_size,
                chunk_rows=(chunk_rows or {}).get(chunk_size, chunk_size),
                parallelism=parallelism,
                writers=parallelism,
                rows_per_s=rows_per_s,
                goal_met=rows_per_s is not None,
            )
            if rows_per_s is None:
                made = replace(made, status="failed", reason="the server refused")
            trials.append(made)
    plan = {"configurations": [{"table": key[0]} for key in speeds]}
    return Run(Path("run"), replace(INFO, plan=plan), tuple(trials))


NOT_RUN = float("nan")


def copying(
    chunk_size: int, *, table: str = "sleep", writers: int = 1
) -> tuple[str, str, str, int, int]:
    return (table, "copy", "psycopg", chunk_size, writers)


def test_drift_cancels_within_blocks() -> None:
    """100 wins two blocks of three; the raw medians say 900, since the machine was fast then."""
    run = run_of(
        {
            copying(100): [11_000, 110_000, 50_000],
            copying(900): [10_000, 100_000, 60_000],
        }
    )
    best, other = ranking(run)
    assert (best.chunk_rows, best.rows_per_s) == (100, 50_000)
    assert (other.chunk_rows, other.rows_per_s) == (900, 60_000)
    assert other.ratio == pytest.approx(1 / 1.1)
    assert best.pairs == 3


def test_a_half_done_block_does_not_count() -> None:
    """Block 3 holds only the slow one, at ten times the speed."""
    run = run_of(
        {
            copying(100): [100_000, 100_000, 1_000_000],
            copying(900): [200_000, 200_000, NOT_RUN],
        }
    )
    best, other = ranking(run)
    assert best.chunk_rows == 900
    assert other.ratio == pytest.approx(0.5)
    assert other.pairs == 2


def test_the_smallest_chunk_within_3_percent_wins() -> None:
    run = run_of(
        {
            copying(100): [90_000] * 3,
            copying(500): [97_500] * 3,
            copying(900): [100_000] * 3,
            copying(5000): [99_000] * 3,
        }
    )
    advice = recommend(run)
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "500"
    assert advice.chosen[0].ratio == pytest.approx(0.975)
    assert "97,500" in advice.reasons["BATCH_SLEEP_CHUNK_SIZE"]
    assert "3 trials" in advice.reasons["BATCH_SLEEP_CHUNK_SIZE"]


def test_few_noisy_data_do_not_make_the_smallest_chunk_win() -> None:
    """10 % slower is not significant in 3 trials with this noise, and must still lose."""
    rng = np.random.default_rng(7)
    wins = 0
    for _ in range(200):
        noise = rng.lognormal(0, 0.05, (2, 3))
        run = run_of(
            {
                copying(100): (90_000 * noise[0]).tolist(),
                copying(900): (100_000 * noise[1]).tolist(),
            }
        )
        wins += recommend(run).values["BATCH_SLEEP_CHUNK_SIZE"] == "900"
    assert wins >= 170


def test_one_way_for_all_tables_by_geometric_mean() -> None:
    """Unnest wins one table narrowly, copy the other clearly."""
    run = run_of(
        {
            ("sleep", "unnest", "asyncpg", 500, 1): [100_000] * 6,
            ("sleep", "copy", "psycopg", 500, 1): [95_000] * 6,
            ("activity", "unnest", "asyncpg", 500, 1): [50_000] * 6,
            ("activity", "copy", "psycopg", 500, 1): [100_000] * 6,
        }
    )
    advice = recommend(run)
    assert advice.values["BATCH_STRATEGY"] == "copy"
    assert advice.values["BATCH_DRIVER"] == "psycopg"
    assert list(advice.values)[-2:] == ["BATCH_SLEEP_CHUNK_SIZE", "BATCH_ACTIVITY_CHUNK_SIZE"]
    assert [row.ratio for row in advice.chosen] == [pytest.approx(0.95), pytest.approx(1.0)]


@pytest.mark.parametrize(
    ("two_writers", "parallelism", "enable"),
    [(102_000.0, "1", "false"), (130_000.0, "2", "true")],
)
def test_the_fewest_writers_within_3_percent(
    two_writers: float, parallelism: str, enable: str
) -> None:
    run = run_of(
        {
            copying(500): [100_000] * 3,
            copying(500, writers=2): [two_writers] * 3,
        }
    )
    values = recommend(run).values
    assert values["BATCH_PARALLELISM"] == parallelism
    assert values["BATCH_ENABLE_PARALLEL"] == enable


def test_failed_and_unverified_configurations_are_out_and_named() -> None:
    run = run_of(
        {
            copying(100): [50_000] * 2,
            copying(500): [900_000, None],
            copying(900): [800_000] * 2,
        }
    )
    lost = replace(run.records[-1], rows_verified=99)
    run = replace(run, records=(*run.records[:-1], lost))
    advice = recommend(run)
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "100"
    assert [row.ratio for row in ranking(run)] == [1.0, None, None]
    assert any("chunks of 500: 1 of 2 trials failed" in remark for remark in advice.remarks)
    assert any("chunks of 900" in remark for remark in advice.remarks)


def test_a_chunk_that_was_split_is_recommended_as_it_was_used() -> None:
    """8,000 and 10,000 were both cut to 5,461: one configuration, and a legal value."""
    run = run_of(
        {
            ("heart_rate", "values", "asyncpg", 500, 1): [10_000] * 2,
            ("heart_rate", "values", "asyncpg", 8_000, 1): [30_000] * 2,
            ("heart_rate", "values", "asyncpg", 10_000, 1): [20_000] * 2,
        },
        chunk_rows={8_000: 5_461, 10_000: 5_461},
    )
    advice = recommend(run)
    assert advice.values["BATCH_HEART_RATE_CHUNK_SIZE"] == "5461"
    assert advice.chosen[0].chunk_sizes == (8_000, 10_000)
    assert (advice.chosen[0].trials, advice.chosen[0].pairs) == (4, 2)


def test_the_goal_comes_before_the_small_chunk() -> None:
    run = run_of({copying(100): [3_000] * 2, copying(900): [3_010] * 2})
    hungry = tuple(
        replace(one, peak_rss_mb=600.0) if one.chunk_size == 100 else one for one in run.records
    )
    advice = recommend(replace(run, records=hungry))
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "900"
    assert advice.goal_met


def test_a_table_that_misses_the_goal_says_so() -> None:
    run = run_of(
        {
            copying(100): [1_500] * 2,
            copying(100, table="activity"): [9_000] * 2,
        }
    )
    advice = recommend(run)
    assert [(goal.table, goal.met) for goal in advice.goals] == [
        ("sleep", False),
        ("activity", True),
    ]
    assert not advice.goal_met
    assert advice.values["BATCH_SLEEP_CHUNK_SIZE"] == "100"


def test_only_what_was_swept_is_set() -> None:
    advice = recommend(run_of({copying(700, table="heart_rate"): [9_000]}))
    chunks = [name for name in advice.values if name.endswith("_CHUNK_SIZE")]
    assert chunks == ["BATCH_HEART_RATE_CHUNK_SIZE"]
    assert "no other strategy was measured" in advice.reasons["BATCH_STRATEGY"]


def test_writers_measured_with_another_strategy_only_do_not_count() -> None:
    other = ("sleep", "unnest", "psycopg", 500, 2)
    advice = recommend(run_of({copying(500): [9_000], other: [5_000]}))
    assert (
        advice.reasons["BATCH_PARALLELISM"]
        == "the only parallelism that was measured with that strategy and driver"
    )


def test_a_table_without_a_usable_trial_is_left_alone_and_fails_the_goal() -> None:
    run = run_of(
        {
            copying(100): [None, None],
            copying(100, table="activity"): [9_000] * 2,
        }
    )
    advice = recommend(run)
    assert "BATCH_SLEEP_CHUNK_SIZE" not in advice.values
    assert not advice.goal_met
    assert any(remark.startswith("sleep: no usable trial") for remark in advice.remarks)


def test_nothing_usable_is_an_error() -> None:
    with pytest.raises(InputError, match="no usable trial"):
        recommend(run_of({copying(100): [None]}))
    with pytest.raises(InputError, match="no usable trial"):
        recommend(Run(Path("run"), INFO, ()))


@pytest.mark.parametrize(
    ("blocks", "says"), [(1, "only 1 pair"), (5, "only 5 pairs"), (6, "fresh")]
)
def test_a_sweep_is_provisional(blocks: int, says: str) -> None:
    advice = recommend(run_of({copying(100): [9_000] * blocks}))
    assert advice.provisional
    assert says in advice.doubt


def test_the_env_text_is_read_as_settings(tmp_path: Path) -> None:
    run = run_of(
        {
            copying(700): [9_000] * 2,
            ("Öffnungs Zeiten", "copy", "psycopg", 300, 1): [9_000] * 2,
            ("two\nlines", "copy", "psycopg", 400, 1): [9_000] * 2,
        }
    )
    path = tmp_path / "chosen.env"
    path.write_text(env_text(recommend(run)), encoding="utf-8")
    settings, warnings = load_settings(path, {})
    assert warnings == []
    assert (settings.strategy, settings.driver, settings.writers) == ("copy", "psycopg", 1)
    assert settings.chunk_size("sleep") == 700
    assert settings.chunk_size("Öffnungs Zeiten") == 300
    assert settings.chunk_size("two\nlines") == 400
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        assert line == "" or line.startswith("#") or lines[number - 1].startswith("# ")


def test_two_tables_of_one_variable_get_the_smaller_chunk() -> None:
    run = run_of(
        {
            ("Orders", "copy", "psycopg", 300, 1): [9_000],
            ("orders", "copy", "psycopg", 200, 1): [9_000],
        }
    )
    advice = recommend(run)
    assert advice.values["BATCH_ORDERS_CHUNK_SIZE"] == "200"
    assert "Orders:" in advice.reasons["BATCH_ORDERS_CHUNK_SIZE"]


def test_a_way_is_named_in_words() -> None:
    assert str(Way("copy", "psycopg", 1)) == "copy over psycopg, 1 writer"
