"""Plans: full grids, balanced blocks, stable identities."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from batchbench.config import Settings
from batchbench.errors import ConfigError
from batchbench.harness import (
    Configuration,
    SweepPlan,
    configured,
    default_plan,
    full_grid,
    plan_from_document,
    plan_s,
    sized,
)
from batchbench.strategies import OnConflict

GRID = full_grid(["sleep"], ["copy", "values"], ["asyncpg", "psycopg"], [500, 500, 900], [1, 2])


def test_a_full_grid_has_every_combination_once() -> None:
    assert len(GRID) == len(set(GRID)) == 16
    assert Configuration("sleep", "values", "psycopg", 900, 2) in GRID


def test_every_block_runs_every_configuration_once() -> None:
    plan = SweepPlan(configurations=GRID, repeats=5)
    blocks = list(plan.blocks())
    assert len(blocks) == 5
    for block in blocks:
        assert {t.configuration for t in block if t.kind == "trial"} == set(GRID)
        assert [t.configuration.table for t in block if t.kind == "yardstick"] == ["sleep"]
        assert [trial.position for trial in block] == list(range(1, 18))
    ids = [trial.trial_id for block in blocks for trial in block]
    assert len(set(ids)) == 85


def test_every_second_block_is_the_reverse_and_pairs_differ() -> None:
    plan = SweepPlan(configurations=GRID, repeats=4)
    orders = [[trial.configuration for trial in block] for block in plan.blocks()]
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    assert orders[0] not in (orders[2], orders[3], list(GRID))


def test_positions_are_balanced_over_two_blocks() -> None:
    plan = SweepPlan(configurations=GRID, repeats=2)
    positions = dict.fromkeys(GRID, 0)
    for block in plan.blocks():
        for trial in block:
            if trial.kind == "trial":
                positions[trial.configuration] += trial.position
    assert set(positions.values()) == {18}


def test_the_order_depends_on_the_seed_alone() -> None:
    first, again, other = (
        SweepPlan(configurations=GRID, seed=seed, repeats=3) for seed in (1, 1, 2)
    )
    assert list(first.blocks()) == list(again.blocks())
    assert list(first.blocks()) != list(other.blocks())


def test_identities_are_readable() -> None:
    trial = SweepPlan(configurations=(Configuration("heart_rate", "copy", "psycopg", 5_000, 2),))
    assert trial.block(1)[0].trial_id == "heart_rate/copy/psycopg/5000/2#1"
    assert trial.warmup_trials()[0].trial_id == "warmup:heart_rate/copy/psycopg/5000/2#1"
    assert trial.warmup_trials(3)[0].trial_id == "warmup:heart_rate/copy/psycopg/5000/2#4"


def test_warmups_are_one_for_each_table_strategy_and_driver() -> None:
    grid = (*GRID, *full_grid(["activity"], ["copy"], ["psycopg"], [100], [1]))
    warmups = SweepPlan(configurations=grid, warmups=2).warmup_trials()
    assert len(warmups) == 10
    assert {trial.configuration.chunk_size for trial in warmups} == {900, 100}
    assert SweepPlan(configurations=grid, warmups=0).warmup_trials() == ()


def test_one_transaction_for_a_load_has_one_writer_and_its_own_name() -> None:
    grid = full_grid(
        ["sleep"], ["copy"], ["psycopg"], [50], [1, 2], transactions=["chunk", "batch", "8"]
    )
    assert [(c.parallelism, c.boundary) for c in grid] == [
        *((1, "chunk"), (1, "batch"), (1, 8), (2, "chunk"), (2, 8)),
    ]
    assert [str(c).removeprefix("sleep/copy/psycopg/50/") for c in grid] == [
        *("1", "1/commit:batch", "1/commit:8", "2", "2/commit:8"),
    ]
    with pytest.raises(ConfigError, match="one transaction has one writer"):
        replace(grid[1], parallelism=2)
    with pytest.raises(ConfigError, match="must be chunk, batch, or a number of chunks"):
        replace(grid[0], transaction="0")


def test_a_plan_of_before_boundaries_were_compared_is_read() -> None:
    plan = SweepPlan(configurations=GRID)
    old = {**plan.document(), "transaction": "chunk"}
    old["configurations"] = [
        {name: value for name, value in one.items() if name != "transaction"}
        for one in old["configurations"]
    ]
    assert plan_from_document(old) == plan


def test_a_plan_survives_its_document() -> None:
    plan = SweepPlan(
        configurations=(*GRID, replace(GRID[0], transaction="3")),
        rows=7,
        repeats=2,
        seed=9,
        on_conflict=OnConflict.NOTHING,
    )
    document = json.loads(json.dumps(plan.document()))
    assert plan_from_document(document) == plan
    with pytest.raises(ConfigError, match="cannot be read"):
        plan_from_document({"rows": 1})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"configurations": ()}, "nothing to sweep"),
        ({"configurations": (GRID[0], GRID[0])}, "twice"),
        ({"rows": 0}, "rows 0"),
        ({"repeats": 0}, "repeats 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SweepPlan(**{"configurations": GRID, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(("chunk_size", "parallelism"), [(0, 1), (10_000_001, 1), (1, 0), (1, 65)])
def test_values_that_no_setting_takes_are_refused(chunk_size: int, parallelism: int) -> None:
    with pytest.raises(ConfigError):
        Configuration("sleep", "copy", "psycopg", chunk_size, parallelism)


OURS = Settings(strategy="unnest", driver="asyncpg", parallelism=3, heart_rate_chunk_size=777)


@pytest.mark.parametrize("cores", [1, 2, 16])
def test_the_default_plan_measures_what_is_configured(cores: int) -> None:
    plan = default_plan(cores, OURS)
    assert len(plan.tables) == 5
    assert {c.strategy for c in plan.configurations} == {"values", "unnest", "copy"}
    assert {c.driver for c in plan.configurations} == {"asyncpg", "psycopg"}
    for table in plan.tables:
        assert configured(table, OURS) in plan.configurations
    assert Configuration("heart_rate", "unnest", "asyncpg", 777, 3) in plan.configurations
    assert {c.parallelism for c in plan.configurations} == ({1, 3} if cores == 1 else {1, 2, 3})


@pytest.mark.parametrize("budget_s", [60.0, 100.0, 600.0, 3_600.0, 36_000.0])
@pytest.mark.parametrize("tables", [["sleep"], ["sleep", "activity", "workout"]])
def test_plans_of_ours_have_enough_chunks(budget_s: float, tables: list[str]) -> None:
    plan = sized(default_plan(2, OURS, tables=tables, budget_s=budget_s), budget_s)
    own = {OURS.chunk_size(table) for table in tables}
    few = {c.chunk_size for c in plan.configurations if plan.rows < 20 * c.chunk_size}
    assert few <= own, "what the user has is measured as it is"
    assert not few or budget_s < 3_600
    assert plan_s(replace(plan, repeats=3)) <= max(budget_s, 100)


def test_more_time_is_more_configurations_and_then_more_rows() -> None:
    plans = [sized(default_plan(2, OURS, budget_s=s), s) for s in (100, 1_000, 3_600, 36_000)]
    counts = [len(plan.configurations) for plan in plans]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert plans[0].rows < plans[-1].rows == 20 * 8_000


def test_round_trips_multiply_a_plan_of_ours() -> None:
    near, far = (
        {replace(c, rtt_ms=0.0) for c in default_plan(2, OURS, rtts_ms=rtts).configurations}
        for rtts in ([0.0], [0.0, 5.0])
    )
    assert near == far
    assert len(default_plan(2, OURS, rtts_ms=[0.0, 5.0]).configurations) == 2 * len(near)


def test_rows_of_an_open_loop_are_those_of_seconds() -> None:
    plan = replace(default_plan(2, OURS), arrival_rows_per_s=300.0)
    assert sized(plan, 100).rows == 600
    assert plan_s(replace(plan, rows=600)) > plan.block_size * 2 / 2
