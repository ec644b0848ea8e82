"""What a configuration must not exceed, as its trials show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from statistics import median

from batchbench.errors import ConfigError
from batchbench.results.records import P99_CHUNKS, RunInfo, TrialRecord, percentile


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraints:
    """Each None where anything goes.

    max_memory_mb: largest peak of the client process. max_p99_ms: 99th percentile of the chunks'
    latency over all trials, the slowest chunk where there are under 500. max_connections: of a
    load, one a writer. max_wal_mb_per_s: median of the trials.
    Raises ConfigError where one is not above 0.
    """

    max_memory_mb: float | None = None
    max_p99_ms: float | None = None
    max_connections: int | None = None
    max_wal_mb_per_s: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0 < value < float("inf"):
                option = field.name.replace("_", "-")
                raise ConfigError(f"--{option} {value:g}: it must be above 0")

    def broken(self, records: Sequence[TrialRecord]) -> str | None:
        """How these trials of one configuration exceed it; None where they do not.

        What was not measured cannot be held against it, and counts as broken.
        """
        return "; ".join(self._faults(records)) or None

    def _faults(self, records: Sequence[TrialRecord]) -> Iterator[str]:
        for limit, found, name, unit in (
            (self.max_memory_mb, peak_rss_mb(records), "peak memory", "MB"),
            (self.max_p99_ms, _ms(tail_s(records)), "p99", "ms"),
            (self.max_connections, records[0].parallelism, "connections", ""),
            (self.max_wal_mb_per_s, wal_mb_per_s(records), "WAL", "MB/s"),
        ):
            if limit is None:
                continue
            if found is None:
                yield f"{name} was not measured, and {limit:g} {unit}".rstrip() + " is the limit"
            elif found > limit:
                yield f"{name} {found:,.4g} of at most {limit:,.4g} {unit}".rstrip()


def constraints_of(info: RunInfo, given: Constraints | None = None) -> Constraints:
    """What to judge a run by: what is given, and for the rest what its search was held to."""
    stored = (info.plan.get("search") or {}).get("constraints") or {}
    return replace(
        given or Constraints(),
        **{
            name: value
            for name, value in stored.items()
            if given is None or getattr(given, name) is None
        },
    )


def peak_rss_mb(records: Iterable[TrialRecord]) -> float | None:
    """The largest peak; None where none was measured."""
    return max((r.peak_rss_mb for r in records if r.peak_rss_mb is not None), default=None)


def p99_s(records: Iterable[TrialRecord]) -> float | None:
    """Of the latencies of all chunks together; None under 500 chunks."""
    latencies = [s for record in records for s in record.latencies_s]
    return percentile(latencies, 0.99) if len(latencies) >= P99_CHUNKS else None


def tail_s(records: Sequence[TrialRecord]) -> float | None:
    """p99, or the slowest chunk where there are too few for it."""
    found = p99_s(records)
    if found is not None:
        return found
    return max((r.max_s for r in records if r.max_s is not None), default=None)


def wal_mb_per_s(records: Iterable[TrialRecord]) -> float | None:
    """Median of the trials that saw it; None where none did."""
    rates = [
        wal / 1e6 / record.seconds
        for record in records
        if (wal := record.observed.get("wal_bytes")) is not None and record.seconds
    ]
    return median(rates) if rates else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
