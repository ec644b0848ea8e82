"""What will bite, said before the first row. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchbench.config import ChunkSetting, Settings
from batchbench.drivers import CAPABILITIES
from batchbench.limits import PROTOCOL_PARAMETERS, ParameterUse, values_use

UNSET_STRATEGY = "values"
"""What a chunk size is held against where no strategy is configured: the narrowest."""


@dataclass(frozen=True, slots=True)
class ChunkVerdict:
    """A configured chunk size against a table's width.

    strategy, driver: as configured, None where not. parameters: of one configured chunk as
    VALUES. limits: parameters a statement, by driver. largest: rows a VALUES chunk, by driver.
    over: whether the configured strategy and driver could not send it.
    """

    table: str
    column_count: int
    setting: ChunkSetting
    strategy: str | None
    driver: str | None
    parameters: int
    limits: Mapping[str, int]
    largest: Mapping[str, int]
    over: bool

    @property
    def splits(self) -> tuple[str, ...]:
        """Drivers over which VALUES would be split."""
        return tuple(d for d, rows in self.largest.items() if rows < self.setting.value)

    @property
    def sentence(self) -> str:
        """The verdict in words, with what to do."""
        what = f"{self.setting.value:,} rows x {self.column_count} columns"
        if self.over:
            limits = ", ".join(f"{d} takes {n:,}" for d, n in self.limits.items())
            largest = ", ".join(f"{rows:,} over {d}" for d, rows in self.largest.items())
            return (
                f"{what} make {self.parameters:,} parameters a statement; {limits}."
                f" Set {self.setting.variable} to {largest} at most, or BATCH_STRATEGY to copy or"
                " unnest"
            )
        if self.splits:
            split = " and ".join(f"{d} ({self.largest[d]:,} rows)" for d in self.splits)
            return f"fine as configured; values would be split over {split}"
        return "fine over every strategy and driver"


def chunk_verdict(
    table: str,
    column_count: int,
    setting: ChunkSetting,
    settings: Settings,
    use_of: Callable[[str], ParameterUse],
) -> ChunkVerdict:
    """Hold a chunk size against a table of `column_count` inserted columns.

    use_of: what a strategy spends on so many columns. Raises ValueError where not even one row
    fits a VALUES statement.
    """
    strategy, driver = settings.strategy, settings.driver
    use = use_of(strategy or UNSET_STRATEGY)
    limit = CAPABILITIES[driver].parameter_limit if driver else PROTOCOL_PARAMETERS
    values = values_use(column_count)
    limits = {name: driver.parameter_limit for name, driver in CAPABILITIES.items()}
    largest = {name: values.largest_chunk(most) or 0 for name, most in limits.items()}
    return ChunkVerdict(
        table=table,
        column_count=column_count,
        setting=setting,
        strategy=strategy,
        driver=driver,
        parameters=values.of(setting.value),
        limits=limits,
        largest=largest,
        over=use.of(setting.value) > limit,
    )
