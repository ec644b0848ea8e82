"""One run: its server, its proxy, its load, and the time it may take."""

from __future__ import annotations

import asyncio
import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchbench.accounting import LoadResult
from batchbench.engine import LoadError, load
from batchbench.errors import BatchbenchError
from batchbench.events import Event, LoadStarted
from batchbench.servers import Cluster
from batchbench.sources import open_source
from batchbench.table import parse_table_name
from tests.faults.invariants import Expected, Verdict, check, dead_rows, stored_rows
from tests.faults.setup import Setup
from tests.fixtures.faults import terminate_backends, until_ready
from tests.fixtures.loading import execute
from tests.proxy import Fault, Kind, Proxy, Trigger
from tests.proxy.faults import QUERY

LOAD_LIMIT_S = 45.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a load ended. result: None where it raised before the first row was sent.

    error: what it raised. stuck: where its tasks stood when its time was up, else "".
    """

    result: LoadResult | None
    error: BaseException | None
    seconds: float
    stuck: str = ""

    @property
    def finished(self) -> bool:
        """Whether it ended without an error."""
        return self.error is None and not self.stuck


@dataclass(slots=True)
class Tally:
    """What a run adds to the report. The flags say what kind of a run it was."""

    result: LoadResult | None = None
    verdict: Verdict = field(default_factory=Verdict)
    seconds: float = 0.0
    loads: int = 0
    fired: int = 0
    lost_commit: bool = False
    killed: bool = False
    ids_reused: int = 0
    rows_at_kill: int | None = None
    remarks: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Scene:
    """What a case plays in. dsn: past the proxy, to a fresh database.

    role: who loads; "" for the owner of all.
    """

    setup: Setup
    cluster: Cluster
    dsn: str
    folder: Path
    rng: random.Random
    tally: Tally = field(default_factory=Tally)
    listeners: list[Callable[[Event], None]] = field(default_factory=list)
    load_id: str = ""
    role: str = ""
    _proxy: Proxy | None = None
    _path: Path | None = None

    @property
    def proxy(self) -> Proxy:
        """The proxy that the load goes through."""
        assert self._proxy is not None
        return self._proxy

    @proxy.setter
    def proxy(self, proxy: Proxy) -> None:
        self._proxy = proxy

    @property
    def path(self) -> Path:
        """The file of the setup's rows."""
        if self._path is None:
            self._path = self.setup.write_file(self.folder / "rows.parquet")
        return self._path

    @property
    def dead_letter(self) -> Path:
        """Where rejected rows go."""
        return self.folder / "rejects.ndjson"

    def dsn_of_load(self, dsn: str) -> str:
        """The same for the role that loads."""
        return _as_role(dsn, self.role) if self.role else dsn

    def sql(self, statements: str) -> None:
        """Run statements, past the proxy."""
        execute(self.dsn, statements)

    async def load(
        self,
        dsn: str,
        *,
        resume: str | None = None,
        limit_s: float = LOAD_LIMIT_S,
        table: str = "t",
        path: Path | None = None,
        **changes: Any,
    ) -> Outcome:
        """Load the file; an error is part of the outcome. A load that is stuck is ended."""
        changes = {"dead_letter": self.dead_letter, **changes}
        options = self.setup.options(changes.pop("dead_letter"), **changes)
        started = time.perf_counter()
        self.tally.loads += 1
        loading = asyncio.create_task(
            load(
                open_source(path or self.path),
                {None: parse_table_name(table)},
                dsn,
                options,
                resume=resume,
                on_event=self._listen,
            )
        )
        await asyncio.wait([loading], timeout=limit_s)
        stuck = ""
        if not loading.done():
            stuck = await self._end(loading)
        seconds = time.perf_counter() - started
        self.tally.seconds = max(self.tally.seconds, seconds)
        return self._outcome(loading, seconds, stuck)

    def _listen(self, event: Event) -> None:
        if isinstance(event, LoadStarted):
            self.load_id = event.load_id
        for listener in self.listeners:
            listener(event)

    def _outcome(self, loading: asyncio.Task[LoadResult], seconds: float, stuck: str) -> Outcome:
        if not loading.done() or loading.cancelled():
            return Outcome(None, None, seconds, stuck or "cancelled")
        error = loading.exception()
        if error is None:
            return Outcome(loading.result(), None, seconds, stuck)
        result = error.result if isinstance(error, LoadError) else None
        if not isinstance(error, BatchbenchError):
            # Whatever else comes out of a load is a bug of it.
            self.problem(f"load raised {type(error).__name__}: {error} at {_where(error)}")
        return Outcome(result, error, seconds, stuck)

    async def _end(self, loading: asyncio.Task[LoadResult]) -> str:
        """Say where a load hangs, then free it by force."""
        stuck = _stacks()
        self.problem(f"the load did not end within its limit; tasks at: {stuck}")
        if self._proxy is not None:
            self._proxy.disarm()
            self._proxy.release()
            self._proxy.strike(Fault(Kind.CUT, Trigger(QUERY)))
        if self.cluster.running:
            await asyncio.to_thread(until_ready, self.cluster.dsn)
            await asyncio.to_thread(terminate_backends, self.dsn)
        await asyncio.wait([loading], timeout=10)
        if not loading.done():
            loading.cancel()
            await asyncio.wait([loading], timeout=5)
        return stuck

    # --- judging ------------------------------------------------------------------------------

    def problem(self, text: str) -> None:
        """Note a broken promise."""
        self.tally.verdict.problems.append(text)

    def claim(self, holds: bool, text: str) -> None:
        """Note a broken promise where a claim does not hold."""
        self.tally.verdict.claim(holds, text)

    def judge(
        self,
        outcome: Outcome,
        *,
        expected: Expected | None = None,
        unknown_allowed: bool = False,
        final: bool = True,
    ) -> None:
        """Hold an outcome against the table. final: it is the one that the report shows."""
        expected = expected or Expected.of(self.setup)
        stored = stored_rows(self.dsn)
        result = outcome.result
        if result is None:
            if not outcome.stuck:
                self.claim(not stored, f"nothing was sent, they say, yet {len(stored)} rows there")
            return
        verdict = check(
            expected,
            result,
            stored,
            dead_rows(self.dead_letter),
            finished=outcome.finished,
            unknown_allowed=unknown_allowed,
        )
        self.tally.verdict.lost += verdict.lost
        self.tally.verdict.doubled += verdict.doubled
        self.tally.verdict.problems += verdict.problems
        if final or self.tally.result is None:
            self.tally.result = result


def _as_role(dsn: str, role: str) -> str:
    scheme, rest = dsn.split("://", 1)
    return f"{scheme}://{role}@{rest.split('@', 1)[-1]}"


def _stacks() -> str:
    """Where every task of this loop stands, innermost frames only."""
    lines = []
    for task in asyncio.all_tasks():
        if task is asyncio.current_task():
            continue
        text = io.StringIO()
        task.print_stack(limit=None, file=text)
        frames = [line.strip() for line in text.getvalue().splitlines() if "File" in line]
        ours = [frame for frame in frames if "/batchbench/" in frame]
        if ours:
            lines.append(" <- ".join(_frame(frame) for frame in reversed(frames[-6:])))
    return " | ".join(lines)


def _frame(line: str) -> str:
    path, number, function = (part.strip() for part in line.removeprefix("File").split(",")[:3])
    short = "/".join(path.strip('"').rsplit("/", 3)[-3:])
    return f"{short}:{number.removeprefix('line ')} {function.removeprefix('in ')}"


def _where(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions[0]
        return f"{type(inner).__name__}: {inner} at {_where(inner)}"
    traceback, frames = error.__traceback__, []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f"{'/'.join(code.co_filename.rsplit('/', 3)[-3:])}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return " <- ".join(reversed(frames[-6:]))
