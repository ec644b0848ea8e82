"""What a sweep measures, and in which order. Pure; same plan, same order, on any machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import Any, Literal

import numpy as np

from batchbench.errors import ConfigError
from batchbench.harness.search import Search
from batchbench.results import Constraints, Regime
from batchbench.strategies import OnConflict

DEFAULT_ROWS = 10_000
MOST_RTT_MS = 10_000.0
MOST_ROWS_PER_S = 1e9
MOST_WAIT_MS = 60_000.0
_BOUNDARY = re.compile(r"chunk|batch|[1-9][0-9]{0,5}")

PAYLOAD_ROWS = 10
"""Of each call of `Writer.add`, where rows arrive in one: what a small request brings."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """What trials compare.

    table: a metric ("heart_rate") or a table's name. chunk_size: rows. rtt_ms: added to each round
    trip between engine and server. max_wait_ms: rows go through a `Writer` that flushes them at
    this age; None: they are loaded. transaction: what is committed together: "chunk", "batch" (the
    whole load, which takes one writer), or a number of chunks.
    """

    table: str
    strategy: str
    driver: str
    chunk_size: int
    parallelism: int
    rtt_ms: float = 0.0
    max_wait_ms: float | None = None
    transaction: str = "chunk"

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_size <= 10_000_000:
            raise ConfigError(f"chunk size {self.chunk_size:,}: it must be from 1 to 10,000,000")
        if not 1 <= self.parallelism <= 64:
            raise ConfigError(f"parallelism {self.parallelism}: it must be from 1 to 64")
        if not 0 <= self.rtt_ms <= MOST_RTT_MS:
            raise ConfigError(f"a round trip of {self.rtt_ms:g} ms: it must be from 0 to 10,000")
        if self.max_wait_ms is not None and not 0 < self.max_wait_ms <= MOST_WAIT_MS:
            raise ConfigError(
                f"a flush age of {self.max_wait_ms:g} ms: it must be above 0, and at most"
                f" {MOST_WAIT_MS:,.0f}"
            )
        if not _BOUNDARY.fullmatch(self.transaction):
            raise ConfigError(
                f"transaction {self.transaction!r}: it must be chunk, batch, or a number of chunks"
            )
        if self.transaction == "batch" and self.parallelism > 1:
            raise ConfigError(
                f"transaction batch with {self.parallelism} writers: one transaction has one writer"
            )

    @property
    def boundary(self) -> Literal["chunk", "batch"] | int:
        """`transaction` as the engine takes it."""
        if self.transaction == "batch":
            return "batch"
        return "chunk" if self.transaction == "chunk" else int(self.transaction)

    def __str__(self) -> str:
        parts = (self.table, self.strategy, self.driver, self.chunk_size, self.parallelism)
        delay = f"/{self.rtt_ms:g}ms" if self.rtt_ms else ""
        age = "" if self.max_wait_ms is None else f"/flush{self.max_wait_ms:g}ms"
        kept = "" if self.transaction == "chunk" else f"/commit:{self.transaction}"
        return "/".join(map(str, parts)) + delay + age + kept


@dataclass(frozen=True, slots=True)
class Trial:
    """One planned load. block: from 1, 0 for warm-ups. position: within its block, from 1."""

    configuration: Configuration
    kind: Literal["trial", "warmup", "yardstick"]
    repeat: int
    block: int
    position: int

    @property
    def flush_age_ms(self) -> float | None:
        """Of the Writer that its rows go through; None where they are loaded, as in warm-ups."""
        return self.configuration.max_wait_ms if self.kind == "trial" else None

    @property
    def trial_id(self) -> str:
        """The same for the same trial of the same plan: "sleep/copy/psycopg/5000/2#1"."""
        if self.kind == "yardstick":
            return f"yardstick:{self.configuration.table}#{self.repeat}.{self.position}"
        name = f"{self.configuration}#{self.repeat}"
        return name if self.kind == "trial" else f"warmup:{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepPlan:
    """A planned set of trials.

    rows: of each load; fewer where a table's own rows are fewer. repeats: blocks, in each of
    which every configuration runs once, and each table's yardstick. warmups: loads ahead of the
    trials, for each table, strategy, driver and round trip, in each epoch. epochs: what the blocks
    are spread over; each has a fresh client process, and a fresh server where it is ours to
    restart: one life is one sample.
    budget_s: of wall time, for all starts of the run together: no block begins that does not fit.
    filled: rows in the table before each load. regime: whether VACUUM and CHECKPOINT are kept
    outside the clock or are part of it. server_settings: of the load's sessions, by name.
    arrival_rows_per_s: rows arrive at this rate (open loop); None: all are there at once.
    payload_rows: of each call of `Writer.add`, where configurations have a flush age.
    sources: by table, the fingerprint of the source of its rows; synthetic ones have none.
    on_conflict: as the engine takes it.
    search: where not every configuration runs in every block, which do.
    """

    configurations: tuple[Configuration, ...]
    rows: int = DEFAULT_ROWS
    repeats: int = 3
    warmups: int = 1
    epochs: int = 1
    seed: int = 1
    on_conflict: OnConflict = OnConflict.ERROR
    filled: int = 0
    regime: Regime = "burst"
    server_settings: Mapping[str, str] = field(default_factory=dict)
    arrival_rows_per_s: float | None = None
    payload_rows: int = PAYLOAD_ROWS
    budget_s: float | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    search: Search | None = None

    def __post_init__(self) -> None:
        if not self.configurations:
            raise ConfigError("there is nothing to sweep: the plan has no configuration")
        if len(set(self.configurations)) != len(self.configurations):
            raise ConfigError("the plan has a configuration twice; name each value once")
        for name, least in (
            ("rows", 1),
            ("repeats", 1),
            ("warmups", 0),
            ("epochs", 1),
            ("seed", 0),
            ("filled", 0),
            ("payload_rows", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} {getattr(self, name)}: it must be {least} or more")
        if self.arrival_rows_per_s is not None:
            self._check_arrivals(self.arrival_rows_per_s)
        elif self.has_ages:
            raise ConfigError(
                "--max-wait-ms lets rows arrive in a Writer: say at how many a second, with"
                " --arrival-rate"
            )

    def _check_arrivals(self, rows_per_s: float) -> None:
        if not 0 < rows_per_s <= MOST_ROWS_PER_S:
            raise ConfigError(
                f"an arrival rate of {rows_per_s:g} rows/s: it must be above 0, and at most"
                f" {MOST_ROWS_PER_S:,.0f}"
            )
        if any(c.transaction != "chunk" for c in self.configurations):
            raise ConfigError(
                "rows that arrive at a rate are committed by the chunk, so that each chunk's wait"
                " is known: use transaction chunk"
            )

    @property
    def has_ages(self) -> bool:
        """Whether it compares flush ages of a Writer."""
        return any(c.max_wait_ms is not None for c in self.configurations)

    @property
    def table_state(self) -> str:
        """As records have it."""
        return f"filled:{self.filled}" if self.filled else "empty"

    @property
    def rtts_ms(self) -> tuple[float, ...]:
        """The delays of its configurations."""
        return tuple(dict.fromkeys(c.rtt_ms for c in self.configurations))

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables swept, in the order of the configurations."""
        return tuple(dict.fromkeys(c.table for c in self.configurations))

    def block(
        self, number: int, members: Sequence[Configuration] | None = None
    ) -> tuple[Trial, ...]:
        """The trials of a block, from 1. members: who runs in it; None: all.

        Odd blocks have a random order of their own, each even one reverses the one before: what
        drifts within two blocks (caches, a table's neighbours) meets every configuration alike.
        """
        planned: list[tuple[Configuration, Literal["trial", "yardstick"]]] = [
            *((configuration, "trial") for configuration in self.configurations),
            *((yardstick_of(table), "yardstick") for table in self.tables),
        ]
        running = set(self.configurations if members is None else members)
        tables = {c.table for c in running}
        rng = np.random.default_rng([self.seed, (number - 1) // 2])
        order = rng.permutation(len(planned)).tolist()
        if number % 2 == 0:
            order.reverse()
        chosen = [
            planned[index]
            for index in order
            if planned[index][0] in running
            or (planned[index][1] == "yardstick" and planned[index][0].table in tables)
        ]
        return tuple(
            Trial(configuration, kind, number, number, position)
            for position, (configuration, kind) in enumerate(chosen, 1)
        )

    @property
    def block_size(self) -> int:
        """Loads of a block of all configurations."""
        return len(self.configurations) + len(self.tables)

    def blocks(self) -> Iterator[tuple[Trial, ...]]:
        """All blocks, in order."""
        return (self.block(number) for number in range(1, self.repeats + 1))

    def warmup_trials(
        self, done: int = 0, members: Sequence[Configuration] | None = None
    ) -> tuple[Trial, ...]:
        """The warm-ups of one start of the run; `done`: warm-ups of each kind in earlier starts.
        members: who will run; None: all.
        """
        kinds: dict[tuple[str, str, str, float], Configuration] = {}
        for c in self.configurations if members is None else members:
            kind = (c.table, c.strategy, c.driver, c.rtt_ms)
            # The largest chunks and the most writers are what later trials need memory for.
            first = kinds.setdefault(kind, c)
            if (c.parallelism, c.chunk_size) > (first.parallelism, first.chunk_size):
                kinds[kind] = c
        numbers = range(done + 1, done + self.warmups + 1)
        return tuple(
            Trial(configuration, "warmup", number, 0, position)
            for position, (number, configuration) in enumerate(product(numbers, kinds.values()), 1)
        )

    def document(self) -> dict[str, Any]:
        """The plan as run.json stores it."""
        return asdict(self)


def yardstick_of(table: str) -> Configuration:
    """What a yardstick trial is recorded as."""
    return Configuration(table, "yardstick", "psycopg", 1, 1)


def plan_from_document(document: dict[str, Any]) -> SweepPlan:
    """The plan that a run.json stores. Raises ConfigError where it is none."""
    try:
        parts = dict(document)
        configurations = tuple(Configuration(**c) for c in parts.pop("configurations"))
        on_conflict = OnConflict(parts.pop("on_conflict"))
        search = _search(parts.pop("search", None))
        parts.pop("transaction", None)  # of all configurations, in older runs: always "chunk"
        return SweepPlan(
            configurations=configurations, on_conflict=on_conflict, search=search, **parts
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError("the run's plan cannot be read; start a new run") from error


def _search(document: dict[str, Any] | None) -> Search | None:
    if document is None:
        return None
    parts = dict(document)
    starts, constraints = parts.pop("starts"), Constraints(**parts.pop("constraints"))
    return Search(
        starts=None if starts is None else tuple(starts), constraints=constraints, **parts
    )
