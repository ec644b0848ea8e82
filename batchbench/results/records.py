"""What a run and its records are. Frozen values; nothing here reads or writes a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import ConfigDict, Field

SCHEMA_VERSION = 2

GOAL_ROWS_PER_S = 2_000.0
"""10,000 rows in 5 s."""

GOAL_PEAK_RSS_MB = 500.0

P99_CHUNKS = 500
"""A 99th percentile of fewer chunks, or tickets, would hang on fewer than five of them."""

IMPORTED = "pytest-benchmark"
"""A server's kind, where none is known: the run was made of what pytest-benchmark measured."""

Regime = Literal["burst", "sustained"]
"""burst: VACUUM and CHECKPOINT are kept outside the clock. sustained: they are part of it."""

_Count = Annotated[int, Field(ge=0)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def meets_goal(rows_per_s: float, peak_rss_mb: float) -> bool:
    """Whether a load writes 10,000 rows in under 5 s, in under 500 MB."""
    return rows_per_s > GOAL_ROWS_PER_S and peak_rss_mb < GOAL_PEAK_RSS_MB


def committed(transaction: str, before: str = "") -> str:
    """ "committed by the batch", "committed by 8 chunks"; "" by the chunk. before: put ahead."""
    if transaction == "chunk":
        return ""
    unit = "the batch" if transaction == "batch" else f"{transaction} chunks"
    return f"{before}committed by {unit}"


class Key(NamedTuple):
    """What tells the configurations of a run apart, round trips included: what is best near may be
    worst far away.
    """

    table: str
    strategy: str
    driver: str
    chunk_size: int
    parallelism: int
    rtt_ms: float
    max_wait_ms: float | None = None
    transaction: str = "chunk"

    @property
    def name(self) -> str:
        """ "heart_rate copy psycopg 5,000 x 2", with " +5 ms" where round trips took longer, and
        " flushed after 20 ms" of a Writer, " committed by the batch" where chunks go together.
        """
        way = f"{self.table} {self.strategy} {self.driver} {self.chunk_size:,} x {self.parallelism}"
        way += committed(self.transaction, before=" ")
        delayed = f"{way} +{self.rtt_ms:g} ms" if self.rtt_ms else way
        if self.max_wait_ms is None:
            return delayed
        return f"{delayed} flushed after {self.max_wait_ms:g} ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRecord:
    """One measured load.

    kind: "warmup" trials count for nothing; a "yardstick" is one COPY of the same rows, encoded
    beforehand, which tells a slow machine from a slow configuration. epoch: the life of the server
    and of the client process that it ran in, from 1. trial_id: the same for the same trial of a
    plan.
    table: a metric ("heart_rate") or a table's name. chunk_size: rows, as configured;
    chunk_rows: as used, after the limits. parallelism: as configured; writers: as used.
    transaction: what was committed together: "chunk", "batch" or a number of chunks.
    repeat, block: from 1 (block 0 for warm-ups); position: within the block, from 1.
    status "failed": `reason` says why, and what was not measured is None.
    rows: sent. rows_verified: counted in the table afterwards; checksum_ok: whether they are
    the rows that were sent.
    seconds: from the first read to the last commit; under regime "sustained" to the end of the
    VACUUM and CHECKPOINT after it. mb_per_s: of encoded rows. chunk_seconds: latency of every
    chunk, to the microsecond. rows_by_second: written in each second of a sustained load.
    cpu_s: of the client process, user and system. peak_rss_mb, rss_before_mb: its memory.
    rtt_ms: what each round trip took more than the network's own. table_state: before the load,
    "empty" or "filled:N" with N rows. server_settings: of the load's sessions, by name.
    arrival_rows_per_s: None where rows were there from the start (closed loop). Else they arrived
    at this rate, whether the load kept up or not (open loop). Then, in the order of arrival:
    arrival_seconds: of each chunk, from the scheduled arrival of its first row to its commit;
    behind_seconds: of each chunk, how long after its last row had arrived the load could take it.
    max_wait_ms: None where a load wrote the rows. Else they arrived in a Writer that flushed them
    at this age, `payload_rows` by each add: arrival_seconds are of each add, from its scheduled
    arrival to its ticket, behind_seconds until the writer had taken it; a chunk is a flush.
    observed: figures by metric (see harness.observe); None is not known, and `unobserved` says why.
    waits: share of its backends' time by "Type:Event" or "running", the largest first.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    kind: Literal["trial", "warmup", "yardstick"]
    trial_id: str
    table: str
    strategy: str
    driver: str
    chunk_size: _Count
    chunk_rows: _Count | None
    parallelism: _Count
    writers: _Count | None
    repeat: _Count
    block: _Count
    position: _Count
    started_at: str
    status: Literal["ok", "failed"]
    reason: str | None
    rows: _Count
    rows_verified: _Count | None
    checksum_ok: bool | None
    seconds: _Amount | None
    rows_per_s: _Amount | None
    mb_per_s: _Amount | None
    chunks: _Count
    chunk_seconds: tuple[_Amount, ...]
    cpu_s: _Amount | None
    peak_rss_mb: _Amount | None
    rss_before_mb: _Amount | None
    retries: _Count
    goal_met: bool
    epoch: _Count = 1
    rtt_ms: _Amount = 0.0
    table_state: Annotated[str, Field(pattern=r"^(empty|filled:[1-9][0-9]*)$")] = "empty"
    regime: Regime = "burst"
    server_settings: Mapping[str, str] = field(default_factory=dict)
    rows_by_second: tuple[_Count, ...] = ()
    arrival_rows_per_s: _Amount | None = None
    arrival_seconds: tuple[_Amount, ...] = ()
    behind_seconds: tuple[_Amount, ...] = ()
    max_wait_ms: _Amount | None = None
    payload_rows: _Count | None = None
    transaction: Annotated[str, Field(pattern=r"^(chunk|batch|[1-9][0-9]*)$")] = "chunk"
    observed: Mapping[str, float | None] = field(default_factory=dict)
    unobserved: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, _Amount] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its configuration, as planned."""
        kind = (self.table, self.strategy, self.driver)
        conditions = (self.rtt_ms, self.max_wait_ms, self.transaction)
        return Key(*kind, self.chunk_size, self.parallelism, *conditions)

    @property
    def name(self) -> str:
        """Of its configuration, as plans and looks have it: "sleep/copy/psycopg/5000/2"."""
        return self.trial_id.rpartition("#")[0]

    @property
    def usable(self) -> bool:
        """Whether the load ended well and every row was found in the table."""
        verified = self.rows_verified == self.rows and bool(self.checksum_ok)
        return self.status == "ok" and verified and bool(self.rows_per_s)

    @property
    def latencies_s(self) -> tuple[float, ...]:
        """Of every chunk: of an open loop from the scheduled arrival, so that a load that falls
        behind shows it; else from the moment a writer took the chunk. Through a Writer of every
        ticket, from the scheduled arrival.
        """
        return self.chunk_seconds if self.arrival_rows_per_s is None else self.arrival_seconds

    @property
    def p50_s(self) -> float | None:
        """Median latency of a chunk."""
        return percentile(self.latencies_s, 0.50)

    @property
    def p95_s(self) -> float | None:
        """95th percentile of the chunks' latency."""
        return percentile(self.latencies_s, 0.95)

    @property
    def p99_s(self) -> float | None:
        """99th percentile of the latencies; None under 500 of them: then show `max_s`."""
        enough = len(self.latencies_s) >= P99_CHUNKS
        return percentile(self.latencies_s, 0.99) if enough else None

    @property
    def max_s(self) -> float | None:
        """Latency of the slowest chunk."""
        return max(self.latencies_s, default=None)


def percentile(values: Sequence[float], share: float) -> float | None:
    """Linear interpolation between the closest ranks; None of nothing. share: 0 to 1."""
    if not values:
        return None
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The client's side. packages: name -> version. memory_mb: of the machine."""

    python: str
    platform: str
    cpu_count: int
    memory_mb: int
    packages: Mapping[str, str]

    @property
    def machine(self) -> tuple[str, int, int]:
        """What tells machines apart, as far as it was kept."""
        return self.platform, self.cpu_count, self.memory_mb


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The server's side. kind: "embedded", "dsn", "container:IMAGE" or `IMPORTED`.
    version_number: as in server_version_num. settings: those that bear on writing, as SHOW prints
    them.
    """

    kind: str
    version: str
    version_number: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sitting:
    """A later start of the same run. at: UTC, ISO 8601."""

    at: str
    command: tuple[str, ...]
    environment: Environment
    server: ServerInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A look of an adaptive run at its trials so far.

    block: the last one before it. at: UTC, ISO 8601. dropped: who runs no more, and why; added: who
    runs from the next block on. Both by the name that trial ids begin with.
    """

    block: _Count
    at: str
    dropped: Mapping[str, str]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a run is.

    created: UTC, ISO 8601. command: the command line without connection strings. plan: what
    the harness planned, as it wrote it. settings: every `BATCH_*` in use. git_revision: of
    batchbench's own checkout, where it runs from one. resumed: later starts. confirms: the run_id
    of the run whose recommendation this one measures afresh; None for a run of its own. looks: of
    an adaptive run, in their order.
    """

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created: str
    command: tuple[str, ...]
    plan: Mapping[str, Any]
    seed: int
    settings: Mapping[str, Any]
    environment: Environment
    server: ServerInfo
    batchbench_version: str
    git_revision: str | None = None
    resumed: tuple[Sitting, ...] = ()
    confirms: str | None = None
    looks: tuple[Look, ...] = ()

    @property
    def is_imported(self) -> bool:
        """Whether it holds benchmarks of pytest-benchmark, no loads of batchbench's own."""
        return self.server.kind == IMPORTED

    @property
    def sitting(self) -> Sitting:
        """The first start."""
        return Sitting(
            at=self.created,
            command=self.command,
            environment=self.environment,
            server=self.server,
        )


@dataclass(frozen=True, slots=True)
class Run:
    """A stored run. warnings: what could not be read, or makes its trials hard to compare.
    confirmations: the runs that measured its recommendation afresh, in their order. sustained:
    those that gave each of the same configurations one long load. unread: lines of its trials that
    could not be read.
    """

    folder: Path
    info: RunInfo
    records: tuple[TrialRecord, ...]
    warnings: tuple[str, ...] = ()
    confirmations: tuple[Run, ...] = ()
    sustained: tuple[Run, ...] = ()
    unread: int = 0

    @property
    def trials(self) -> tuple[TrialRecord, ...]:
        """The records without warm-ups and yardsticks."""
        return tuple(record for record in self.records if record.kind == "trial")

    @property
    def is_open_loop(self) -> bool:
        """Whether its rows arrived at a rate of their own (see `results.arrivals`)."""
        return any(record.arrival_rows_per_s is not None for record in self.trials)

    @property
    def is_adaptive(self) -> bool:
        """Whether not all of its configurations were to run in all blocks."""
        return bool(self.info.plan.get("search"))

    @property
    def rtts_ms(self) -> tuple[float, ...]:
        """The delays that its trials ran under, smallest first; (0.0,) where there was none."""
        return tuple(sorted({record.rtt_ms for record in self.trials})) or (0.0,)

    def at(self, rtt_ms: float) -> Run:
        """The part of it that ran under one delay, with the yardsticks, which run under none.

        Configurations are only compared at the same delay: judges of a run with several take one
        part after the other.
        """
        kept = (r for r in self.records if r.kind == "yardstick" or r.rtt_ms == rtt_ms)
        confirmations, sustained = (
            tuple(part for run in runs if (part := run.at(rtt_ms)).trials)
            for runs in (self.confirmations, self.sustained)
        )
        return replace(self, records=tuple(kept), confirmations=confirmations, sustained=sustained)

    @property
    def yardsticks(self) -> tuple[TrialRecord, ...]:
        """The yardstick's records."""
        return tuple(record for record in self.records if record.kind == "yardstick")

    @property
    def unobserved(self) -> dict[str, str]:
        """By metric, why no trial of it has a figure: the first reason that one gave."""
        known = {n for r in self.trials for n, value in r.observed.items() if value is not None}
        reasons: dict[str, str] = {}
        for record in self.trials:
            for name, why in record.unobserved.items():
                reasons.setdefault(name, why)
        return {name: why for name, why in reasons.items() if name not in known}
