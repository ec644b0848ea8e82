"""What pytest-benchmark measured, as a run.

Source of the format: pytest-benchmark 5, `--benchmark-json` and `--benchmark-save-data`: seconds of
each round in `stats.data`, what a test noted in `extra_info`.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from batchbench import __version__
from batchbench.errors import InputError
from batchbench.results.reading import first_fault
from batchbench.results.records import (
    IMPORTED,
    Environment,
    Key,
    RunInfo,
    ServerInfo,
    TrialRecord,
    meets_goal,
)

MOST_TRIALS = 100
"""Of one benchmark and file; of more rounds, as many means of neighbours are taken."""

_Count = Annotated[int, Field(ge=1)]
_Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Noted:
    """What of extra_info is understood."""

    rows: _Count = 1
    table: str | None = None
    strategy: str | None = None
    driver: str = IMPORTED
    chunk_size: _Count | None = None
    parallelism: _Count | None = None
    writers: _Count = 1
    peak_rss_mb: _Amount | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stats:
    data: tuple[_Amount, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Benchmark:
    fullname: str
    stats: _Stats
    group: str | None = None
    extra_info: _Noted = _Noted()

    @property
    def key(self) -> Key:
        file, _, test = self.fullname.rpartition("::")
        noted = self.extra_info
        table, strategy = noted.table or self.group or file or test, noted.strategy or test
        writers = noted.parallelism or noted.writers
        return Key(table, strategy, noted.driver, noted.chunk_size or noted.rows, writers, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Document:
    version: str
    datetime: dt.datetime
    benchmarks: Annotated[tuple[_Benchmark, ...], Field(min_length=1)]
    machine_info: Mapping[str, Any] = field(default_factory=dict)


_DOCUMENT = TypeAdapter(_Document)


def read_benchmarks(files: Sequence[Path]) -> tuple[RunInfo, list[TrialRecord]]:
    """Files of the same benchmarks as one run: each file, a life of its own process, is an epoch.

    A benchmark is a configuration: table, strategy, driver, chunk_size, parallelism (or writers),
    rows and peak_rss_mb as its extra_info has them; else its group or file is the table and its
    test the strategy, and a call counts as one row. A trial is a round. A test that fails is not in
    the file, so its own assertions stand for the look at what arrived.
    Raises InputError where a file cannot be read, or has no single rounds.
    """
    contents = [_read(path) for path in files]
    documents = [_parsed(path, content) for path, content in zip(files, contents, strict=True)]
    records = [
        record
        for epoch, (path, document) in enumerate(zip(files, documents, strict=True), 1)
        for record in _records(path, document, epoch)
    ]
    digest = hashlib.sha256(b"\n".join(contents)).hexdigest()
    return _info(documents[0], files, digest), records


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error


def _parsed(path: Path, content: bytes) -> _Document:
    try:
        document = _DOCUMENT.validate_json(content)
    except ValidationError as error:
        raise InputError(
            f"{path} is no JSON of pytest-benchmark ({first_fault(error)}); write it with"
            " pytest --benchmark-json=FILE"
        ) from error
    named: dict[Key, str] = {}
    for benchmark in document.benchmarks:
        if not benchmark.stats.data:
            raise InputError(
                f"{path}: {benchmark.fullname} has no single rounds; write the file with"
                " --benchmark-json, or add --benchmark-save-data"
            )
        other = named.setdefault(benchmark.key, benchmark.fullname)
        if other != benchmark.fullname:
            raise InputError(
                f"{path}: {other} and {benchmark.fullname} are the same configuration,"
                f" {benchmark.key.name}; tell them apart by their extra_info or group"
            )
    return document


def _records(path: Path, document: _Document, epoch: int) -> Iterator[TrialRecord]:
    for position, benchmark in enumerate(document.benchmarks, 1):
        for number, seconds in enumerate(_pooled(benchmark.stats.data), 1):
            yield _record(benchmark, document.datetime, epoch, number, position, seconds)


def _pooled(rounds: Sequence[float]) -> list[float]:
    """At most `MOST_TRIALS` means of rounds that ran one after the other."""
    together = -(-len(rounds) // MOST_TRIALS)
    return [fmean(rounds[at : at + together]) for at in range(0, len(rounds), together)]


def _record(
    benchmark: _Benchmark, at: dt.datetime, epoch: int, number: int, position: int, seconds: float
) -> TrialRecord:
    key, noted = benchmark.key, benchmark.extra_info
    rows_per_s = noted.rows / seconds
    peak = noted.peak_rss_mb
    return TrialRecord(
        kind="trial",
        trial_id=f"{key.name}#{epoch}.{number}",
        table=key.table,
        strategy=key.strategy,
        driver=key.driver,
        chunk_size=key.chunk_size,
        chunk_rows=key.chunk_size,
        parallelism=key.parallelism,
        writers=key.parallelism,
        repeat=number,
        block=number,
        position=position,
        started_at=at.isoformat(),
        status="ok",
        reason=None,
        rows=noted.rows,
        rows_verified=noted.rows,
        checksum_ok=True,
        seconds=seconds,
        rows_per_s=rows_per_s,
        mb_per_s=None,
        chunks=1,
        chunk_seconds=(seconds,),
        cpu_s=None,
        peak_rss_mb=peak,
        rss_before_mb=None,
        retries=0,
        goal_met=peak is not None and meets_goal(rows_per_s, peak),
        epoch=epoch,
    )


def _info(document: _Document, files: Sequence[Path], digest: str) -> RunInfo:
    machine = document.machine_info
    cpu = machine.get("cpu")
    count = cpu.get("count") if isinstance(cpu, dict) else None
    words = [str(machine[name]) for name in ("system", "release", "machine") if name in machine]
    python = [machine.get(name, "?") for name in ("python_implementation", "python_version")]
    return RunInfo(
        run_id=f"{document.datetime:%Y%m%d_%H%M%S}_{digest[:6]}",
        created=document.datetime.isoformat(timespec="seconds"),
        command=("batchbench", "import-benchmark", *(path.name for path in files)),
        plan={"benchmarks": [benchmark.fullname for benchmark in document.benchmarks]},
        seed=0,
        settings={},
        environment=Environment(
            python=" ".join(map(str, python)),
            platform="-".join(words),
            cpu_count=count if isinstance(count, int) else 0,
            memory_mb=0,
            packages={IMPORTED: document.version},
        ),
        server=ServerInfo(kind=IMPORTED, version="unknown", version_number=0, settings={}),
        batchbench_version=__version__,
    )
