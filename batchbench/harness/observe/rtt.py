"""A network between engine and server: the same server, later by a round trip.

    async with delayed(dsn, rtt_ms=5) as far:
        result = await load(..., far, ...)

What a round trip costs is what chunk size is about; bandwidth, loss and jitter are not imitated.
The bytes pass through a process of its own (`delay.py`), TLS and passwords as they are.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import psycopg
from psycopg.conninfo import make_conninfo

from batchbench.config import child_environment
from batchbench.drivers import CONNECT_TIMEOUT_S, Session, within
from batchbench.drivers.address import parameters, shown, without_secrets
from batchbench.drivers.translate import connect_error
from batchbench.errors import ConfigError, ServerError
from batchbench.harness.observe import delay

MOST_RTT_MS = 10_000.0
_START_LIMIT_S = 15.0
_STOP_LIMIT_S = 5.0
_ROUND_TRIPS = 21


@dataclass(frozen=True, slots=True)
class _Target:
    """Where libpq got to with a connection string.

    host: as named, a folder for a Unix socket. address: of the host, "" for a socket. password:
    of the string, the environment or a password file, "" for none.
    """

    host: str
    address: str
    port: str
    password: str = field(repr=False)

    @property
    def is_socket(self) -> bool:
        """Whether it is a Unix socket."""
        return self.host.startswith(("/", "@"))

    @property
    def argument(self) -> str:
        """For delay.py."""
        if self.is_socket:
            return f"{self.host}/.s.PGSQL.{self.port}"
        return f"{self.address or self.host} {self.port}"


@asynccontextmanager
async def delayed(dsn: str, rtt_ms: float) -> AsyncIterator[str]:
    """A connection string for the same server, whose round trips take `rtt_ms` more.

    dsn: of either form; what it leaves out libpq takes from its variables, files and defaults.
    Half the time is added in each direction, and a new connection takes one round trip more, as
    TCP's own beginning does. 0 gives `dsn` itself. Of several hosts it leads to the one that
    was there at the beginning. Over TCP the name stays in the string, for certificates, with
    the relay's address as hostaddr; a Unix socket leads through another one.

    Raises ConfigError for a time or a string that cannot be, ServerError where the server cannot
    be reached, or where the relay ended before its time.
    """
    if not (math.isfinite(rtt_ms) and 0 <= rtt_ms <= MOST_RTT_MS):
        raise ConfigError(f"a round trip of {rtt_ms:g} ms: it takes 0 to {MOST_RTT_MS:,.0f} ms")
    if rtt_ms == 0:
        yield dsn
        return
    target = await _target(dsn)
    async with _relay(target, rtt_ms / 2_000) as told:
        yield _through(dsn, target, told)


async def _target(dsn: str) -> _Target:
    """Ask libpq where it gets to, by connecting once."""
    parameters(dsn)
    try:
        async with await psycopg.AsyncConnection.connect(
            dsn, autocommit=True, connect_timeout=round(CONNECT_TIMEOUT_S)
        ) as connection:
            wire = connection.pgconn
            host, address, port, password = (
                (value or b"").decode()
                for value in (wire.host, wire.hostaddr, wire.port, wire.password)
            )
    except psycopg.Error as error:
        said = without_secrets(str(error), dsn)
        # Psycopg's error bears the password.
        raise connect_error(shown(dsn), error.sqlstate, said) from None
    return _Target(host, address, port, password)


def _through(dsn: str, target: _Target, told: Mapping[str, str | int]) -> str:
    known = {key: value for key, value in parameters(dsn).items() if key != "hostaddr"}
    if target.password:  # a password file knows it by the server's own port
        known["password"] = target.password
    if target.is_socket:
        known |= {"host": str(told["folder"]), "port": "5432"}
    else:
        known |= {"host": target.host, "hostaddr": "127.0.0.1", "port": str(told["port"])}
    return make_conninfo("", **known)


@asynccontextmanager
async def _relay(target: _Target, one_way_s: float) -> AsyncIterator[Mapping[str, str | int]]:
    """A running delay.py, and what it told of itself."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", delay.__file__, target.argument, repr(one_way_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=child_environment(without=["PG"]),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_START_LIMIT_S):
            line = await process.stdout.readline()
        if not line:
            raise ServerError("the relay that delays round trips did not start; see its own error")
        yield json.loads(line)
    finally:
        process.stdin.close()
        await _stopped(process)
    if process.returncode:
        raise ServerError(
            "the relay that delays round trips did not last, or did not end by itself: exit code"
            f" {process.returncode}"
        )


async def _stopped(process: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def round_trip_ms(session: Session, count: int = _ROUND_TRIPS) -> float:
    """Median time of `SELECT 1` over an idle session, the server's own work in it.

    Raises WriteError where the session fails.
    """
    taken_ms = []
    for _ in range(count):
        began_s = time.perf_counter()
        await within(session, CONNECT_TIMEOUT_S, session.run("SELECT 1"))
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    return median(taken_ms)
