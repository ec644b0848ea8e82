"""What a sweep's options plan, and how a plan looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from batchbench.cli.console import out
from batchbench.cli.options import split_names, split_numbers
from batchbench.config import Settings
from batchbench.drivers import CAPABILITIES
from batchbench.errors import ConfigError
from batchbench.harness import (
    DEFAULT_BUDGET_S,
    DEFAULT_ROWS,
    FEWEST_CHUNKS,
    MOST_BLOCKS,
    PAIR_SD,
    Configuration,
    Subject,
    SweepPlan,
    arriving_rows,
    configured,
    default_plan,
    full_grid,
    pair_sd,
    plan_from_document,
    plan_s,
    sized,
    table_subjects,
    ticket_count,
    usable_cores,
)
from batchbench.profile import PROFILES
from batchbench.report.figures import plural
from batchbench.results import P99_CHUNKS, load_run
from batchbench.sources import open_source
from batchbench.stats import FEWEST_PAIRS, detectable
from batchbench.strategies import find_strategy
from batchbench.table import parse_table_name

_REPEATS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The dimensions as they were named, with commas; None: not named."""

    strategy: str | None
    driver: str | None
    chunk_size: str | None
    parallelism: str | None
    rtt_ms: str | None
    max_wait_ms: str | None = None
    transaction: str | None = None

    @property
    def named(self) -> bool:
        """Whether configurations were named; round trips alone leave the plan ours."""
        named = (self.strategy, self.driver, self.chunk_size, self.parallelism, self.transaction)
        return any(named) or bool(self.max_waits_ms)

    @property
    def max_waits_ms(self) -> list[int]:
        """The flush ages; [] where rows are loaded. Raises ConfigError."""
        ages = split_numbers(self.max_wait_ms, "--max-wait-ms")
        if self.max_wait_ms is not None and not ages:
            raise ConfigError("--max-wait-ms names no age: give it some, such as 1,5,20,100")
        return ages

    @property
    def rtts_ms(self) -> list[float]:
        """The delays; [0.0] where none is named. Raises ConfigError."""
        return [_rtt(part) for part in split_names(self.rtt_ms)] or [0.0]

    def configurations(
        self, labels: Sequence[str], settings: Settings
    ) -> tuple[Configuration, ...]:
        """The full grid of what was named; for what was not: every strategy and driver, and the
        configured chunk size and writers. Flush ages are compared of the configured strategy and
        driver.
        """
        ages = self.max_waits_ms
        own = configured(labels[0], settings)
        every = ["values", "unnest", "copy"]
        strategies = split_names(self.strategy) or ([own.strategy] if ages else every)
        for name in strategies:
            find_strategy(name)
        drivers = split_names(self.driver) or ([own.driver] if ages else list(CAPABILITIES))
        writers = split_numbers(self.parallelism, "--parallelism") or [settings.writers]
        sizes = split_numbers(self.chunk_size, "--chunk-size")
        return tuple(
            configuration
            for label in labels
            for configuration in full_grid(
                [label],
                strategies,
                drivers,
                sizes or [settings.chunk_size(label)],
                writers,
                self.rtts_ms,
                ages or [None],
                boundaries(self.transaction),
            )
        )


def make_plan(
    grid: Grid,
    labels: Sequence[str],
    settings: Settings,
    conditions: SweepPlan,
    *,
    rows: int | None,
    repeats: int | None,
    epochs: int | None,
    budget_s: float | None,
) -> SweepPlan:
    """The plan. conditions: a plan whose other fields are to be taken over.

    A plan of ours has chunks and blocks as the budget allows, and three epochs; a grid that was
    named runs as it was asked for.
    """
    if not grid.named and repeats is None:
        budget_s = budget_s or DEFAULT_BUDGET_S
        ours = default_plan(
            usable_cores(), settings, tables=labels, rtts_ms=grid.rtts_ms, budget_s=budget_s
        )
        plan = replace(
            conditions,
            configurations=ours.configurations,
            rows=ours.rows,
            repeats=ours.repeats,
            epochs=epochs or ours.epochs,
            budget_s=budget_s,
        )
        return replace(plan, rows=rows) if rows else sized(plan, budget_s)
    rate = conditions.arrival_rows_per_s
    arriving = arriving_rows(rate) if rate is not None and grid.max_waits_ms else None
    return replace(
        conditions,
        configurations=grid.configurations(labels, settings),
        repeats=repeats or (_REPEATS if budget_s is None else MOST_BLOCKS),
        epochs=epochs or 1,
        rows=rows or arriving or DEFAULT_ROWS,
        budget_s=budget_s,
    )


def check_target(plan: SweepPlan, target_p99_ms: int | None) -> None:
    """Raises ConfigError where a plan cannot tell which flush age keeps a target."""
    if target_p99_ms is None:
        return
    if not plan.has_ages:
        raise ConfigError(
            "--target-p99-ms chooses among flush ages: name them with --max-wait-ms, such as"
            " 1,5,20,100"
        )
    tickets, least = ticket_count(plan), -(-P99_CHUNKS // plan.repeats) * plan.payload_rows
    if tickets < P99_CHUNKS and plan.budget_s is None:
        raise ConfigError(
            f"{plan.rows:,} rows in {plan.repeats:,} loads are {tickets:,} tickets of"
            f" {plan.payload_rows:,} rows, too few for a p99: take --rows {least:,} or more, or"
            " more --repeats"
        )


def stored_plan(output: Path | None, subjects: Sequence[Subject]) -> tuple[Path, SweepPlan]:
    """The plan of the run to go on with. subjects: as named now, which must be those of the run.
    Raises ConfigError, InputError.
    """
    if output is None:
        raise ConfigError("--resume needs the --output folder of the run to go on with")
    plan = plan_from_document(dict(load_run(output).info.plan))
    named = {subject.label for subject in subjects}
    own = [label for label in plan.tables if label not in PROFILES]
    if missing := [label for label in own if label not in named]:
        raise ConfigError(
            f"the run in {output} is of table {missing[0]}: name it by --table as at its start, and"
            " its --source where it had one"
        )
    return output, plan


def find_subjects(
    table: list[str] | None, profile: str | None, source: str | None
) -> tuple[Subject, ...]:
    """The user's own tables; () for those of the profile. Raises ConfigError."""
    if not table:
        if source is not None:
            raise ConfigError("--source needs the --table that its rows go into")
        return ()
    if profile is not None:
        raise ConfigError("--table and --profile exclude each other: give one of them")
    names = [parse_table_name(text) for text in table]
    return table_subjects(names, open_source(source) if source is not None else None)


def filled_rows(text: str) -> int:
    """ "empty" or "filled:N" as N. Raises ConfigError."""
    if text == "empty":
        return 0
    name, _, digits = text.partition(":")
    number = digits.replace("_", "").replace(",", "")
    if name != "filled" or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise ConfigError(
            f"--table-state takes empty, or filled:N with N rows, such as filled:100000, not"
            f" {text!r}"
        )
    return int(number)


def server_settings(pairs: Sequence[str]) -> dict[str, str]:
    """ "name=value" each. Raises ConfigError."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name.replace("_", "").replace(".", "").isalnum() or not value:
            raise ConfigError(
                f"--server-setting takes name=value, such as synchronous_commit=off, not {pair!r}"
            )
        if name in found:
            raise ConfigError(f"--server-setting names {name} twice; give it one value")
        found[name] = value
    return found


def boundaries(text: str | None) -> list[str]:
    """The transaction boundaries, with commas; by the chunk where none is named."""
    return split_names(text) or ["chunk"]


def _rtt(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            f"--rtt-ms takes milliseconds with commas, such as 0,1,5,20, not {text!r}"
        ) from None


def spread_of(folder: Path | None) -> float:
    """The spread of pairs in a stored run, or the one that was measured. Raises ConfigError where
    the run shows none, InputError where there is none.
    """
    if folder is None:
        return PAIR_SD
    found = pair_sd(load_run(folder))
    if not found:
        raise ConfigError(
            f"--spread-of {folder}: the run has no two blocks in one epoch in which the same two"
            " configurations ran, so it does not show how much loads vary"
        )
    return found


def show_plan(plan: SweepPlan, spread: float) -> None:
    """What would run, how long that takes, and what it could show. spread: of pairs."""
    budget_s = plan.budget_s
    for configuration in plan.configurations:
        out.print(str(configuration), markup=False)
    blocks = plural(plan.repeats, "block") if budget_s is None else f"blocks for {budget_s:,.0f} s"
    out.print(
        f"{plural(len(plan.configurations), 'configuration')} and"
        f" {plural(len(plan.tables), 'yardstick')}, {plural(plan.rows, 'row')} a load, {blocks},"
        f" {plural(plan.epochs, 'epoch')};"
        f" table {plan.table_state}, {plan.regime}{_arriving(plan)}",
        markup=False,
    )
    pairs = plan.repeats if budget_s is None else _blocks_within(plan, budget_s)
    seconds = plan_s(replace(plan, repeats=pairs))
    loads = pairs * plan.block_size + plan.epochs * len(plan.warmup_trials())
    out.print(
        f"about {plural(pairs, 'block')}, {plural(loads, 'load')}, {_time(seconds)}", markup=False
    )
    if plan.has_ages:
        tickets = ticket_count(replace(plan, repeats=pairs))
        out.print(
            f"{tickets:,} tickets of {plan.payload_rows:,} rows for each flush age", markup=False
        )
        return
    smallest = detectable(spread, pairs, plan.epochs)
    shown = f"{smallest:.0%}" if smallest is not None else "none: six blocks are the least"
    out.print(
        "smallest difference between two configurations that this shows nine times in ten, where"
        f" single pairs vary by {spread:.0%}: {shown}",
        markup=False,
    )
    _show_thin(plan, pairs)


def _arriving(plan: SweepPlan) -> str:
    rate = plan.arrival_rows_per_s
    return "" if rate is None else f", {rate:,.0f} rows/s arrive"


def _show_thin(plan: SweepPlan, pairs: int) -> None:
    few = sorted({c.chunk_size for c in plan.configurations if _chunks(c, plan) < FEWEST_CHUNKS})
    if few:
        out.print(
            f"under {FEWEST_CHUNKS} chunks a load, too few for a claim about chunk size:"
            f" {', '.join(f'{size:,}' for size in few)}",
            markup=False,
        )
    if pairs < FEWEST_PAIRS:
        out.print(
            f"{plural(pairs, 'pair')}: provisional, {FEWEST_PAIRS} are the least", markup=False
        )


def _chunks(configuration: Configuration, plan: SweepPlan) -> int:
    return -(-plan.rows // configuration.chunk_size)


def _blocks_within(plan: SweepPlan, budget_s: float) -> int:
    none_s = plan_s(replace(plan, repeats=1))
    block_s = plan_s(replace(plan, repeats=2)) - none_s
    return max(1, min(plan.repeats, 1 + int((budget_s - none_s) / block_s)))


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7_200 else f"{seconds / 3_600:,.1f} h"
