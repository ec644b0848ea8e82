"""The tables that are loaded: columns, keys, and the SQL that makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from batchbench.profile import PROFILES
from batchbench.table import quote

ARROW: Mapping[str, pa.DataType] = {
    "uuid": pa.binary(16),
    "timestamptz": pa.timestamp("us", "UTC"),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float8": pa.float64(),
    "bool": pa.bool_(),
    "text": pa.string(),
    "jsonb": pa.string(),
}
"""How Arrow and Parquet hold each SQL type. A uuid is its 16 bytes, a jsonb its text."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `sql_type` is a key of ARROW."""

    name: str
    sql_type: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class BenchTable:
    """A table of schema public.

    key: columns of the primary key, whose clashes are skipped (ON CONFLICT DO NOTHING); empty
        for a table without any index. rows_of: the name of the table that has the same rows.
    """

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    rows_of: str = ""

    @property
    def rows_name(self) -> str:
        """Under which the rows are made and kept; tables of the same rows share it."""
        return self.rows_of or self.name

    @property
    def sql(self) -> str:
        """The quoted name."""
        return quote(self.name)

    @property
    def column_names(self) -> tuple[str, ...]:
        """In table order, which is the rows' order too."""
        return tuple(column.name for column in self.columns)

    @property
    def columns_sql(self) -> str:
        """Quoted names, with commas."""
        return ", ".join(quote(name) for name in self.column_names)

    @property
    def conflict_sql(self) -> str:
        """The ON CONFLICT clause, with a space before it; empty without a key."""
        if not self.key:
            return ""
        return f" ON CONFLICT ({', '.join(map(quote, self.key))}) DO NOTHING"

    @property
    def arrow_schema(self) -> pa.Schema:
        """The columns as Arrow and Parquet hold them."""
        return pa.schema(
            [pa.field(c.name, ARROW[c.sql_type], nullable=c.nullable) for c in self.columns]
        )

    def positions(self, sql_type: str) -> tuple[int, ...]:
        """Of the columns of that type."""
        return tuple(i for i, c in enumerate(self.columns) if c.sql_type == sql_type)

    @property
    def create_sql(self) -> str:
        """CREATE TABLE. Autovacuum is off: it would strike some loads and not others."""
        lines = [
            f"{quote(c.name)} {c.sql_type}{'' if c.nullable else ' NOT NULL'}" for c in self.columns
        ]
        if self.key:
            lines.append(f"PRIMARY KEY ({', '.join(map(quote, self.key))})")
        return f"CREATE TABLE {self.sql} ({', '.join(lines)}) WITH (autovacuum_enabled = false)"


def parse_columns(text: str) -> tuple[Column, ...]:
    """Columns of "name type, name type?"; the question mark means nullable."""
    parsed = []
    for part in text.split(","):
        name, sql_type = part.split()
        parsed.append(Column(name, sql_type.rstrip("?"), sql_type.endswith("?")))
    return tuple(parsed)


def _of_profile(metric: str) -> tuple[Column, ...]:
    return tuple(Column(c.name, c.sql_type, c.nullable) for c in PROFILES[metric].columns)


# What the activity table of a real service had grown to.
ACTIVITY_EXTRA = parse_columns(
    "heart_rate_min int4?, heart_rate_max int4?, heart_rate_avg float8?, stand_minutes int4?,"
    "exercise_minutes int4?, move_minutes int4?, walking_speed float8?, step_length_cm float8?,"
    "asymmetry_pct float8?, double_support_pct float8?, stair_ascent_speed float8?,"
    "stair_descent_speed float8?, six_minute_walk_m float8?, vo2_max float8?,"
    "running_power_w float8?, running_speed float8?, cycling_meters float8?,"
    "swimming_meters float8?, swim_strokes int4?, wheelchair_pushes int4?, audio_db float8?,"
    "daylight_minutes int4?, user_entered bool, sync_batch int8, timezone text?,"
    "app_version text?, device_model text?, received_at timestamptz"
)

TABLES: Mapping[str, BenchTable] = {
    table.name: table
    for table in (
        BenchTable("heart_rate", _of_profile("heart_rate")),
        BenchTable(
            "heart_rate_keyed",
            _of_profile("heart_rate"),
            key=("user_id", "recorded_at"),
            rows_of="heart_rate",
        ),
        BenchTable("activity36", _of_profile("activity") + ACTIVITY_EXTRA),
        BenchTable(
            "flights",
            parse_columns(
                "year int4, month int4, day int4, dep_time int4?, sched_dep_time int4,"
                "dep_delay float8?, arr_time int4?, sched_arr_time int4, arr_delay float8?,"
                "carrier text, flight int4, tailnum text?, origin text, dest text,"
                "air_time float8?, distance float8, hour int4, minute int4, time_hour timestamptz"
            ),
        ),
        BenchTable(
            "events", parse_columns("id int8, received_at timestamptz, kind text, payload jsonb")
        ),
    )
}
"""By name."""
