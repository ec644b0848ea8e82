"""What a client process is told before its first trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.harness.plan import Configuration, SweepPlan, Trial
from batchbench.harness.state import Privileges
from batchbench.harness.verify import Contents
from batchbench.table import Table, TableName


class TrialLostError(Exception):
    """A trial took its surroundings with it: the server, its session, or the client process.

    It is told in words that a record can have as its reason.
    """


@dataclass(frozen=True, slots=True)
class Prepared:
    """A subject that is ready for trials.

    table: the scratch copy. rows: what every trial loads. expected: the contents after a load, the
    filling included. encoded: the same rows as the server itself wrote them, in COPY's binary
    format. filling: the table with what is in the scratch copy before a load; None for nothing.
    """

    label: str
    table: Table
    rows: pa.Table
    expected: Contents
    encoded: bytes = b""
    filling: TableName | None = None

    def plain(self, text: str) -> str:
        """A message in the name that people know, not the scratch copy's."""
        return text.replace(str(self.table.name), self.label)


@dataclass(frozen=True, slots=True)
class Brief:
    """All that a client needs to run a plan's trials; as a letter it goes to another process.

    dsn: of the server. loading: by round trip, the addresses that loads use, with the plan's
    server settings. ours: whether the server serves nobody else.
    """

    dsn: str = field(repr=False)
    loading: Mapping[float, str] = field(repr=False)
    settings: Settings
    plan: SweepPlan
    cast_options: CastOptions
    trial_timeout_s: float
    ours: bool
    privileges: Privileges
    epoch: int = 1
    prepared: Mapping[str, Prepared] = field(default_factory=dict, repr=False)

    def options(self, configuration: Configuration) -> LoadOptions:
        """What the engine is told. Raises ConfigError where a configuration cannot work."""
        return LoadOptions(
            settings=self.settings,
            strategy=configuration.strategy,
            driver=configuration.driver,
            chunk_size=configuration.chunk_size,
            parallelism=configuration.parallelism,
            on_conflict=self.plan.on_conflict,
            transaction=configuration.boundary,
            cast_options=self.cast_options,
            # A row that cannot be loaded makes the trial a failure; and a sweep leaves nothing of
            # its own in the database, a ledger included.
            on_reject="stop",
            exactly_once="off",
            durability="relaxed" if "synchronous_commit" in self.plan.server_settings else "full",
        )

    def options_of(self, trial: Trial) -> LoadOptions:
        """The same of a trial; the yardstick's are those of a COPY."""
        if trial.kind == "yardstick":
            return self.options(replace(trial.configuration, strategy="copy"))
        return self.options(trial.configuration)
