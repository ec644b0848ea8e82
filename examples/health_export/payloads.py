"""Synthetic payloads: flat JSON of all five metric types, some of it bad, some sent twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from batchbench.profile import PROFILES, synthetic

SHARES = {"heart_rate": 70, "activity": 18, "blood_pressure": 5, "sleep": 4, "workout": 3}
"""Percent of a payload; heart rate is what devices send most."""

_KINDS = {
    "heart_rate": "HeartRate",
    "blood_pressure": "BloodPressure",
    "sleep": "Sleep",
    "activity": "Activity",
}
_EVERY_BAD = 100  # of them one does not fit its column
_EVERY_AGAIN = 5  # of them one payload is an earlier one once more
_TOO_LARGE = 3_000_000_000  # for an int4
_SPOILT = {"heart_rate": "heart_rate", "activity": "step_count", "blood_pressure": "systolic"}


@dataclass(frozen=True, slots=True)
class Payload:
    """A body, and how many metrics of each type are in it, as the service has to find them.

    bad: of all, those that cannot be loaded. again: whether it was sent before.
    """

    body: bytes
    sent: Counter[str]
    bad: int
    again: bool


def payloads(count: int, metrics: int, seed: int = 1) -> Iterator[Payload]:
    """`count` payloads of `metrics` metrics each, no key twice but in those that are sent again."""
    rows = {metric: _rows(metric, count * metrics, seed) for metric in SHARES}
    latest: Payload | None = None
    for number in range(1, count + 1):
        if latest is not None and number % _EVERY_AGAIN == 0:
            yield Payload(latest.body, latest.sent, latest.bad, again=True)
            continue
        latest = _payload(rows, metrics)
        yield latest


def _payload(rows: dict[str, Iterator[dict[str, Any]]], metrics: int) -> Payload:
    sent = Counter({metric: metrics * share // 100 for metric, share in SHARES.items()})
    sent["heart_rate"] += metrics - sent.total()
    records: dict[str, list[dict[str, Any]]] = {"metrics": [], "workouts": []}
    bad = 0
    for metric, row_count in sent.items():
        made = [next(rows[metric]) for _ in range(row_count)]
        for row in made[::_EVERY_BAD] if metric in _SPOILT else ():
            row[_SPOILT[metric]] = _TOO_LARGE
            bad += 1
        records["workouts" if metric == "workout" else "metrics"] += made
    return Payload(json.dumps({"data": records}).encode(), sent, bad, again=False)


def _rows(metric: str, row_count: int, seed: int) -> Iterator[dict[str, Any]]:
    for batch in synthetic(metric, row_count, seed=seed).batches(8_192, 64 << 20):
        for row in batch.columns.to_pylist():
            yield {name: _plain(value) for name, value in row.items()} | (
                {"type": _KINDS[metric]} if metric in _KINDS else {}
            )


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return str(UUID(bytes=value))
    return value.isoformat() if isinstance(value, datetime) else value


def tables() -> str:
    """CREATE TABLE for the five."""
    return ";\n".join(profile.create_sql() for profile in PROFILES.values())
