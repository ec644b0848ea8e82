"""Runs as pandas frames, for notebooks and exports. pandas is imported on use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchbench.errors import ConfigError
from batchbench.results.reading import load_run
from batchbench.results.records import Run, TrialRecord

if TYPE_CHECKING:
    from pandas import DataFrame

_CATEGORIES = ("run_id", "kind", "table", "strategy", "driver", "status", "table_state", "regime")
_NO_COLUMNS = ("observed", "unobserved", "waits")
_LISTS = ("chunk_seconds", "rows_by_second", "arrival_seconds", "behind_seconds")
_DERIVED = ("p50_s", "p95_s", "p99_s", "max_s", "usable")
_FORMATS = ("csv", "parquet")


def load(path: Path | str) -> DataFrame:
    """One run as a frame, one row a trial (warm-ups too: see `kind`).

    Columns: run_id, then those of `TrialRecord` (server_settings as "name=value" with commas,
    `unobserved` and `waits` left out), then p50_s, p95_s, p99_s, max_s and usable, then what was
    observed. Figures that were not measured are NaN, counts then of type Int64.
    Raises InputError where there is no run.
    """
    return frame(load_run(Path(path)))


def load_many(paths: Iterable[Path | str]) -> DataFrame:
    """Several runs as one frame, told apart by `run_id`."""
    import pandas as pd

    frames = [load(path) for path in paths]
    if not frames:
        raise ConfigError("no run is named")
    return _typed(pd.concat([part.astype(object) for part in frames], ignore_index=True))


def frame(run: Run) -> DataFrame:
    """A run that is in memory."""
    import pandas as pd

    names = [field.name for field in fields(TrialRecord) if field.name not in _NO_COLUMNS]
    seen = sorted({name for record in run.records for name in record.observed})
    rows = [
        {
            "run_id": run.info.run_id,
            **{name: _plain(getattr(record, name)) for name in names},
            **{name: getattr(record, name) for name in _DERIVED},
            **{name: record.observed.get(name) for name in seen},
        }
        for record in run.records
    ]
    made = _typed(pd.DataFrame(rows, columns=["run_id", *names, *_DERIVED, *seen]))
    return made.astype(dict.fromkeys(seen, "float64"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={setting}" for name, setting in value.items())
    return list(value) if isinstance(value, tuple) else value


def _typed(raw: DataFrame) -> DataFrame:
    typed = raw.copy()
    for field in fields(TrialRecord):
        for start, dtype in (("_Amount", "float64"), ("_Count", "Int64")):
            if str(field.type).startswith(start) and field.name in raw:
                typed[field.name] = raw[field.name].astype(dtype)
    for name in ("p50_s", "p95_s", "p99_s", "max_s"):
        typed[name] = raw[name].astype("float64")
    return typed.astype(dict.fromkeys(_CATEGORIES, "category"))


def export(run: Run, path: Path, form: str) -> None:
    """Write a run's trials to a file. form: "csv" or "parquet"; in CSV a list has spaces between
    its values. Raises ConfigError where that cannot be.
    """
    if form not in _FORMATS:
        raise ConfigError(f"format {form!r} is unknown; known: {', '.join(_FORMATS)}")
    table = frame(run)
    try:
        if form == "parquet":
            table.to_parquet(path, index=False)
            return
        for name in _LISTS:
            table[name] = [" ".join(map(str, values)) for values in table[name]]
        table.to_csv(path, index=False)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
