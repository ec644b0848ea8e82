"""Who runs trials: this process, or one of its own that knows nothing of the trials before.

A client process is a Python of its own, not a fork: its memory is that of a service that loads, and
what an earlier epoch left in caches, threads and heaps is gone. It ends with this process, however
that ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Protocol

from batchbench.config import child_environment
from batchbench.errors import ServerError
from batchbench.harness.brief import Brief, TrialLostError
from batchbench.harness.letters import Said, letter, read_letter
from batchbench.harness.plan import Trial
from batchbench.harness.trial import Told, TrialRunner, open_runner
from batchbench.results import TrialRecord

LENGTH_BYTES = 8
"""In front of each message: its length, big-endian."""

START_LIMIT_S = 120.0
"""For a client to be ready: a Python that starts, and a connection."""

STOP_LIMIT_S = 10.0
"""For a client to finish the chunks in flight."""


class Client(Protocol):
    """Runs trials of a brief, one at a time."""

    async def run(self, trial: Trial) -> TrialRecord:
        """Load once. Raises TrialLostError where this client can run nothing more; what else
        `TrialRunner.run` raises.
        """

    async def close(self) -> None:
        """End it; never raises for what the server does."""


async def open_client(brief: Brief, notice: Told, *, apart: bool) -> Client:
    """A client. apart: in a process of its own. Raises ServerError where there is no server."""
    if not apart:
        open_here = AsyncExitStack()
        return _Here(await open_here.enter_async_context(open_runner(brief, notice)), open_here)
    client = await _start(notice)
    try:
        async with asyncio.timeout(START_LIMIT_S):
            await client.ask(brief)
    except TimeoutError as error:
        await client.close()
        raise ServerError(
            f"the client process was not ready within {START_LIMIT_S:g} s: it starts a Python and"
            " connects to the server; see that neither is held up"
        ) from error
    except BaseException:
        await client.close()
        raise
    return client


@dataclass(frozen=True, slots=True)
class _Here:
    runner: TrialRunner
    connections: AsyncExitStack

    async def run(self, trial: Trial) -> TrialRecord:
        return await self.runner.run(trial)

    async def close(self) -> None:
        await self.connections.aclose()


def packed(message: Brief | Trial | Said) -> bytes:
    """A message with its length."""
    body = letter(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


@dataclass(slots=True)
class _Apart:
    process: asyncio.subprocess.Process
    notice: Told = field(repr=False)
    limit_s: float = 60.0

    async def run(self, trial: Trial) -> TrialRecord:
        try:
            async with asyncio.timeout(self.limit_s):
                answer = await self.ask(trial)
        except TimeoutError as error:
            raise TrialLostError(
                f"the client process did not answer within {self.limit_s:g} s"
            ) from error
        if answer is None:
            raise AssertionError("a client answers a trial with its record")
        return answer

    async def ask(self, message: Brief | Trial) -> TrialRecord | None:
        """Send it, and hand on what comes until the answer. Raises what the client raised."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        if isinstance(message, Brief):
            # Preparing and verifying take their time too; this only ends what hangs for good.
            self.limit_s = 2 * message.trial_timeout_s + STOP_LIMIT_S
        try:
            stdin.write(packed(message))
            await stdin.drain()
            while True:
                length = int.from_bytes(await stdout.readexactly(LENGTH_BYTES), "big")
                said = read_letter(await stdout.readexactly(length))
                assert isinstance(said, Said)
                if said.notice:
                    self.notice(said.notice)
                elif said.error is not None:
                    raise said.error
                else:
                    return said.answer
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise TrialLostError(self._death(await self._wait())) from error

    async def close(self) -> None:
        """The end of its input tells it to finish."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        await self._wait()

    async def _wait(self) -> int:
        try:
            async with asyncio.timeout(STOP_LIMIT_S):
                return await self.process.wait()
        except TimeoutError:
            self.process.kill()
            return await self.process.wait()
        except asyncio.CancelledError:
            self.process.kill()
            raise

    def _death(self, code: int) -> str:
        if code >= 0:
            return f"the client process ended with exit code {code}"
        name = signal.Signals(-code).name
        memory = "; the system may have been out of memory" if -code == signal.SIGKILL else ""
        return f"the client process was ended by {name}{memory}"


async def _start(notice: Told) -> _Apart:
    """A new Python that finds the same modules."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchbench.harness.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment({"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}),
        start_new_session=True,  # Ctrl-C is this process's to answer
    )
    return _Apart(process, notice)
