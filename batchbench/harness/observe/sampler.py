"""What a load's backends wait for: pg_stat_activity, looked at again and again.

    async with open_sampler(dsn, driver, tag) as sampler:
        await sampler.begin()
        ... the load, whose connections carry the tag as application_name ...
        sampled = await sampler.end()

The sampler lives in a thread with an event loop and a connection of its own, so that it looks
also while the load's loop is busy, which is when looking matters.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from batchbench.drivers import Session, connect, within
from batchbench.errors import ServerError, WriteError
from batchbench.harness.observe import procfs
from batchbench.harness.observe.backends import EXPECTED_S, BackendUse, Used
from batchbench.harness.observe.waits import (
    INTERVAL_S,
    UNSEEN_COST_S,
    Look,
    Pace,
    WaitHistogram,
)

T = TypeVar("T")

_LOOK_LIMIT_S = 5.0

_ACTIVITY_SQL = """
SELECT pid::text, coalesce(wait_event_type || ':' || wait_event, ''), state
FROM pg_catalog.pg_stat_activity WHERE application_name = $1::text
"""


@dataclass(frozen=True, slots=True)
class Sampled:
    """What the sampler saw of one load.

    shares: of the backends' time, by "Type:Event" or "running"; {} where nothing was seen, and
    `reason` says why. cpu_s: of looking, client and backend together (the latter where local);
    thread_cpu_s: the part that is in this process's own CPU time. seconds: from begin to end.
    """

    shares: Mapping[str, float]
    reason: str
    looks: int
    most_backends: int
    most_locked: int
    seconds: float
    cpu_s: float
    thread_cpu_s: float
    used: Used

    @property
    def cpu_share(self) -> float:
        """Of one core."""
        return self.cpu_s / self.seconds if self.seconds else 0.0


@dataclass(slots=True)
class Sampler:
    """Looks at the backends whose application_name is `tag`, between `begin` and `end`.

    Not for two loads at once. No method raises for what the server does: a connection that breaks
    is a reason in the result, and `begin` opens another.
    """

    dsn: str = field(repr=False)
    driver: str
    tag: str
    interval_s: float = INTERVAL_S
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _session: Session | None = None
    _place: procfs.Place = field(default_factory=procfs.Place)
    _look_s: float = UNSEEN_COST_S
    _memory_look_s: float = EXPECTED_S
    _sampling: _Sampling | None = None
    _task: asyncio.Task[None] | None = None

    @property
    def own_pid(self) -> int:
        """Of the sampler's backend, 0 without a connection."""
        return self._place.pid

    @property
    def looks(self) -> int:
        """Since `begin`; 0 after `end`."""
        return 0 if self._sampling is None else self._sampling.histogram.looks

    async def begin(self) -> None:
        """Start looking. Backends that are there already count from now on only."""
        await self._in_thread(self._begin())

    async def end(self) -> Sampled:
        """Stop looking; what was seen since `begin`."""
        return await self._in_thread(self._end())

    async def _in_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        return await asyncio.wrap_future(future)

    async def _begin(self) -> None:
        await self._connect()
        use = BackendUse(self._place.not_local, self._memory_look_s)
        pace = Pace(self.interval_s, expected_s=self._look_s)
        self._sampling = sampling = _Sampling(self, use, pace)
        if self._session is not None:
            sampling.start(await sampling.look())
            self._task = asyncio.create_task(sampling.run())

    async def _connect(self) -> None:
        if self._session is not None:
            return
        with contextlib.suppress(ServerError, WriteError):
            session = await connect(self.driver, self.dsn)
            try:
                self._place = await within(session, _LOOK_LIMIT_S, procfs.place_of(session))
            except WriteError:
                await session.close()
                raise
            self._session = session

    async def _end(self) -> Sampled:
        sampling, task = self._sampling, self._task
        self._sampling = self._task = None
        if sampling is None:
            raise RuntimeError("the sampler has not begun")
        sampled = sampling.result()
        self._look_s, self._memory_look_s = sampling.pace.expected_s, sampling.use.expected_s
        if task is not None:
            sampling.ending.set()
            await task
        return sampled

    async def _leave(self) -> None:
        if self._sampling is not None:
            await self._end()
        if self._session is not None:
            await self._session.close()
            self._session = None


@dataclass(slots=True)
class _Sampling:
    """One load's. Runs in the sampler's thread."""

    sampler: Sampler
    use: BackendUse
    pace: Pace
    histogram: WaitHistogram = field(default_factory=WaitHistogram)
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    reason: str = ""
    began_s: float = 0.0
    looked_s: float = 0.0
    began_thread_s: float = 0.0
    began_backend_s: float = 0.0
    began_cost_s: float = 0.0

    def start(self, backends: Sequence[Look]) -> None:
        """Take what is there as given; the clock runs from here."""
        self.use.start([look.pid for look in backends])
        self.began_s = self.looked_s = time.perf_counter()
        self.began_thread_s, self.began_backend_s = time.thread_time(), self._backend_s()
        self.began_cost_s = self._cost_s()

    async def run(self) -> None:
        """Look until `ending` is set or the connection breaks."""
        wait_s = self.pace.wait_s(0.0, 0.0)
        while not await self._ends_within(wait_s):
            before_s = self._cost_s()
            backends = await self.look()
            if self.reason:
                return
            now_s = time.perf_counter()
            self.histogram.add(backends, now_s - self.looked_s)
            self.looked_s = now_s
            self.use.look([look.pid for look in backends])
            after_s = self._cost_s()
            self.pace.expected_s = after_s - before_s
            elapsed_s = now_s - self.began_s
            wait_s = self.pace.wait_s(elapsed_s, after_s - self.began_cost_s - self.use.memory_s)
            self.use.look_at_memory(elapsed_s)

    async def _ends_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                return await self.ending.wait()
        except TimeoutError:
            return False

    async def look(self) -> list[Look]:
        """All backends of the load now; [] and a reason where the connection broke."""
        session = self.sampler._session
        assert session is not None
        fetching = session.fetch(_ACTIVITY_SQL, self.sampler.tag)
        try:
            rows = await within(session, _LOOK_LIMIT_S, fetching)
        except WriteError as error:
            self.reason = f"the sampler's connection failed: {error}"
            self.sampler._session = None
            session.abort()
            return []
        return [Look(int(pid or 0), wait, state) for pid, wait, state in rows]

    def _backend_s(self) -> float:
        """CPU of the sampler's own backend, 0 where it cannot be seen."""
        if self.sampler._place.not_local:
            return 0.0
        return procfs.cpu_s(self.sampler._place.pid) or self.began_backend_s

    def _cost_s(self) -> float:
        unseen_s = self.histogram.looks * UNSEEN_COST_S if self.sampler._place.not_local else 0.0
        return time.thread_time() + self._backend_s() + unseen_s

    def result(self) -> Sampled:
        """What was seen so far."""
        if not self.began_s:
            return nothing_sampled("the sampler could not connect")
        reason = self.reason
        thread_s = time.thread_time() - self.began_thread_s
        shares = self.histogram.shares()
        if not shares and not reason:
            reason = "no look fell into the load, or it had no backends that this role may see"
        return Sampled(
            shares=shares,
            reason=reason if not shares else "",
            looks=self.histogram.looks,
            most_backends=self.histogram.most_backends,
            most_locked=self.histogram.most_locked,
            seconds=time.perf_counter() - self.began_s,
            cpu_s=thread_s + self._backend_s() - self.began_backend_s,
            thread_cpu_s=thread_s,
            used=self.use.result(),
        )


def nothing_sampled(reason: str) -> Sampled:
    """Nothing was seen, for this reason."""
    return Sampled({}, reason, 0, 0, 0, 0.0, 0.0, 0.0, Used.unknown(reason))


@asynccontextmanager
async def open_sampler(
    dsn: str, driver: str, tag: str, interval_s: float = INTERVAL_S
) -> AsyncIterator[Sampler]:
    """A sampler's thread, until the context ends. interval_s: at least, in the mean."""
    sampler = Sampler(dsn, driver, tag, interval_s)
    thread = threading.Thread(target=_serve, args=(sampler._loop,), name="sampler", daemon=True)
    thread.start()
    try:
        await sampler._in_thread(sampler._connect())
        yield sampler
    finally:
        await sampler._in_thread(sampler._leave())
        sampler._loop.call_soon_threadsafe(sampler._loop.stop)
        await asyncio.to_thread(thread.join)


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
