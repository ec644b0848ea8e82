"""The five health tables: columns, types, keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from batchbench.table import TableName, quote

_ARROW = {
    "uuid": pa.binary(16),
    "timestamptz": pa.timestamp("us", "UTC"),
    "int4": pa.int32(),
    "float8": pa.float64(),
    "text": pa.string(),
}


@dataclass(frozen=True, slots=True)
class ProfileColumn:
    """One column. `sql_type` is uuid, timestamptz, int4, float8 or text."""

    name: str
    sql_type: str
    nullable: bool = False

    @property
    def arrow_type(self) -> pa.DataType:
        """As synthetic rows hold it: a uuid is its 16 bytes, a timestamptz microseconds UTC."""
        return _ARROW[self.sql_type]


@dataclass(frozen=True, slots=True)
class Profile:
    """One metric type and its table.

    metric: "heart_rate" and so on. key: the columns of the table's primary key.
    """

    metric: str
    table_name: str
    columns: tuple[ProfileColumn, ...]
    key: tuple[str, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        """In table order."""
        return tuple(column.name for column in self.columns)

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as synthetic rows hold them."""
        return pa.schema(
            [pa.field(c.name, c.arrow_type, nullable=c.nullable) for c in self.columns]
        )

    @property
    def chunk_size_variable(self) -> str:
        """The environment variable that sets this metric's rows per chunk."""
        return f"BATCH_{self.metric.upper()}_CHUNK_SIZE"

    def create_sql(self, name: TableName | None = None) -> str:
        """CREATE TABLE, under the profile's own name unless another is given."""
        lines = [
            f"  {quote(c.name)} {c.sql_type}{'' if c.nullable else ' NOT NULL'}"
            for c in self.columns
        ]
        lines.append(f"  PRIMARY KEY ({', '.join(map(quote, self.key))})")
        table = (name or TableName(self.table_name)).sql
        return f"CREATE TABLE {table} (\n" + ",\n".join(lines) + "\n)"


def _profile(metric: str, table_name: str, key: str, columns: str) -> Profile:
    """columns: "name type" each, a question mark after the type where null is allowed."""
    parsed = []
    for entry in columns.split(","):
        name, sql_type = entry.split()
        parsed.append(ProfileColumn(name, sql_type.rstrip("?"), sql_type.endswith("?")))
    return Profile(metric, table_name, tuple(parsed), tuple(key.split()))


PROFILES: Mapping[str, Profile] = {
    profile.metric: profile
    for profile in (
        _profile(
            "heart_rate",
            "heart_rate_metrics",
            "user_id recorded_at",
            "user_id uuid, recorded_at timestamptz, heart_rate int4, resting_heart_rate int4?,"
            "context text?, source_device text?",
        ),
        _profile(
            "blood_pressure",
            "blood_pressure_metrics",
            "user_id recorded_at",
            "user_id uuid, recorded_at timestamptz, systolic int4, diastolic int4, pulse int4?,"
            "source_device text?",
        ),
        _profile(
            "sleep",
            "sleep_metrics",
            "user_id sleep_start",
            "user_id uuid, sleep_start timestamptz, sleep_end timestamptz, duration_minutes int4,"
            "deep_sleep_minutes int4?, rem_sleep_minutes int4?, light_sleep_minutes int4?,"
            "awake_minutes int4?, efficiency float8?, source_device text?",
        ),
        _profile(
            "activity",
            "activity_metrics",
            "user_id recorded_at",
            "user_id uuid, recorded_at timestamptz, step_count int4?, distance_meters float8?,"
            "active_energy_burned_kcal float8?, basal_energy_burned_kcal float8?,"
            "flights_climbed int4?, source_device text?",
        ),
        _profile(
            "workout",
            "workouts",
            "user_id started_at",
            "id uuid, user_id uuid, workout_type text, started_at timestamptz,"
            "ended_at timestamptz, total_energy_kcal float8?, distance_meters float8?,"
            "avg_heart_rate int4?, max_heart_rate int4?, source_device text?",
        ),
    )
}
"""By metric type."""
