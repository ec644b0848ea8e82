"""Where chunks wait for their turn, so that a load spares its server; see `pacing`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import count

from batchbench.drivers import Session, within
from batchbench.drivers.connector import Connector
from batchbench.engine.pacing import Pace, PaceLimits, Reading, Reason
from batchbench.engine.plan import LoadOptions
from batchbench.errors import ConfigError, ServerError, WriteError
from batchbench.events import Listener, Notice, Paused

_LOOK_EVERY_S = 0.05
_NAP_S = 0.25  # at most, so that a load that is stopped does not wait
_ANSWER_S = 10.0

_TEXTS = {
    "replica lag": "paused: a replica lags more than max_replica_lag_mb behind",
    "locks": "paused: another session waits for a lock of this load",
}

_WAL_SQL = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::int8::text
"""
# A role that may not see a replica's progress sees the replica, but not even its state.
_LAG_SQL = """
SELECT CASE WHEN NOT hidden THEN lag::int8::text END, hidden::text FROM (
  SELECT coalesce(bool_or(state IS NULL), false) AS hidden, coalesce(max(
    pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)), 0) AS lag
  FROM pg_catalog.pg_stat_replication WHERE state IS DISTINCT FROM 'backup') AS replicas
"""
_WAITERS_SQL = """
SELECT count(DISTINCT pid)::text FROM pg_catalog.pg_locks WHERE NOT granted
AND pid <> ALL($1::text::int4[]) AND pg_catalog.pg_blocking_pids(pid) && $1::text::int4[]
"""
_NO_LAG = (
    "max_replica_lag_mb cannot be kept: this role may not see how far the replicas are; GRANT"
    " pg_monitor to it, or leave the limit out"
)
_NO_LOCKS = (
    "pause_when_locks_wait cannot be kept through a pooler: nobody can tell there which server"
    " process holds this load's locks; name the server itself, or leave the limit out"
)


class ServerWatch:
    """A connection of its own, that asks the server how it is. backends: the load's own, by pid."""

    def __init__(
        self, connector: Connector, options: LoadOptions, backends: Mapping[object, str]
    ) -> None:
        self._connector, self._backends = connector, backends
        self._limits = options.pace
        self._session: Session | None = None

    async def read(self) -> Reading:
        """How it is now. Raises ServerError, WriteError."""
        (wal,) = await self._ask(_WAL_SQL)
        lag, unseen, waiters = None, None, None
        if self._limits.max_replica_lag_mb is not None:
            lag, unseen = await self._ask(_LAG_SQL)
        if self._limits.pause_when_locks_wait:
            ours = ",".join(filter(None, self._backends.values()))
            (waiters,) = await self._ask(_WAITERS_SQL, f"{{{ours}}}")
        why_no_lag = _NO_LAG if unseen == "true" else ""
        return Reading(_number(wal), _number(lag), why_no_lag, _number(waiters))

    @property
    def blind_to_locks(self) -> bool:
        """Whether it cannot be told, though it is wanted, which locks are the load's."""
        seen = self._session is not None and self._session.owns_backend
        return self._limits.pause_when_locks_wait and not seen

    async def _ask(self, sql: str, *arguments: str) -> tuple[str | None, ...]:
        if self._session is None:
            self._session = await self._connector.open()
        query = self._session.fetch(sql, *arguments)
        return (await within(self._session, _ANSWER_S, query))[0]

    async def close(self) -> None:
        """Give the connection up."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Gate:
    """Lets chunks through, each when it may go. Used on the event loop only."""

    def __init__(self, limits: PaceLimits, watch: ServerWatch | None, emit: Listener) -> None:
        self._pace, self._watch, self._emit = Pace(limits), watch, emit
        self._is_open = not limits.any
        self._looking = asyncio.Lock()
        self._looked_s = -_LOOK_EVERY_S
        self._numbers = count()
        self._said: set[str] = set()

    async def open(self) -> None:
        """Look once. Raises ConfigError where a limit cannot be kept, ServerError, WriteError."""
        if self._watch is not None:
            asked, reading = self._pace.asks(), await self._watch.read()
            if reading.why_no_lag:
                raise ConfigError(reading.why_no_lag)
            if self._watch.blind_to_locks:
                raise ConfigError(_NO_LOCKS)
            self._pace.seen(asked, reading)

    def begin(self) -> None:
        """The load begins: what may be spent grows from now on."""
        self._pace.hold(0, 0, time.monotonic())

    @asynccontextmanager
    async def turn(self, row_count: int, byte_count: int) -> AsyncIterator[None]:
        """Wait until the chunk may go; it is in flight for as long as the context lasts."""
        if self._is_open:
            yield
            return
        await self._wait(row_count, byte_count)
        number = next(self._numbers)
        self._pace.begin(number, row_count, byte_count)
        try:
            yield
        finally:
            self._pace.end(number)

    async def _wait(self, row_count: int, byte_count: int) -> None:
        waited_s: dict[Reason, float] = {}
        try:
            while not self._is_open:
                await self._look()
                begun_s = time.monotonic()
                hold = self._pace.hold(row_count, byte_count, begun_s)
                if hold is None:
                    return
                self._say_once(_TEXTS.get(hold.reason, ""))
                await asyncio.sleep(min(hold.seconds, _NAP_S))
                before_s = waited_s.get(hold.reason, 0.0)
                waited_s[hold.reason] = before_s + time.monotonic() - begun_s
        finally:
            for reason, seconds in waited_s.items():
                self._emit(Paused(reason, seconds))

    async def _look(self) -> None:
        if self._watch is None:
            return
        async with self._looking:
            if time.monotonic() - self._looked_s < _LOOK_EVERY_S:
                return
            asked = self._pace.asks()
            try:
                reading = await self._watch.read()
            except (ServerError, WriteError):  # the writers' own connections will tell
                await self._watch.close()
                reading = Reading()
            self._say_once(reading.why_no_lag)  # a replica that came later
            self._pace.seen(asked, reading)
            self._looked_s = time.monotonic()

    def _say_once(self, text: str) -> None:
        if text and text not in self._said:
            self._said.add(text)
            self._emit(Notice(text))

    def stop(self) -> None:
        """Whoever waits need not any longer: the load is stopping."""
        self._is_open = True

    async def close(self) -> None:
        """Nothing more is sent."""
        self.stop()
        if self._watch is not None:
            await self._watch.close()


async def open_gate(
    connector: Connector, options: LoadOptions, emit: Listener, backends: Mapping[object, str]
) -> Gate:
    """The gate of a load; without limits it stands open. Raises as `Gate.open`."""
    most = connector.session_limit
    if options.pace.asks_server and most is not None and most <= options.writers:
        raise ConfigError(
            f"limits of WAL, replica lag or locks need a connection beside the {options.writers}"
            f" that write, and {most} can be had: use fewer writers, or a larger pool"
        )
    watch = ServerWatch(connector, options, backends) if options.pace.asks_server else None
    gate = Gate(options.pace, watch, emit)
    try:
        await gate.open()
    except BaseException:
        await gate.close()
        raise
    return gate


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
