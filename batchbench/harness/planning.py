"""Plans of ours: which configurations, how many rows, how long it takes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product

from batchbench.config import METRIC_TABLES, Settings
from batchbench.drivers import CAPABILITIES
from batchbench.engine.plan import DEFAULT_DRIVER
from batchbench.harness.pace import EPOCH_S
from batchbench.harness.plan import DEFAULT_ROWS, Configuration, SweepPlan, yardstick_of
from batchbench.stats import FEWEST_PAIRS

DEFAULT_BUDGET_S = 100.0
"""Of the sweep without arguments: with a server's start and end it takes about two minutes."""

MOST_BLOCKS = 1_000
FEWEST_CHUNKS = 20
"""Of a trial: fewer say more about how a load begins and ends than about its chunk size."""

_EPOCHS = 3
_MOST_ROWS = 1_000_000
# Where the curve of each bends, at 10,000 rows: COPY gains up to the whole, VALUES is past its best
# from 2,500 rows a statement.
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

# Of a load with its preparation and verification; measured on 2 cores, with a unique index.
_LOAD_S = 0.11
_ROWS_PER_S: Mapping[str, float] = {"values": 80_000, "unnest": 110_000}
_OTHER_ROWS_PER_S = 200_000.0
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
) -> tuple[Configuration, ...]:
    """Every combination, each value counted once."""
    grid = product(
        dict.fromkeys(tables),
        dict.fromkeys(strategies),
        dict.fromkeys(drivers),
        dict.fromkeys(chunk_sizes),
        dict.fromkeys(parallelism),
        dict.fromkeys(rtts_ms),
    )
    return tuple(Configuration(*values) for values in grid)


def default_plan(
    cores: int,
    settings: Settings,
    *,
    tables: Sequence[str] = tuple(METRIC_TABLES),
    rtts_ms: Sequence[float] = (0.0,),
    budget_s: float = DEFAULT_BUDGET_S,
) -> SweepPlan:
    """The plan of a sweep that names no configurations; `sized` gives it its rows.

    cores: of the machine. A single core gets one writer, others one and two. COPY also runs with
    the chunk size that `settings` has for the table, and what `settings` says as a whole is among
    the configurations. Where the budget is too short for a block of all in each epoch, what is
    least likely to win is left out.
    """
    for thin in (False, True):
        configurations = [
            c for table in tables for c in _of_table(table, cores, settings, rtts_ms, thin=thin)
        ]
        plan = SweepPlan(
            configurations=tuple(dict.fromkeys(configurations)), repeats=_EPOCHS, epochs=_EPOCHS
        )
        if plan_s(plan) <= budget_s:
            break
    return replace(plan, repeats=MOST_BLOCKS)


def _of_table(
    table: str, cores: int, settings: Settings, rtts_ms: Sequence[float], *, thin: bool
) -> list[Configuration]:
    writers = (1,) if cores < 2 else (1, 2)
    sizes = _FEWER_CHUNK_SIZES if thin else _CHUNK_SIZES
    found: list[Configuration] = []
    for strategy, chunk_sizes in sizes.items():
        own = (settings.chunk_size(table),) if strategy == "copy" else ()
        # Fewer writers matter for what wins; COPY won on every server that we saw.
        used = writers[-1:] if thin and not own else writers
        found += full_grid(
            [table], [strategy], list(CAPABILITIES), [*chunk_sizes, *own], used, rtts_ms
        )
    return found + [replace(configured(table, settings), rtt_ms=rtt) for rtt in rtts_ms]


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
    """The same plan with rows for `FEWEST_CHUNKS` chunks a trial, as far as `FEWEST_PAIRS` blocks
    fit into the budget; never fewer than `DEFAULT_ROWS`.
    """
    largest = max(c.chunk_size for c in plan.configurations)
    wanted = min(max(FEWEST_CHUNKS * largest, DEFAULT_ROWS), _MOST_ROWS)
    few = replace(plan, rows=DEFAULT_ROWS, repeats=FEWEST_PAIRS)
    fixed_s, rows_s = plan_s(few), plan_s(replace(few, rows=2 * DEFAULT_ROWS)) - plan_s(few)
    affordable = DEFAULT_ROWS + int((budget_s - fixed_s) / rows_s * DEFAULT_ROWS)
    return replace(plan, rows=max(DEFAULT_ROWS, min(wanted, affordable // 1_000 * 1_000)))


def plan_s(plan: SweepPlan) -> float:
    """About how long a plan takes. A guess for `--dry-run` and budgets: servers differ."""
    loads = [trial.configuration for trial in plan.warmup_trials()] * plan.epochs
    block = [*plan.configurations, *map(yardstick_of, plan.tables)]
    warm_s = sum(load_s(c, plan) for c in loads)
    return plan.epochs * EPOCH_S + warm_s + plan.repeats * sum(load_s(c, plan) for c in block)


def load_s(configuration: Configuration, plan: SweepPlan) -> float:
    """About how long one load takes, with what is around it."""
    rows_per_s = _ROWS_PER_S.get(configuration.strategy, _OTHER_ROWS_PER_S)
    chunks = -(-plan.rows // configuration.chunk_size) / configuration.parallelism
    round_trips = _ROUND_TRIPS_A_LOAD + _ROUND_TRIPS_A_CHUNK * chunks
    delayed_s = round_trips * configuration.rtt_ms / 1e3
    loading_s = plan.rows / rows_per_s + delayed_s
    if plan.arrival_rows_per_s is not None and configuration.strategy != "yardstick":
        loading_s = max(loading_s, plan.rows / plan.arrival_rows_per_s)
    return _LOAD_S + loading_s + plan.filled / _FILLING_ROWS_PER_S
