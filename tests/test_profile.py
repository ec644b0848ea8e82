"""The five tables, and what synthetic rows promise."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from batchbench.errors import ConfigError
from batchbench.profile import PROFILES, SyntheticRows, synthetic
from batchbench.table import TableName

BIG = 1 << 40


def table(source: SyntheticRows, max_rows: int = 65_536) -> pa.Table:
    return pa.Table.from_batches([b.columns for b in source.batches(max_rows, BIG)])


def key_count(rows: pa.Table, metric: str) -> int:
    return rows.group_by(list(PROFILES[metric].key)).aggregate([]).num_rows


def test_the_five_tables_have_the_columns_of_the_design() -> None:
    widths = {metric: len(profile.columns) for metric, profile in PROFILES.items()}
    assert widths == {
        "heart_rate": 6,
        "blood_pressure": 6,
        "sleep": 10,
        "activity": 8,
        "workout": 10,
    }
    assert PROFILES["workout"].table_name == "workouts"
    assert PROFILES["sleep"].chunk_size_variable == "BATCH_SLEEP_CHUNK_SIZE"


def test_create_sql() -> None:
    assert PROFILES["heart_rate"].create_sql(TableName("t", "my schema")) == (
        'CREATE TABLE "my schema"."t" (\n'
        '  "user_id" uuid NOT NULL,\n'
        '  "recorded_at" timestamptz NOT NULL,\n'
        '  "heart_rate" int4 NOT NULL,\n'
        '  "resting_heart_rate" int4,\n'
        '  "context" text,\n'
        '  "source_device" text,\n'
        '  PRIMARY KEY ("user_id", "recorded_at")\n'
        ")"
    )
    assert 'PRIMARY KEY ("user_id", "started_at")' in PROFILES["workout"].create_sql()


@pytest.mark.parametrize("metric", PROFILES)
def test_rows_are_deterministic_unique_and_of_the_schema(metric: str) -> None:
    rows = table(synthetic(metric, 70_000, seed=3))
    assert rows.schema == PROFILES[metric].arrow_schema
    assert rows.num_rows == 70_000
    assert key_count(rows, metric) == 70_000
    assert rows.equals(table(synthetic(metric, 70_000, seed=3), max_rows=999))
    assert not rows.equals(table(synthetic(metric, 70_000, seed=4)))


@pytest.mark.parametrize("metric", PROFILES)
def test_fewer_rows_are_a_prefix_of_more(metric: str) -> None:
    more = table(synthetic(metric, 66_000, duplicates=0.2))
    assert table(synthetic(metric, 65_700, duplicates=0.2)).equals(more.slice(0, 65_700))


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5])
def test_duplicates_repeat_earlier_keys_in_the_share_asked_for(share: float) -> None:
    rows = table(synthetic("heart_rate", 100_000, duplicates=share))
    assert key_count(rows, "heart_rate") == 100_000 - round(share * 100_000)
    # scattered: repeats are in every tenth of the rows, and not at one distance
    seen: set[tuple[bytes, int]] = set()
    repeats = []
    keys = zip(
        rows["user_id"].to_pylist(), rows["recorded_at"].cast(pa.int64()).to_pylist(), strict=True
    )
    for number, key in enumerate(keys):
        if key in seen:
            repeats.append(number)
        seen.add(key)
    assert {number // 10_000 for number in repeats} == set(range(10))
    assert len(set(np.diff(repeats))) > 1


def test_nulls_are_in_nullable_columns_only_and_of_the_share() -> None:
    rows = table(synthetic("sleep", 50_000, nulls=0.3))
    for column in PROFILES["sleep"].columns:
        share = rows[column.name].null_count / 50_000
        assert share == pytest.approx(0.3 if column.nullable else 0.0, abs=0.01)
    assert sum(c.null_count for c in table(synthetic("sleep", 1_000, nulls=0)).columns) == 0


def test_values_are_plausible() -> None:
    heart = table(synthetic("heart_rate", 50_000))["heart_rate"]
    assert pc.min(heart).as_py() >= 45
    assert pc.max(heart).as_py() <= 190
    sleep = table(synthetic("sleep", 50_000, nulls=0)).to_pandas()
    phases = ["deep_sleep_minutes", "rem_sleep_minutes", "light_sleep_minutes", "awake_minutes"]
    assert (sleep[phases].sum(axis=1) == sleep["duration_minutes"]).all()
    assert (sleep[phases].min() >= 0).all()
    minutes = (sleep["sleep_end"] - sleep["sleep_start"]).dt.total_seconds() / 60
    assert (minutes == sleep["duration_minutes"]).all()
    pressure = table(synthetic("blood_pressure", 50_000)).to_pandas()
    assert (pressure["diastolic"] < pressure["systolic"]).all()


def test_batches_keep_to_rows_and_bytes_and_say_where_they_are() -> None:
    batches = list(synthetic("activity", 100_000).batches(7_000, 100_000))
    assert max(b.row_count for b in batches) <= 7_000
    assert max(b.columns.nbytes for b in batches) <= 120_000
    expected = 1
    for batch in batches:
        assert batch.location.first_row == expected
        assert batch.location.row_count == batch.row_count
        expected += batch.row_count
    assert expected == 100_001


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("steps", {}),
        ("sleep", {"duplicates": 1.0}),
        ("sleep", {"nulls": 1.1}),
        ("sleep", {"seed": -1}),
        ("sleep", {"batch_rows": 0}),
    ],
)
def test_impossible_numbers_are_refused(metric: str, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        synthetic(metric, 10, **options)  # type: ignore[arg-type]


def test_no_rows() -> None:
    assert list(synthetic("workout", 0).batches(10, 10)) == []
