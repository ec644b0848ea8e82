"""Plans that look for the best configuration instead of measuring all of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from batchbench.config import Settings
from batchbench.drivers import CAPABILITIES
from batchbench.harness.plan import Configuration, SweepPlan
from batchbench.harness.planning import FEWEST_CHUNKS, MOST_BLOCKS, configured, full_grid, plan_s
from batchbench.harness.search import Search
from batchbench.results import Constraints

TUNE_BUDGET_S = 300.0
"""Of a search and its confirmation, unless their time is named."""

SEARCH_SHARE = 0.6
"""Of the budget; the rest confirms."""

_STRATEGIES = ("values", "unnest", "copy")
_SIZES = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000)
_FEWEST_SIZES = 4
_FIRST_BLOCK = 0.15  # of the search's time: what the starts may take
_MOST_KEPT = 8
_EPOCHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What may be chosen from; () where that is ours to say. writers: numbers of them."""

    strategies: Sequence[str] = ()
    drivers: Sequence[str] = ()
    chunk_sizes: Sequence[int] = ()
    writers: Sequence[int] = ()
    transactions: Sequence[str] = ("chunk",)
    rtt_ms: float = 0.0


def tune_plan(
    conditions: SweepPlan,
    labels: Sequence[str],
    settings: Settings,
    space: Space,
    constraints: Constraints,
    *,
    cores: int,
    budget_s: float,
    rows: int | None = None,
) -> SweepPlan:
    """A search over the space, and over what `settings` says. conditions: a plan whose other
    fields are taken over. budget_s: of the search. rows: of each load; None: enough for
    `FEWEST_CHUNKS` of the largest chunk size, which is then one that the budget has time for.
    """
    sizes = tuple(sorted(set(space.chunk_sizes))) or _SIZES
    fewest = len(sizes) if space.chunk_sizes or rows else _FEWEST_SIZES
    space = replace(space, writers=tuple(space.writers) or writers_for(cores))
    while True:
        plan = _plan(conditions, labels, settings, replace(space, chunk_sizes=sizes), constraints)
        largest = max(c.chunk_size for c in plan.configurations)
        plan = replace(plan, rows=rows or FEWEST_CHUNKS * largest, budget_s=budget_s)
        if len(sizes) <= fewest or first_block_s(plan) <= _FIRST_BLOCK * budget_s:
            return plan
        sizes = sizes[:-1]


def writers_for(cores: int) -> tuple[int, ...]:
    """1, 2, 4 and so on, up to the cores."""
    return tuple(2**power for power in range(max(1, cores).bit_length()))


def first_block_s(plan: SweepPlan) -> float:
    """About how long the starts of a search take."""
    search = plan.search
    starts = None if search is None else search.starts
    chosen = plan.configurations if starts is None else [plan.configurations[i] for i in starts]
    return plan_s(replace(plan, configurations=tuple(chosen), repeats=1, epochs=1, warmups=0))


def _plan(
    conditions: SweepPlan,
    labels: Sequence[str],
    settings: Settings,
    space: Space,
    constraints: Constraints,
) -> SweepPlan:
    most = constraints.max_connections
    grid = full_grid(
        labels,
        space.strategies or _STRATEGIES,
        space.drivers or list(CAPABILITIES),
        space.chunk_sizes,
        [count for count in space.writers if most is None or count <= most] or [1],
        [space.rtt_ms],
        transactions=space.transactions,
    )
    own = [replace(configured(label, settings), rtt_ms=space.rtt_ms) for label in labels]
    allowed = [c for c in own if most is None or c.parallelism <= most]
    configurations = tuple(dict.fromkeys([*grid, *allowed]))
    starts = _starts(configurations, space.chunk_sizes, set(allowed))
    return replace(
        conditions,
        configurations=configurations,
        repeats=MOST_BLOCKS,
        epochs=_EPOCHS,
        search=Search(
            starts=starts,
            keep=min(_MOST_KEPT, len(starts) // len(labels) // 3),
            constraints=constraints,
        ),
    )


def _starts(
    configurations: Sequence[Configuration], sizes: Sequence[int], own: set[Configuration]
) -> tuple[int, ...]:
    """Two sizes of every way, from which no other is more than a few steps away, and what is
    configured now.
    """
    first = {sizes[len(sizes) // 3], sizes[5 * len(sizes) // 6]}
    return tuple(
        index for index, c in enumerate(configurations) if c in own or c.chunk_size in first
    )
