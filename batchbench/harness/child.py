"""The client process: `python -m batchbench.harness.child`, spoken to by `client.py`.

A brief comes first on standard input, then trial after trial; each is answered on standard output.
The end of the input, which is also the death of who asks, cancels the load under way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from batchbench.errors import BatchbenchError
from batchbench.harness.brief import Brief, TrialLostError
from batchbench.harness.client import LENGTH_BYTES, STOP_LIMIT_S, packed
from batchbench.harness.letters import Said, read_letter
from batchbench.harness.plan import Trial
from batchbench.harness.trial import NO_MEMORY, TrialRunner, open_runner


@dataclass(slots=True)
class _Line:
    """Both ways to who asks."""

    asked: BinaryIO
    answers: BinaryIO
    loop: asyncio.AbstractEventLoop
    messages: asyncio.Queue[Brief | Trial] = field(default_factory=asyncio.Queue)

    def say(self, said: Said) -> None:
        """Answer. One who asks no more hears nothing: the end of the input says the same."""
        with contextlib.suppress(BrokenPipeError):
            self.answers.write(packed(said))
            self.answers.flush()

    def listen(self, working: asyncio.Task[None]) -> None:
        """In a thread: hand on what is asked; at the end of it, end the work, or else all.

        Also where a message cannot be read: who asks waits for an answer, and hears of the end.
        """
        try:
            while (message := self._read()) is not None:
                self.loop.call_soon_threadsafe(self.messages.put_nowait, message)
        finally:
            self.loop.call_soon_threadsafe(working.cancel)
            time.sleep(STOP_LIMIT_S)
            os._exit(1)

    def _read(self) -> Any:
        head = self.asked.read(LENGTH_BYTES)
        length = int.from_bytes(head, "big")
        body = self.asked.read(length)
        whole = len(head) == LENGTH_BYTES and len(body) == length
        return read_letter(body) if whole else None


async def _serve(line: _Line) -> None:
    """Answer until cancelled."""
    brief = await line.messages.get()
    assert isinstance(brief, Brief)
    async with AsyncExitStack() as stack:
        opening = open_runner(brief, lambda text: line.say(Said(notice=text)))
        try:
            runner = await stack.enter_async_context(opening)
        except BatchbenchError as error:
            line.say(Said(error=error))
            return
        line.say(Said())
        while True:
            trial = await line.messages.get()
            assert isinstance(trial, Trial)
            line.say(await _answer(runner, trial))


async def _answer(runner: TrialRunner, trial: Trial) -> Said:
    try:
        return Said(answer=await runner.run(trial))
    except MemoryError:
        return Said(error=TrialLostError(NO_MEMORY))
    except Exception as error:  # noqa: BLE001 - raised again by who asked
        return Said(error=error)


async def _main(asked: BinaryIO, answers: BinaryIO) -> None:
    line = _Line(asked, answers, asyncio.get_running_loop())
    working = asyncio.create_task(_serve(line))
    threading.Thread(target=line.listen, args=(working,), daemon=True).start()
    with contextlib.suppress(asyncio.CancelledError):
        await working


def main() -> None:
    """Run the process. What anyone prints goes to standard error."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asyncio.run(_main(sys.stdin.buffer, answers))
    os._exit(0)  # the listening thread holds standard input's lock


if __name__ == "__main__":
    main()
