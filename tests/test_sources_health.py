"""Health payloads: two shapes, five tables, nothing dropped in silence."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batchbench.errors import InputError
from batchbench.profile import PROFILES
from batchbench.sources import HealthOptions, Source, open_source

BIG = 1 << 40
USER = "11111111-2222-4333-8444-555555555555"
COLUMNS = {metric: profile.arrow_schema for metric, profile in PROFILES.items()}


def payload(metrics: list[Any], workouts: list[Any] | None = None) -> bytes:
    data: dict[str, Any] = {"metrics": metrics}
    if workouts is not None:
        data["workouts"] = workouts
    return json.dumps({"data": data}).encode()


def opened(raw: bytes, user_id: str | None = None) -> Source:
    return open_source(io.BytesIO(raw), health=HealthOptions(COLUMNS, user_id))


def rows_of(source: Source) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = {}
    for batch in source.batches(1_000, BIG):
        assert batch.target is not None
        assert batch.columns.schema.names == list(PROFILES[batch.target].column_names)
        held = rows.setdefault(batch.target, [])
        assert batch.location.first_row == len(held) + 1
        held.extend(batch.columns.to_pylist())
    return rows


def export(name: str, units: str | None, *samples: dict[str, Any]) -> dict[str, Any]:
    metric: dict[str, Any] = {"name": name, "data": list(samples)}
    return metric if units is None else {"name": name, "units": units, "data": list(samples)}


AT = "2025-09-09 05:06:07 +0000"


def test_flat_records_fan_out() -> None:
    source = opened(
        payload(
            [
                {"type": "HeartRate", "user_id": USER, "recorded_at": AT, "heart_rate": 64},
                {"type": "heart_rate", "user_id": USER, "recorded_at": AT, "heart_rate": 65},
                {"type": "BloodPressure", "user_id": USER, "recorded_at": AT, "systolic": 120},
                {"type": "Sleep", "user_id": USER, "sleep_start": AT, "efficiency": 90},
                {"type": "Activity", "user_id": USER, "recorded_at": AT, "step_count": None},
                {"type": "BodyTemperature", "user_id": USER, "celsius": 37},
                {"type": "BodyTemperature", "user_id": USER, "celsius": 36},
                {"user_id": USER},
            ],
            [{"user_id": USER, "workout_type": "run", "started_at": AT, "ended_at": AT}],
        )
    )
    assert set(source.targets) == set(PROFILES)
    rows = rows_of(source)
    counts = {metric: len(found) for metric, found in rows.items()}
    assert counts == {
        "heart_rate": 2,
        "blood_pressure": 1,
        "sleep": 1,
        "activity": 1,
        "workout": 1,
    }
    assert rows["heart_rate"][0]["user_id"] == USER
    assert rows["heart_rate"][0]["recorded_at"].isoformat() == "2025-09-09T05:06:07+00:00"
    assert rows["sleep"][0]["efficiency"] == 90.0
    assert source.not_loaded() == {"BodyTemperature": 2, "record without a type": 1}


def test_keys_without_a_column_are_counted() -> None:
    record = {"type": "HeartRate", "recorded_at": AT, "heart_rate": 1, "hrv": 5, "systolic": None}
    source = opened(payload([record, record]))
    rows_of(source)
    assert source.remarks() == {"heart_rate: key 'hrv' has no column, left out": 2}


def test_export_of_heart_rate() -> None:
    sample = {"date": AT, "Min": 61, "Avg": 64, "Max": 70, "source": "Watch"}
    rows = rows_of(source := opened(payload([export("heart_rate", "count/min", sample)]), USER))
    (row,) = rows["heart_rate"]
    assert (row["heart_rate"], row["source_device"], row["user_id"]) == (64, "Watch", USER)
    assert row["recorded_at"].isoformat() == "2025-09-09T05:06:07+00:00"
    assert len(source.remarks()) == 2  # Min, Max


def test_an_average_with_a_fraction_is_not_rounded() -> None:
    samples = [{"date": AT, "Avg": 64.4}, {"date": AT, "Avg": 65.0}]
    rows = rows_of(opened(payload([export("heart_rate", "bpm", *samples)]), USER))
    assert [row["heart_rate"] for row in rows["heart_rate"]] == [64.4, 65.0]


def test_export_of_sleep() -> None:
    night = {
        "sleepStart": "2025-09-09 22:00:00 +0200",
        "sleepEnd": "2025-09-10 06:00:00 +0200",
        "asleep": 7.5,
        "deep": 1.25,
        "rem": 1.7833333333333332,
        "core": 4.466666666666667,
        "awake": 0.5,
        "source": "Ring",
    }
    odd = {"inBedStart": AT, "sleepEnd": AT, "asleep": 7.123}
    source = opened(payload([export("sleep_analysis", "hr", night, odd, {"asleep": 1})]), USER)
    first, second = rows_of(source)["sleep"]
    assert first["sleep_start"].isoformat() == "2025-09-09T20:00:00+00:00"
    minutes = ("duration", "deep_sleep", "rem_sleep", "light_sleep", "awake")
    assert [first[f"{name}_minutes"] for name in minutes] == [480, 75, 107, 268, 30]
    assert second["duration_minutes"] == 427
    assert source.remarks()["sleep: hours were rounded to whole minutes"] == 1
    assert source.not_loaded() == {"sleep_analysis: without sleepStart and sleepEnd": 1}


def test_export_of_activity_and_units() -> None:
    source = opened(
        payload(
            [
                export("step_count", "count", {"date": AT, "qty": 100}),
                export("active_energy", "kJ", {"date": AT, "qty": 41.84}),
                export("basal_energy_burned", "kcal", {"date": AT, "qty": 70}),
                export("walking_running_distance", "km", {"date": AT, "qty": 1.5}),
                export("walking_running_distance", "mi", {"date": AT, "qty": 1}),
                export("walking_running_distance", "ft", {"date": AT, "qty": 1}),
                export("active_energy", None, {"date": AT, "qty": 1}),
                export("heart_rate", "Hz", {"date": AT, "Avg": 1}),
                export("vo2_max", "ml", {"date": AT, "qty": 1}, {"date": AT, "qty": 2}),
            ]
        ),
        USER,
    )
    rows = rows_of(source)["activity"]
    assert [row["step_count"] for row in rows] == [100, None, None, None, None]
    assert rows[1]["active_energy_burned_kcal"] == pytest.approx(10.0)
    assert rows[2]["basal_energy_burned_kcal"] == 70.0
    assert [row["distance_meters"] for row in rows[3:]] == [1500.0, 1609.344]
    assert source.not_loaded() == {
        "walking_running_distance: in units 'ft'": 1,
        "active_energy: without units": 1,
        "heart_rate: in units 'Hz'": 1,
        "vo2_max": 2,
    }


def test_export_of_workouts_gets_a_steady_id() -> None:
    workout = {
        "name": "Running",
        "start": AT,
        "end": "2025-09-09 06:06:07 +0000",
        "activeEnergy": {"qty": 418.4, "units": "kJ"},
        "distance": {"qty": 5, "units": "km"},
        "heartRate": {"avg": {"qty": 140, "units": "bpm"}, "max": {"qty": 170, "units": "bpm"}},
    }
    raw = payload([], [workout, {**workout, "id": USER}])
    first, second = rows_of(opened(raw, USER))["workout"]
    assert first["workout_type"] == "Running"
    assert first["total_energy_kcal"] == pytest.approx(100.0)
    assert (first["distance_meters"], first["avg_heart_rate"], first["max_heart_rate"]) == (
        5000.0,
        140,
        170,
    )
    assert second["id"] == USER
    assert first["id"] == rows_of(opened(raw, USER))["workout"][0]["id"]


def test_an_export_without_a_user_says_what_to_do() -> None:
    with pytest.raises(InputError, match="--user-id"):
        rows_of(opened(payload([export("heart_rate", None, {"date": AT, "Avg": 1})])))


@pytest.mark.parametrize("from_stream", [True, False])
def test_samples_before_their_name(tmp_path: Path, from_stream: bool) -> None:
    raw = json.dumps(
        {
            "data": {
                "metrics": [
                    {"name": "heart_rate", "units": "bpm", "data": [{"date": AT, "Avg": 60}]},
                    {"type": "Activity", "user_id": USER, "recorded_at": AT},
                    {"data": [{"date": AT, "qty": 7}], "units": "count", "name": "step_count"},
                    {"data": [{"date": AT, "Avg": 61}], "units": "bpm", "name": "heart_rate"},
                ],
            }
        }
    ).encode()
    path = tmp_path / "export.json"
    path.write_bytes(raw)
    health = HealthOptions(COLUMNS, USER)
    source = open_source(io.BytesIO(raw) if from_stream else path, health=health)
    for _ in range(2):  # a stream is kept on disk, so that it can be read again
        rows = rows_of(source)
        assert [row["heart_rate"] for row in rows["heart_rate"]] == [60, 61]
        assert [row["step_count"] for row in rows["activity"]] == [None, 7]


def test_broken_payloads() -> None:
    good = payload([{"type": "HeartRate", "recorded_at": AT, "context": "s3cr3tvalue"}])
    with pytest.raises(InputError, match="cut off") as caught:
        rows_of(opened(good[:-4]))
    assert "s3cr3t" not in str(caught.value)
    assert caught.value.__suppress_context__
    with pytest.raises(InputError, match='no "metrics" or "workouts"'):
        rows_of(open_source(io.BytesIO(b'{"a":1}'), format="health", health=HealthOptions(COLUMNS)))


def test_columns_of_a_drifted_table_are_filled() -> None:
    drifted = COLUMNS["heart_rate"].append(pa.field("hrv", pa.float64()))
    record = {"type": "HeartRate", "recorded_at": AT, "heart_rate": 1, "hrv": 5}
    health = HealthOptions({"heart_rate": drifted})
    source = open_source(io.BytesIO(payload([record, {"type": "Sleep"}])), health=health)
    (batch,) = source.batches(10, BIG)
    assert batch.columns["hrv"].to_pylist() == [5.0]
    assert source.not_loaded() == {"sleep": 1}
    assert source.remarks() == {}


def test_a_long_metric_is_streamed() -> None:
    count = 60_000

    class Endless(io.RawIOBase):
        """A payload of one metric with many samples, made as it is read."""

        def __init__(self) -> None:
            self._parts = self._made()
            self._held = b""

        def _made(self) -> Iterator[bytes]:
            yield b'{"data":{"metrics":[{"name":"heart_rate","units":"bpm","data":['
            sample = json.dumps({"date": AT, "Avg": 60, "source": "Watch"}).encode()
            yield sample
            for _ in range((count - 1) // 100):
                yield b"," + b",".join([sample] * 100)
            yield b"]}]}}"

        def read(self, size: int = -1) -> bytes:
            while len(self._held) < size and (part := next(self._parts, b"")):
                self._held += part
            taken, self._held = self._held[:size], self._held[size:]
            return taken

    source = open_source(Endless(), health=HealthOptions(COLUMNS, USER))
    tracemalloc.start()
    rows = 0
    for batch in source.batches(2_000, BIG):
        rows += batch.row_count
        if rows == 10_000:
            tracemalloc.reset_peak()
            early = tracemalloc.get_traced_memory()[0]
    late = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 1 + (count - 1) // 100 * 100
    assert late < early + (8 << 20)
