"""Reading a source that may block for as long as it likes: nobody who stops waits for it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")

READING, ENCODING = "batchbench-read", "batchbench-encode"
"""Names of threads that may be blocked when all else has ended."""

_Work = tuple[Future[Any], Callable[[], Any]]


class OneThread(Executor):
    """Works off what it is given, in order. Unlike those of a ThreadPoolExecutor, its thread does
    not keep a program from ending while it is blocked.
    """

    def __init__(self, name: str) -> None:
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """See `Executor.submit`."""
        if self._thread.ident is None:
            self._thread.start()
        future: Future[T] = Future()
        self._work.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the thread end after what it was given. wait: for that."""
        self._work.put(None)
        if wait and self._thread.ident is not None:
            self._thread.join()

    def _live(self) -> None:
        while self._next(self._work.get()):
            pass

    def _next(self, work: _Work | None) -> bool:
        """In a frame of its own: a result is not to be held while the next one is waited for."""
        if work is None:
            return False
        future, call = work
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # noqa: BLE001 - handed to who waits
                future.set_exception(error)
        return True


async def apart(call: Callable[[], T]) -> T:
    """The result of a call that blocks; who is cancelled does not wait for it."""
    thread = OneThread(READING)
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, call)
    finally:
        thread.shutdown(wait=False)


async def until(stopped: asyncio.Event, items: Iterator[T]) -> AsyncGenerator[T, None]:
    """Items of an iterator that blocks, each made in a thread while the one before is used.

    It ends once `stopped` is set, also while an item is being made: that is left to itself, and so
    is the iterator.
    """
    thread = OneThread(ENCODING)

    def step() -> asyncio.Future[T | None]:
        following = partial(copy_context().run, next, items, None)
        return asyncio.get_running_loop().run_in_executor(thread, following)

    ending = asyncio.ensure_future(stopped.wait())
    coming = step()
    try:
        while await _first(coming, ending) and (item := coming.result()) is not None:
            coming = step()
            yield item
    finally:
        ending.cancel()
        if not coming.cancel() and not coming.cancelled():
            coming.exception()  # nobody asks for it any more
        thread.shutdown(wait=False)


async def _first(coming: asyncio.Future[Any], ending: asyncio.Future[Any]) -> bool:
    """Wait for either; whether the first has come."""
    await asyncio.wait([coming, ending], return_when=asyncio.FIRST_COMPLETED)
    return coming.done()
