"""What the run's settings would have done, so that a recommendation has something to beat."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from batchbench.config import PREFIX, Settings
from batchbench.recommend import Way
from batchbench.report.groups import Group
from batchbench.results import RunInfo

AUTO_STRATEGY, AUTO_DRIVER = "copy", "psycopg"
"""What a load does where no variable says so; test_report.py holds them to the harness."""

_CHUNK_SUFFIX = "_CHUNK_SIZE"


def settings_of(info: RunInfo) -> Settings | None:
    """The settings that the run was started with; None where they cannot be read any more."""
    values: dict[str, Any] = {}
    chunks: dict[str, Any] = {}
    for variable, value in info.settings.items():
        name = variable.removeprefix(PREFIX)
        if name.lower() in Settings.model_fields:
            values[name.lower()] = value
        elif name.endswith(_CHUNK_SUFFIX):
            chunks[name.removesuffix(_CHUNK_SUFFIX)] = value
    try:
        return Settings.model_validate({**values, "table_chunk_size": chunks})
    except ValidationError:
        return None


def current_way(settings: Settings) -> Way:
    """Strategy, driver and writers of these settings."""
    return Way(settings.strategy or AUTO_STRATEGY, settings.driver or AUTO_DRIVER, settings.writers)


def current_name(settings: Settings, table: str) -> str:
    """As people say it."""
    return f"{current_way(settings)}, chunks of {settings.chunk_size(table):,}"


def current_group(settings: Settings, table: str, groups: Iterable[Group]) -> Group | None:
    """The trials that ran as the settings say; None where no usable ones did."""
    way, rows = current_way(settings), settings.chunk_size(table)
    for group in groups:
        same = (group.table, group.way) == (table, way)
        if same and group.usable and (rows in group.chunk_sizes or rows == group.chunk_rows):
            return group
    return None


def as_text(value: object) -> str:
    """A stored setting as a `.env` file would write it."""
    if value is None:
        return "auto"
    return str(value).lower() if isinstance(value, bool) else str(value)
