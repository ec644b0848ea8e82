"""Plans of ours: which configurations, how many rows, how long it takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product

from batchbench.config import METRIC_TABLES, Settings
from batchbench.drivers import CAPABILITIES
from batchbench.engine.plan import DEFAULT_DRIVER
from batchbench.harness.pace import EPOCH_S
from batchbench.harness.plan import Configuration, SweepPlan, yardstick_of
from batchbench.stats import FEWEST_PAIRS

DEFAULT_BUDGET_S = 100.0
"""Of the sweep without arguments: with a server's start and end it takes about two minutes."""

MOST_BLOCKS = 1_000
FEWEST_CHUNKS = 20
"""Of a trial: fewer say more about how a load begins and ends than about its chunk size."""

MOST_ROWS = 1_000_000
"""Of a load: they are held in memory, as rows and encoded."""

_EPOCHS = 3
_ARRIVING_S = 2.0

# Chunk sizes by strategy, each about where its curve bends. COPY gains up to 20,000 rows, VALUES is
# past its best from 2,500 on.
_CHUNK_SIZES: Mapping[str, tuple[int, ...]] = {
    "values": (1_000,),
    "unnest": (1_000, 5_000),
    "copy": (1_000, 2_500, 5_000),
}
_FEWER_CHUNK_SIZES: Mapping[str, tuple[int, ...]] = {
    "values": (1_000,),
    "unnest": (5_000,),
    "copy": (1_000, 5_000),
}
_SCREEN_CHUNK_SIZE = 2_000  # 20 of them are what two minutes have room for
_SCREEN_VALUES_CHUNK_SIZE = 1_000

# Of a load with its preparation and verification; measured on 2 cores, with a unique index.
_LOAD_S = 0.14
_ROWS_PER_S: Mapping[str, float] = {"values": 110_000, "unnest": 180_000}
_OTHER_ROWS_PER_S = 270_000.0
_FILLING_ROWS_PER_S = 200_000.0
_ROUND_TRIPS_A_LOAD = 12
_ROUND_TRIPS_A_CHUNK = 2


def full_grid(
    tables: Sequence[str],
    strategies: Sequence[str],
    drivers: Sequence[str],
    chunk_sizes: Sequence[int],
    parallelism: Sequence[int],
    rtts_ms: Sequence[float] = (0.0,),
    max_waits_ms: Sequence[float | None] = (None,),
    transactions: Sequence[str] = ("chunk",),
) -> tuple[Configuration, ...]:
    """Every combination, each value counted once; one transaction for all has one writer only."""
    grid = product(
        dict.fromkeys(tables),
        dict.fromkeys(strategies),
        dict.fromkeys(drivers),
        dict.fromkeys(chunk_sizes),
        dict.fromkeys(parallelism),
        dict.fromkeys(rtts_ms),
        dict.fromkeys(max_waits_ms),
        dict.fromkeys(transactions),
    )
    made = (
        Configuration(
            *(table, strategy, driver, size, 1 if kept == "batch" else writers, rtt_ms, age, kept)
        )
        for table, strategy, driver, size, writers, rtt_ms, age, kept in grid
    )
    return tuple(dict.fromkeys(made))


def default_plan(
    cores: int,
    settings: Settings,
    *,
    tables: Sequence[str] = tuple(METRIC_TABLES),
    rtts_ms: Sequence[float] = (0.0,),
    budget_s: float = DEFAULT_BUDGET_S,
) -> SweepPlan:
    """The plan of a sweep that names no configurations; `sized` fits its rows to the budget.

    cores: of the machine. A single core gets one writer, others one and two. What `settings` says
    is among the configurations, and COPY also runs with the chunk size that it has for the table.
    The more the budget has room for, the fuller the grid; in any case rows are enough for
    `FEWEST_CHUNKS` of each chunk size that is ours to choose.
    """
    for choose, largest in (
        (partial(_grid, sizes=_CHUNK_SIZES), 5_000),
        (partial(_grid, sizes=_FEWER_CHUNK_SIZES), 5_000),
        (_screen, _SCREEN_CHUNK_SIZE),
    ):
        chosen = [c for table in tables for c in choose(table, 1 if cores < 2 else 2, settings)]
        own = [configured(table, settings) for table in tables]
        plan = SweepPlan(
            configurations=tuple(
                replace(c, rtt_ms=rtt_ms)
                for rtt_ms in rtts_ms
                for c in dict.fromkeys([*chosen, *own])
            ),
            rows=FEWEST_CHUNKS * largest,
            repeats=FEWEST_PAIRS,
            epochs=_EPOCHS,
        )
        if plan_s(plan) <= budget_s:
            break
    return replace(plan, repeats=MOST_BLOCKS)


def _grid(
    table: str, writers: int, settings: Settings, *, sizes: Mapping[str, tuple[int, ...]]
) -> list[Configuration]:
    """Every driver and number of writers, with each of the sizes."""
    own = {"copy": (settings.chunk_size(table),)}
    drivers, all_writers = list(CAPABILITIES), list(range(1, writers + 1))
    return [
        configuration
        for strategy, given in sizes.items()
        for configuration in full_grid(
            [table], [strategy], drivers, [*given, *own.get(strategy, ())], all_writers
        )
    ]


def _screen(table: str, writers: int, settings: Settings) -> list[Configuration]:
    """COPY, which won on every server that we saw, and what differs from it in one thing: the other
    driver, one writer, the configured chunk size, another strategy.
    """
    sizes = [_SCREEN_CHUNK_SIZE, settings.chunk_size(table)]
    return [
        *full_grid([table], ["copy"], list(CAPABILITIES), sizes, [writers]),
        *full_grid([table], ["copy"], [DEFAULT_DRIVER], sizes, [1]),
        Configuration(table, "unnest", DEFAULT_DRIVER, _SCREEN_CHUNK_SIZE, writers),
        Configuration(table, "values", DEFAULT_DRIVER, _SCREEN_VALUES_CHUNK_SIZE, writers),
    ]


def configured(table: str, settings: Settings) -> Configuration:
    """What `settings` would do with a table that COPY can write."""
    return Configuration(
        table,
        settings.strategy or "copy",
        settings.driver or DEFAULT_DRIVER,
        settings.chunk_size(table),
        settings.writers,
    )


def sized(plan: SweepPlan, budget_s: float) -> SweepPlan:
    """A plan of `default_plan` with rows for `FEWEST_CHUNKS` chunks of every configuration, as far
    as `FEWEST_PAIRS` blocks fit into the budget; never fewer than it had. Rows that arrive at a
    rate are those of a few seconds.
    """
    if plan.arrival_rows_per_s is not None:
        return replace(plan, rows=arriving_rows(plan.arrival_rows_per_s))
    wanted = min(FEWEST_CHUNKS * max(c.chunk_size for c in plan.configurations), MOST_ROWS)
    few = replace(plan, repeats=FEWEST_PAIRS)
    fixed_s, rows_s = plan_s(few), plan_s(replace(few, rows=2 * plan.rows)) - plan_s(few)
    affordable = plan.rows + int((budget_s - fixed_s) / rows_s * plan.rows)
    return replace(plan, rows=max(plan.rows, min(wanted, affordable // 1_000 * 1_000)))


def arriving_rows(rows_per_s: float) -> int:
    """Those of a few seconds."""
    return max(1, int(rows_per_s * _ARRIVING_S))


def ticket_count(plan: SweepPlan) -> int:
    """Of each flush age, over all blocks."""
    return plan.repeats * -(-plan.rows // plan.payload_rows)


def plan_s(plan: SweepPlan) -> float:
    """About how long a plan takes. A guess for `--dry-run` and budgets: servers differ."""
    warmups = [trial.configuration for trial in plan.warmup_trials()] * plan.epochs
    block = [*plan.configurations, *map(yardstick_of, plan.tables)]
    warm_s = sum(load_s(c, plan, arriving=False) for c in warmups)
    return plan.epochs * EPOCH_S + warm_s + plan.repeats * sum(load_s(c, plan) for c in block)


def load_s(configuration: Configuration, plan: SweepPlan, *, arriving: bool = True) -> float:
    """About how long one load takes, with what is around it. arriving: at the plan's rate, if it
    has one.
    """
    rows_per_s = _ROWS_PER_S.get(configuration.strategy, _OTHER_ROWS_PER_S)
    chunks = -(-plan.rows // configuration.chunk_size) / configuration.parallelism
    round_trips = _ROUND_TRIPS_A_LOAD + _ROUND_TRIPS_A_CHUNK * chunks
    delayed_s = round_trips * configuration.rtt_ms / 1e3
    loading_s = plan.rows / rows_per_s + delayed_s
    if arriving and plan.arrival_rows_per_s is not None and configuration.strategy != "yardstick":
        loading_s = max(loading_s, plan.rows / plan.arrival_rows_per_s)
    return _LOAD_S + loading_s + plan.filled / _FILLING_ROWS_PER_S
