"""COPY over psycopg, in a thread of its own.

The socket is full after every few messages: to wait for it costs a thread one system call, and an
event loop more than all the sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
from psycopg import generators, waiting
from psycopg.pq.abc import PGconn, PGresult

from batchbench.drivers import Pieces
from batchbench.errors import WriteError

# libpq slows down where it is given more at once, and what is not flushed piles up in it.
_MESSAGE_BYTES = 128 << 10
_LOOK_S = 0.1  # how often psycopg looks up from waiting for an answer


class CopyThread:
    """A session's own thread. Not one of the loop's: those are few, and one that waits for the
    locks of another writer would keep that one from its COMMIT.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "batchbench-copy")

    async def copy(
        self, pgconn: PGconn, sql: bytes, stream: Pieces, abort: Callable[[], None]
    ) -> list[PGresult]:
        """Run statements of which the last is a COPY; return the last results, or those of the
        statement that failed. abort: cuts the connection; called where the task is cancelled.
        """
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: _copy(pgconn, sql, stream, abort)
        )
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            abort()
            await asyncio.wait([work])  # a thread cannot be cancelled; what it waits for has failed
            raise

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)


def _copy(pgconn: PGconn, sql: bytes, stream: Pieces, abort: Callable[[], None]) -> list[PGresult]:
    pgconn.send_query(sql)
    begun: list[PGresult] = waiting.wait(generators.execute(pgconn), pgconn.socket, _LOOK_S)
    if begun[-1].status != psycopg.pq.ExecStatus.COPY_IN:
        return begun
    try:
        _put_all(pgconn, stream)
    except WriteError:  # of the rows: they cannot be encoded
        with contextlib.suppress(psycopg.Error):  # its answer to our giving up
            _end(pgconn, b"cannot go on")
        raise
    except BaseException:
        abort()  # a COPY left open would take what is sent next for its data
        raise
    return [_end(pgconn, None)]


def _end(pgconn: PGconn, error: bytes | None) -> PGresult:
    return waiting.wait(generators.copy_end(pgconn, error), pgconn.socket, _LOOK_S)


def _put_all(pgconn: PGconn, stream: Pieces) -> None:
    """Send a COPY's data. Not by psycopg's own `Copy`: where the connection breaks it logs
    "error ignored terminating" beside the error that it raises.
    """
    wire = select.poll()
    # What the server says is read by flush(): it may not read on before that is.
    wire.register(pgconn.socket, select.POLLIN | select.POLLOUT)
    for piece in _pieces(stream):
        view = memoryview(piece)
        for start in range(0, len(view), _MESSAGE_BYTES):
            message = view[start : start + _MESSAGE_BYTES]
            while pgconn.put_copy_data(message) == 0:
                wire.poll()
            while pgconn.flush():
                wire.poll()
    stream.sent()


def _pieces(stream: Pieces) -> Iterator[bytes | bytearray | memoryview]:
    yield from stream.ready()
    yield from stream.rest() or ()
