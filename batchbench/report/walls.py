"""Where a chunk cannot grow any more: the parameters that one statement may carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from batchbench.limits import ASYNCPG_PARAMETERS, PROTOCOL_PARAMETERS
from batchbench.profile import PROFILES
from batchbench.report.groups import Group
from batchbench.report.repeating import tables_are_named
from batchbench.results import RunInfo

_LIMITS: Mapping[str, int] = {"asyncpg": ASYNCPG_PARAMETERS, "psycopg": PROTOCOL_PARAMETERS}
_PARAMETER_A_VALUE = "values"


@dataclass(frozen=True, slots=True)
class Wall:
    """rows: the largest chunk of a strategy over a driver. seen: trials were cut down to it."""

    strategy: str
    driver: str
    rows: int
    seen: bool
    parameters: int | None = None

    @property
    def label(self) -> str:
        """For the line."""
        return f"{self.strategy} / {self.driver} ≤ {self.rows:,}"

    @property
    def text(self) -> str:
        """Where, and why."""
        why = "" if self.parameters is None else f", {self.parameters:,} parameters"
        return f"{self.strategy} over {self.driver}: at most {self.rows:,} rows{why}"


def walls(info: RunInfo, groups: Iterable[Group]) -> tuple[Wall, ...]:
    """The walls of one table, of the strategies and drivers that were measured.

    A trial that was cut shows one. Where none was, VALUES over a driver whose limit is known has
    it computed of the built-in tables' columns; of other tables a run does not store the columns.
    """
    of_table = tuple(groups)
    found = {}
    for strategy, driver in dict.fromkeys(group.plug for group in of_table):
        mine = [group for group in of_table if group.plug == (strategy, driver)]
        cut = _cut(mine)
        parameters = _LIMITS.get(driver) if mine[0].way.strategy == _PARAMETER_A_VALUE else None
        columns = _columns(info, mine[0].table)
        if cut is not None:
            why = parameters if _explains(parameters, cut) else None
            found[strategy, driver] = Wall(strategy, driver, cut, True, why)
        elif parameters is not None and columns is not None:
            rows = parameters // columns
            found[strategy, driver] = Wall(strategy, driver, rows, False, parameters)
    return tuple(found.values())


def _cut(groups: Iterable[Group]) -> int | None:
    """The rows that larger chunks were cut down to: the same, however much larger they were."""
    rows = {
        group.chunk_rows
        for group in groups
        if group.chunk_rows is not None and max(group.chunk_sizes) > group.chunk_rows
    }
    return rows.pop() if len(rows) == 1 else None


def _explains(parameters: int | None, rows: int) -> bool:
    """Whether so many rows are the most for some whole number of columns."""
    return parameters is not None and parameters // (parameters // rows) == rows


def _columns(info: RunInfo, table: str) -> int | None:
    if table not in PROFILES or tables_are_named(info):
        return None
    return len(PROFILES[table].columns)
