"""Synthetic rows of the five health tables: deterministic, streamed, made in whole columns.

Keys and nulls come from a counter-based generator (the row's number, hashed), so that a row can
repeat the key of any earlier row without keeping it. Values come from numpy's generator, seeded
by (seed, metric, number of the batch).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.batch import Batch, Location
from batchbench.errors import ConfigError
from batchbench.profile.tables import PROFILES, Profile

BATCH_ROWS = 65_536
USERS = 1_000
_START_US = 1_735_689_600_000_000  # 2025-01-01 00:00:00 UTC
_MINUTE_US = 60_000_000
_INTERVAL_MINUTES = {
    "heart_rate": 5,
    "blood_pressure": 12 * 60,
    "sleep": 24 * 60,
    "activity": 60,
    "workout": 2 * 24 * 60,
}
_STRATUM_ROWS = 1_000  # repeated keys are counted out and scattered within so many rows
_CONTEXTS = ("rest", "active", "workout", "sleep", "recovery")
_DEVICES = ("Apple Watch", "Garmin Fenix", "Fitbit Charge", "Oura Ring", "Withings ScanWatch")
_WORKOUTS = ("running", "cycling", "walking", "swimming", "strength", "yoga", "hiking")

Ints = NDArray[np.int64]
_Values = Mapping[str, pa.Array | NDArray[np.generic]]


def synthetic(
    metric: str,
    rows: int,
    *,
    seed: int = 0,
    duplicates: float = 0.0,
    nulls: float = 0.1,
    batch_rows: int = BATCH_ROWS,
) -> SyntheticRows:
    """Rows of one metric type, the same for the same arguments.

    duplicates: share of rows that repeat the key of an earlier row, scattered (exact in every
        1,000 rows but the last ones); else every key is unique.
    nulls: share of nulls in each nullable column.
    batch_rows: rows generated at a time; another number gives other values.
    Raises ConfigError on an unknown metric or a number out of range.
    """
    if metric not in PROFILES:
        raise ConfigError(f"{metric!r} is no metric; there are {', '.join(PROFILES)}")
    if rows < 0 or batch_rows < 1:
        raise ConfigError(f"rows: {rows} and batch_rows: {batch_rows}; 0 and 1 are the least")
    if not 0 <= duplicates < 1 or not 0 <= nulls <= 1:
        raise ConfigError(
            f"duplicates: {duplicates} and nulls: {nulls}; both are shares, from 0 to 1 "
            "(duplicates below 1: the first row repeats nothing)"
        )
    if seed < 0:
        raise ConfigError(f"seed: {seed}; it must be 0 or more")
    return SyntheticRows(PROFILES[metric], rows, seed, duplicates, nulls, batch_rows)


@dataclass(frozen=True, slots=True)
class SyntheticRows:
    """A source (see `sources.Source`) that makes its rows; it can be read again."""

    profile: Profile
    row_count: int
    seed: int
    duplicates: float
    nulls: float
    batch_rows: int

    @property
    def name(self) -> str:
        """For messages."""
        return f"synthetic {self.profile.metric}"

    @property
    def one_shot(self) -> bool:
        """False."""
        return False

    @property
    def schema_kind(self) -> Literal["declared"]:
        """The profile states the types."""
        return "declared"

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """None: rows of one table."""
        return {}

    def schema(self) -> pa.Schema:
        """The profile's columns."""
        return self.profile.arrow_schema

    def not_loaded(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def remarks(self) -> Mapping[str, int]:
        """Nothing."""
        return {}

    def fingerprint(self) -> str:
        """What the rows depend on."""
        shares = f"{self.duplicates}:{self.nulls}:{self.batch_rows}"
        return f"synthetic:{self.profile.metric}:{self.row_count}:{self.seed}:{shares}"

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """Make all rows, `max_rows` and about `max_bytes` a batch at most."""
        for first in range(0, self.row_count, self.batch_rows):
            count = min(self.batch_rows, self.row_count - first)
            columns = self._columns(first, count)
            row_bytes = max(1, -(-columns.nbytes // count))
            step = max(1, min(max_rows, max_bytes // row_bytes))
            whole = Batch(columns, Location(self.name, first + 1, count))
            for offset in range(0, count, step):
                yield whole.part(offset, min(step, count - offset))

    def _columns(self, first: int, count: int) -> pa.RecordBatch:
        # a last, shorter batch is the start of the full one: row k does not depend on row_count
        metric = zlib.crc32(self.profile.metric.encode())
        rng = np.random.default_rng([self.seed, metric, first // self.batch_rows])
        keys = self._key_numbers(first, self.batch_rows)
        at = self._times(keys)
        values = {"user_id": _uuids(self._user_pool(), keys % USERS)}
        values |= _MAKERS[self.profile.metric](rng, at)
        rows = np.arange(first, first + self.batch_rows)
        arrays = []
        for position, column in enumerate(self.profile.columns):
            made = values[column.name]
            array = made if isinstance(made, pa.Array) else pa.array(made).cast(column.arrow_type)
            if column.nullable and self.nulls > 0:
                null = _share(_hashed(rows, self.seed, 16 + position)) < self.nulls
                array = pc.if_else(pa.array(null), None, array)
            arrays.append(array)
        schema = self.profile.arrow_schema
        return pa.RecordBatch.from_arrays(arrays, schema=schema).slice(0, count)

    def _key_numbers(self, first: int, count: int) -> Ints:
        """The number of each row's key; a repeated key has the number of an earlier one."""
        rows = np.arange(first, first + count)
        if self.duplicates == 0:
            return rows
        start = first // _STRATUM_ROWS
        strata = np.arange(start, (first + count - 1) // _STRATUM_ROWS + 1)
        within = (strata[:, None] * _STRATUM_ROWS + np.arange(_STRATUM_ROWS)).ravel()
        order = _hashed(within, self.seed, 1).reshape(len(strata), _STRATUM_ROWS)
        order[within.reshape(order.shape) == 0] = np.iinfo(np.uint64).max  # row 0 repeats nothing
        rank = order.argsort(axis=1).argsort(axis=1)
        done = np.floor(strata * _STRATUM_ROWS * self.duplicates + 1e-9).astype(np.int64)
        through = np.floor((strata + 1) * _STRATUM_ROWS * self.duplicates + 1e-9).astype(np.int64)
        repeats = rank < (through - done)[:, None]
        before = done[:, None] + repeats.cumsum(axis=1) - repeats
        own = within - before.ravel()
        picked = (_share(_hashed(within, self.seed, 2)) * own).astype(np.int64)
        numbers = np.where(repeats.ravel(), picked, own)
        skipped = first - start * _STRATUM_ROWS
        picked_out: Ints = numbers[skipped : skipped + count].astype(np.int64)
        return picked_out

    def _times(self, keys: Ints) -> Ints:
        """Microseconds since 1970: one interval after the other per user, at a random second."""
        interval = _INTERVAL_MINUTES[self.profile.metric] * _MINUTE_US
        jitter = _share(_hashed(keys, self.seed, 3)) * interval
        at: Ints = _START_US + keys // USERS * interval + jitter.astype(np.int64)
        return at

    def _user_pool(self) -> NDArray[np.uint8]:
        return _uuid_bytes(np.random.default_rng([self.seed, 1]), USERS)


def _hashed(numbers: Ints, seed: int, stream: int) -> NDArray[np.uint64]:
    """splitmix64 of a row's number; `stream` sets independent uses apart."""
    salt = np.random.SeedSequence([seed, stream]).generate_state(1, np.uint64)[0]
    x = numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + salt
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _share(hashed: NDArray[np.uint64]) -> NDArray[np.float64]:
    """From 0 to just under 1."""
    share: NDArray[np.float64] = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return share


def _uuid_bytes(rng: np.random.Generator, count: int) -> NDArray[np.uint8]:
    raw = np.frombuffer(rng.bytes(count * 16), np.uint8).reshape(count, 16).copy()
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40  # version 4
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    return raw


def _uuids(pool: NDArray[np.uint8], picked: Ints | None = None) -> pa.Array:
    raw = pool if picked is None else pool[picked]
    buffer = pa.py_buffer(np.ascontiguousarray(raw))
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(raw), [None, buffer])


def _words(rng: np.random.Generator, words: tuple[str, ...], count: int) -> pa.Array:
    return pa.array(words).take(pa.array(rng.integers(0, len(words), count, np.int8)))


def _stamps(at: Ints) -> pa.Array:
    return pa.array(at).cast(pa.timestamp("us", "UTC"))


def _normal(
    rng: np.random.Generator, count: int, mean: float, spread: float, low: float, high: float
) -> NDArray[np.float64]:
    drawn = rng.standard_normal(count, np.float32) * spread + mean
    clipped: NDArray[np.float64] = np.clip(drawn, low, high).astype(np.float64)
    return clipped


def _heart_rate(rng: np.random.Generator, at: Ints) -> _Values:
    count = len(at)
    resting = _normal(rng, count, 60, 7, 40, 90).astype(np.int32)
    above = _normal(rng, count, 18, 22, 0, 105).astype(np.int32)
    return {
        "recorded_at": _stamps(at),
        "heart_rate": np.clip(resting + above, 45, 190),
        "resting_heart_rate": resting,
        "context": _words(rng, _CONTEXTS, count),
        "source_device": _words(rng, _DEVICES, count),
    }


def _blood_pressure(rng: np.random.Generator, at: Ints) -> _Values:
    count = len(at)
    systolic = _normal(rng, count, 122, 13, 85, 200).astype(np.int32)
    difference = _normal(rng, count, 44, 7, 25, 45).astype(np.int32)
    return {
        "recorded_at": _stamps(at),
        "systolic": systolic,
        "diastolic": systolic - difference,
        "pulse": _normal(rng, count, 70, 11, 45, 130).astype(np.int32),
        "source_device": _words(rng, _DEVICES, count),
    }


def _sleep(rng: np.random.Generator, at: Ints) -> _Values:
    """The four phases, awake ones included, add up to the duration."""
    count = len(at)
    duration = _normal(rng, count, 440, 60, 180, 660).astype(np.int64)
    deep = (duration * rng.uniform(0.12, 0.25, count)).astype(np.int64)
    rem = (duration * rng.uniform(0.15, 0.27, count)).astype(np.int64)
    awake = (duration * rng.uniform(0.01, 0.12, count)).astype(np.int64)
    return {
        "sleep_start": _stamps(at),
        "sleep_end": _stamps(at + duration * _MINUTE_US),
        "duration_minutes": duration,
        "deep_sleep_minutes": deep,
        "rem_sleep_minutes": rem,
        "light_sleep_minutes": duration - deep - rem - awake,
        "awake_minutes": awake,
        "efficiency": np.round((duration - awake) / duration * 100, 1),
        "source_device": _words(rng, _DEVICES, count),
    }


def _activity(rng: np.random.Generator, at: Ints) -> _Values:
    count = len(at)
    steps = np.minimum(rng.exponential(520, count), 9_000).astype(np.int64)
    return {
        "recorded_at": _stamps(at),
        "step_count": steps,
        "distance_meters": np.round(steps * rng.uniform(0.6, 0.85, count), 1),
        "active_energy_burned_kcal": np.round(steps * rng.uniform(0.03, 0.06, count), 2),
        "basal_energy_burned_kcal": np.round(rng.uniform(55, 95, count), 2),
        "flights_climbed": rng.poisson(0.8, count),
        "source_device": _words(rng, _DEVICES, count),
    }


def _workout(rng: np.random.Generator, at: Ints) -> _Values:
    count = len(at)
    minutes = _normal(rng, count, 45, 20, 10, 180)
    average = _normal(rng, count, 128, 15, 85, 170).astype(np.int32)
    return {
        "id": _uuids(_uuid_bytes(rng, count)),
        "workout_type": _words(rng, _WORKOUTS, count),
        "started_at": _stamps(at),
        "ended_at": _stamps(at + (minutes * _MINUTE_US).astype(np.int64)),
        "total_energy_kcal": np.round(minutes * rng.uniform(4, 13, count), 1),
        "distance_meters": np.round(minutes * rng.uniform(50, 350, count), 1),
        "avg_heart_rate": average,
        "max_heart_rate": average + rng.integers(5, 21, count),
        "source_device": _words(rng, _DEVICES, count),
    }


_MAKERS: Mapping[str, Callable[[np.random.Generator, Ints], _Values]] = {
    "heart_rate": _heart_rate,
    "blood_pressure": _blood_pressure,
    "sleep": _sleep,
    "activity": _activity,
    "workout": _workout,
}
