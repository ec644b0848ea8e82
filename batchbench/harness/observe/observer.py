"""All that is seen of a trial, by one observer beside the load.

    async with open_observer(dsn, "psycopg") as observer:
        load_dsn = observer.tagged(dsn)
        async with observer.trial(table, report=[session]) as sight:
            result = await load(..., load_dsn, ...)
            sight.rows = result.committed
        sight.observed.values["wal_bytes"]

Seeing never fails a trial: what the server, the role or the machine does not show is None, with
the reason. Everything but the sampler works outside of the load's clock.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from psycopg.conninfo import make_conninfo

from batchbench.drivers import Session, connect, within
from batchbench.drivers.address import parameters
from batchbench.errors import ServerError, WriteError
from batchbench.harness.observe import procfs
from batchbench.harness.observe.registry import metrics_of
from batchbench.harness.observe.sampler import (
    Sampled,
    Sampler,
    nothing_sampled,
    open_sampler,
)
from batchbench.harness.observe.server import (
    GONE_LIMIT_S,
    LIMIT_S,
    Reading,
    ServerCounters,
    TableSize,
    bloat,
    open_counters,
    report_now,
    size_figures,
    table_size,
    until_reported,
)
from batchbench.harness.observe.waits import INTERVAL_S, RUNNING, share_of
from batchbench.table import TableName

_OF_TABLE = tuple(metric.name for metric in metrics_of("table"))
_SAMPLED = (
    "backends",
    "running_share",
    "client_wait_share",
    "lock_wait_share",
    "locks_waiting",
    "backend_cpu_s",
    "backend_pss_mb",
)
_NO_SAMPLER = "the sampler was off"
OBSERVED = (
    *(metric.name for metric in metrics_of("server", "database", "table")),
    *_SAMPLED,
    *(metric.name for metric in metrics_of("observer")),
)
"""The metrics of every `Observed`, on every server."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen of a trial.

    values: every name of `OBSERVED`; None is not known, and `reasons` says why. waits: share of
    the backends' time by "Type:Event" or "running", the largest first; {} where not known.
    remarks: what makes the values less than exact.
    """

    values: Mapping[str, float | None]
    reasons: Mapping[str, str]
    waits: Mapping[str, float]
    remarks: tuple[str, ...] = ()


@dataclass(slots=True)
class Sight:
    """A trial while it is seen. rows: that it committed, to be told by who knows. observed,
    sampled: set when the trial has ended.
    """

    rows: int | None = None
    observed: Observed | None = None
    sampled: Sampled | None = None


@dataclass(frozen=True, slots=True)
class _Before:
    """What was read before the load. no_size: why `size` is None."""

    reading: Reading
    size: TableSize | None
    no_size: str
    cpu_s: float | None


@dataclass(slots=True)
class _Found:
    """Values and reasons as they come together."""

    values: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def add(self, values: Mapping[str, float | None], reasons: Mapping[str, str]) -> None:
        self.values |= values
        self.reasons |= reasons

    def unknown(self, names: Iterable[str], why: str) -> None:
        """These are None, those excepted that are there already."""
        new = [name for name in names if name not in self.values]
        self.add(dict.fromkeys(new), dict.fromkeys(new, why))

    def observed(self, waits: Mapping[str, float]) -> Observed:
        """In the registry's order."""
        reasons = {name: why for name, why in self.reasons.items() if self.values[name] is None}
        values = {name: self.values[name] for name in OBSERVED}
        return Observed(values, reasons, waits, tuple(self.remarks))


@dataclass(slots=True)
class Observer:
    """Looks at one server, one trial at a time. See `open_observer`."""

    dsn: str = field(repr=False)
    driver: str
    tag: str
    sampler: Sampler
    _counters: ServerCounters | None = None
    _place: procfs.Place = field(default_factory=procfs.Place)
    _pooled: bool = False  # connections outlive their load; they are not waited for again

    def tagged(self, dsn: str) -> str:
        """The same address, for the load: its backends are known by their application_name."""
        return make_conninfo("", **{**parameters(dsn), "application_name": self.tag})

    @asynccontextmanager
    async def trial(
        self, table: TableName, *, report: Sequence[Session] = (), sample: bool = True
    ) -> AsyncIterator[Sight]:
        """See what happens inside. table: that the load writes to.

        report: idle sessions of ours that stay open; what they did so far is counted before.
        sample: whether the sampler looks meanwhile; the rest is read before and after anyway.
        Raises WriteError where one of these fails, and what is raised inside; then nothing is
        observed.
        """
        sight = Sight()
        for session in report:
            await within(session, LIMIT_S, report_now(session))
        before = await self._before(table)
        if sample:
            await self.sampler.begin()
        try:
            yield sight
        finally:
            sight.sampled = await self.sampler.end() if sample else nothing_sampled(_NO_SAMPLER)
        sight.observed = await self._seen(before, table, sight, sight.sampled)

    async def close(self) -> None:
        """Close the connection; another trial would open a new one."""
        if self._counters is not None:
            await self._counters.session.close()
            self._counters = None

    async def _before(self, table: TableName) -> _Before | str:
        """What is there now, or why that is not known."""
        try:
            counters = await self._connected()
            size, no_size = await _size(counters.session, table)
            cpu_s = self._cpu_s()
            return _Before(await counters.read(), size, no_size, cpu_s)
        except (WriteError, ServerError) as error:
            return self._lost(error)

    async def _seen(
        self, before: _Before | str, table: TableName, sight: Sight, sampled: Sampled
    ) -> Observed:
        found = _Found()
        _add_sampled(found, sampled)
        if isinstance(before, str):
            found.unknown(OBSERVED, before)
            return found.observed(sampled.shares)
        try:
            await self._add_counts(before, found)
            await self._add_sizes(before, table, sight.rows, found)
        except (WriteError, ServerError) as error:
            found.unknown(OBSERVED, self._lost(error))
        return found.observed(sampled.shares)

    async def _add_counts(self, before: _Before, found: _Found) -> None:
        counters = self._counters
        if counters is None:
            raise AssertionError("there was a reading before, so there is a connection")
        limit_s = 0.0 if self._pooled else GONE_LIMIT_S
        remark = await until_reported(counters.session, self.tag, limit_s)
        found.remarks += [remark] if remark else []
        self._pooled = bool(remark)
        after_s = self._cpu_s()
        if before.cpu_s is not None and after_s is not None:
            found.add({"server_cpu_s": max(after_s - before.cpu_s, 0.0)}, {})
        why = self._place.not_local or "the server's processes could not be read all at once"
        found.unknown(["server_cpu_s"], why)
        found.add(*counters.between(before.reading, await counters.read()))

    async def _add_sizes(
        self, before: _Before, table: TableName, rows: int | None, found: _Found
    ) -> None:
        session = (await self._connected()).session
        size, no_size = await _size(session, table)
        if before.size is None or size is None:
            found.unknown(_OF_TABLE, before.no_size or no_size)
            return
        found.add(*size_figures(before.size, size, rows))
        found.add(*await bloat(session, table, size))

    def _cpu_s(self) -> float | None:
        """Of all the server's processes but those that look."""
        if self._place.not_local:
            return None
        return procfs.server_cpu_s(self._place.postmaster, (self._place.pid, self.sampler.own_pid))

    def _lost(self, error: WriteError | ServerError) -> str:
        """Forget the connection; the next trial opens another."""
        if self._counters is not None:
            self._counters.session.abort()
            self._counters = None
        return f"the observer's connection failed: {error}"

    async def _connected(self) -> ServerCounters:
        if self._counters is not None:
            return self._counters
        session = await connect(self.driver, self.dsn)
        try:
            counters = await within(session, LIMIT_S, open_counters(session))
            self._place = await within(session, LIMIT_S, procfs.place_of(session))
        except WriteError:
            await session.close()
            raise
        self._counters = counters
        return counters


async def _size(session: Session, table: TableName) -> tuple[TableSize | None, str]:
    """The table's size, or why it is not known."""
    try:
        return await table_size(session, table), ""
    except WriteError as error:
        if error.fate_unknown:
            raise
        return None, f"the table's size cannot be read ({error.condition}, {error.sqlstate})"


def _add_sampled(found: _Found, sampled: Sampled) -> None:
    shares, used = sampled.shares, sampled.used
    found.add({"samples": sampled.looks, "sampler_cpu_share": sampled.cpu_share}, {})
    if shares:
        found.values |= {
            "backends": sampled.most_backends,
            "running_share": shares.get(RUNNING, 0.0),
            "client_wait_share": share_of(shares, "Client"),
            "lock_wait_share": share_of(shares, "Lock"),
            "locks_waiting": sampled.most_locked,
        }
    found.add(
        {"backend_cpu_s": used.cpu_s, "backend_pss_mb": used.pss_mb},
        {"backend_cpu_s": used.cpu_reason, "backend_pss_mb": used.pss_reason},
    )
    found.unknown(_SAMPLED, sampled.reason)


@asynccontextmanager
async def open_observer(
    dsn: str, driver: str = "psycopg", *, interval_s: float = INTERVAL_S
) -> AsyncIterator[Observer]:
    """An observer of the server at `dsn`, with two connections of its own (one of them samples).

    dsn: the server itself, not through a delay. interval_s: between samples, at least, in the mean.
    A server that is not there now, or restarts between trials, is connected to at the next trial.
    """
    tag = f"batchbench_{secrets.token_hex(6)}"
    async with open_sampler(dsn, driver, tag, interval_s) as sampler:
        observer = Observer(dsn, driver, tag, sampler)
        try:
            yield observer
        finally:
            await observer.close()
