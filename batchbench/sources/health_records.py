"""One record of a health payload -> its metric type and a row, keyed by column name.

Conversions, all counted as remarks: kJ / 4.184 = kcal; km x 1000 = m; mi x 1609.344 = m; hours
of sleep x 60, rounded to whole minutes (the columns count minutes). Everything else is handed on
as it stands, an average of 64.4 beats included: the casts decide.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from batchbench.sources.health_events import Record

WORKOUT_NAMESPACE = UUID("8f1b6f0e-7f0b-5f4e-9d53-3b0f0d2d9a55")
"""Workouts without an id get uuid5 of this and "user_id start"."""

Row = dict[str, Any]
Remarks = Counter[str]

_METRES = {"m": 1.0, "km": 1000.0, "mi": 1609.344}
_KCAL = {"kcal": 1.0, "kJ": 1 / 4.184}
_FLAT_KINDS = {"workouts": "workout", "sleep_analysis": "sleep"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class UnloadableError(Exception):
    """A record that cannot become a row; the text says of which kind, or why."""


def translated(record: Record, user_id: str | None, remarks: Remarks) -> tuple[str, Row]:
    """The record's metric type and row. Keys that are no columns stay in the row.

    Raises UnloadableError where it has no type, or an export's sample is of an unknown type or
    unit.
    """
    if record.kind is None:
        raise UnloadableError("record without a type")
    if record.flat:
        snake = _CAMEL.sub("_", record.kind).lower().replace(" ", "_")
        metric = _FLAT_KINDS.get(snake, snake if snake in _METRICS else record.kind)
        row = record.body
    elif record.kind == "workout":
        metric, row = "workout", _workout(dict(record.body), remarks)
    else:
        if record.kind not in _EXPORT:
            raise UnloadableError(record.kind)
        metric, translate = _EXPORT[record.kind]
        row = translate(record, dict(record.body), remarks)
    if user_id is not None and row.get("user_id") is None:
        row["user_id"] = user_id
    if metric == "workout" and row.get("id") is None:
        who_and_when = f"{row.get('user_id')} {row.get('started_at')}"
        # Half a surrogate pair there has no bytes; the row is refused for it.
        row["id"] = str(uuid5(WORKOUT_NAMESPACE, who_and_when.encode(errors="replace").decode()))
    return metric, row


def _renamed(row: Row, **columns: str) -> Row:
    """columns: column name = the payload's key."""
    for name, key in columns.items():
        if key in row and name not in row:
            row[name] = row.pop(key)
    return row


def _expect_units(record: Record, *allowed: str) -> None:
    if record.units is not None and record.units not in allowed:
        raise UnloadableError(f"{record.kind}: in units {record.units!r}")


def _heart_rate(record: Record, row: Row, remarks: Remarks) -> Row:
    _expect_units(record, "count/min", "bpm")
    row = _renamed(row, recorded_at="date", heart_rate="Avg", source_device="source")
    return _renamed(row, heart_rate="qty")


def _blood_pressure(record: Record, row: Row, remarks: Remarks) -> Row:
    _expect_units(record, "mmHg")
    return _renamed(row, recorded_at="date", source_device="source")


def _sleep(record: Record, row: Row, remarks: Remarks) -> Row:
    """duration_minutes: hours asleep (else the sum of the phases), and awake."""
    _expect_units(record, "hr", "h", "hour", "hours")
    start = "sleepStart" if row.get("sleepStart") else "inBedStart"
    end = "sleepEnd" if row.get("sleepEnd") else "inBedEnd"
    if not row.get(start) or not row.get(end):
        raise UnloadableError("sleep_analysis: without sleepStart and sleepEnd")
    row = _renamed(row, sleep_start=start, sleep_end=end, source_device="source")
    hours = {key: row.pop(key, None) for key in ("asleep", "deep", "rem", "core", "awake")}
    if any(not _is_number(value) for value in hours.values() if value is not None):
        raise UnloadableError("sleep_analysis: hours that are no numbers")
    phases = [hours[key] for key in ("deep", "rem", "core") if hours[key] is not None]
    asleep = hours["asleep"] or (sum(phases) if phases else hours["asleep"])
    total = None if asleep is None else asleep + (hours["awake"] or 0)
    row["duration_minutes"] = _minutes(total, remarks)
    row["deep_sleep_minutes"] = _minutes(hours["deep"], remarks)
    row["rem_sleep_minutes"] = _minutes(hours["rem"], remarks)
    row["light_sleep_minutes"] = _minutes(hours["core"], remarks)
    row["awake_minutes"] = _minutes(hours["awake"], remarks)
    return row


def _minutes(hours: float | None, remarks: Remarks) -> int | None:
    if hours is None:
        return None
    exact = hours * 60
    if abs(exact - round(exact)) > 1e-3:
        remarks["sleep: hours were rounded to whole minutes"] += 1
    return round(exact)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _quantity(column: str, factors: dict[str, float]) -> Callable[[Record, Row, Remarks], Row]:
    """An activity row of one sample: `qty` in one of the units becomes `column`."""

    def translate(record: Record, row: Row, remarks: Remarks) -> Row:
        row = _renamed(row, recorded_at="date", source_device="source")
        row[column] = _converted(
            str(record.kind), row.pop("qty", None), record.units, factors, remarks
        )
        return row

    return translate


def _converted(
    what: str, quantity: Any, units: str | None, factors: dict[str, float], remarks: Remarks
) -> Any:
    base = next(iter(factors))
    if units is None and len(factors) > 1:
        raise UnloadableError(f"{what}: without units")
    factor = factors.get(units or base)
    if factor is None:
        raise UnloadableError(f"{what}: in units {units!r}")
    if factor == 1 or quantity is None:
        return quantity
    if not _is_number(quantity):
        raise UnloadableError(f"{what}: a quantity that is no number")
    remarks[f"{what}: converted from {units} to {base}"] += 1
    return quantity * factor


def _workout(row: Row, remarks: Remarks) -> Row:
    row = _renamed(
        row, workout_type="name", started_at="start", ended_at="end", source_device="source"
    )
    energy = next(
        (k for k in ("totalEnergy", "activeEnergyBurned", "activeEnergy") if k in row), None
    )
    if energy:
        row["total_energy_kcal"] = _measure("workout energy", row.pop(energy), _KCAL, remarks)
    if "distance" in row:
        row["distance_meters"] = _measure("workout distance", row.pop("distance"), _METRES, remarks)
    rates = row.pop("heartRate", None)
    for column, flat, nested in (
        ("avg_heart_rate", "avgHeartRate", "avg"),
        ("max_heart_rate", "maxHeartRate", "max"),
    ):
        rate = row.pop(flat, None) or (rates.get(nested) if isinstance(rates, dict) else None)
        row[column] = rate.get("qty") if isinstance(rate, dict) else rate
    return row


def _measure(what: str, value: Any, factors: dict[str, float], remarks: Remarks) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise UnloadableError(f"{what}: without units")
    return _converted(what, value.get("qty"), value.get("units"), factors, remarks)


_METRICS = ("heart_rate", "blood_pressure", "sleep", "activity", "workout")
_COUNT = {"count": 1.0}
_EXPORT: dict[str, tuple[str, Callable[[Record, Row, Remarks], Row]]] = {
    "heart_rate": ("heart_rate", _heart_rate),
    "blood_pressure": ("blood_pressure", _blood_pressure),
    "sleep_analysis": ("sleep", _sleep),
    "step_count": ("activity", _quantity("step_count", _COUNT)),
    "flights_climbed": ("activity", _quantity("flights_climbed", _COUNT)),
    "active_energy": ("activity", _quantity("active_energy_burned_kcal", _KCAL)),
    "basal_energy_burned": ("activity", _quantity("basal_energy_burned_kcal", _KCAL)),
    "walking_running_distance": ("activity", _quantity("distance_meters", _METRES)),
}
