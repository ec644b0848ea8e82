"""A network between engine and server: later by what was asked, otherwise the same."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import psycopg
import pytest
import trustme
from psycopg.conninfo import make_conninfo

from batchbench.config import child_environment
from batchbench.drivers import CAPABILITIES, connect
from batchbench.drivers.address import parameters
from batchbench.engine import load
from batchbench.errors import ConfigError, ServerError
from batchbench.harness.observe import delay, delayed, round_trip_ms
from batchbench.sources import open_source
from batchbench.table import TableName
from tests.fixtures.faults import until
from tests.fixtures.loading import execute, numbered, options, query
from tests.fixtures.tcp import LOOPBACK, TcpServer, open_tcp_server
from tests.proxy import open_proxy

both_drivers = pytest.mark.parametrize("driver", CAPABILITIES)
RTT_MS = 20.0


async def answer(driver: str, dsn: str, sql: str) -> str | None:
    session = await connect(driver, dsn)
    try:
        return (await session.fetch(sql))[0][0]
    finally:
        await session.close()


# --- time -----------------------------------------------------------------------------------------


@both_drivers
async def test_round_trips_take_what_was_asked(dsn: str, driver: str) -> None:
    async with delayed(dsn, RTT_MS) as far:
        near_session, far_session = await connect(driver, dsn), await connect(driver, far)
        pairs = [
            (await round_trip_ms(near_session, 1), await round_trip_ms(far_session, 1))
            for _ in range(15)
        ]
        await near_session.close()
        await far_session.close()
    near_ms, far_ms = min(soon for soon, _ in pairs), min(late for _, late in pairs)
    assert far_ms / RTT_MS >= 1
    assert (far_ms - near_ms) / RTT_MS < 1.4  # a busy machine adds, it never takes away


async def test_zero_is_no_relay(dsn18: str) -> None:
    async with delayed(dsn18, 0) as far:
        assert far == dsn18


@pytest.mark.parametrize("rtt_ms", [-1.0, float("nan"), float("inf"), 10_001.0])
async def test_times_that_cannot_be(dsn18: str, rtt_ms: float) -> None:
    with pytest.raises(ConfigError, match="round trip"):
        async with delayed(dsn18, rtt_ms):
            pass


# --- addresses ------------------------------------------------------------------------------------


@both_drivers
async def test_loads_go_through(dsn: str, driver: str) -> None:
    execute(dsn, "CREATE TABLE t (id int, note text)")
    async with delayed(dsn, 2) as far:
        chosen = options(driver=driver, strategy="copy", parallelism=2, chunk_size=2_000)
        await load(open_source(numbered(30_000)), {None: TableName("t")}, far, chosen)
    assert query(dsn, "SELECT count(*), sum(id) FROM t") == [(30_000, 30_000 * 30_001 // 2)]


@both_drivers
async def test_both_forms_over_tcp(dsn18: str, driver: str) -> None:
    async with open_proxy(dsn18) as proxy:  # takes TCP connections
        known = parameters(proxy.dsn)
        for form in (proxy.dsn, make_conninfo("", **known)):
            async with delayed(form, 1) as far:
                assert parameters(far)["port"] != known["port"]
                database = await answer(driver, far, "SELECT current_database()::text")
                assert database == known["dbname"]
        assert proxy.connections >= 4


async def test_what_the_string_leaves_out(dsn18: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known = parameters(dsn18)
    for name, key in (("PGHOST", "host"), ("PGPORT", "port"), ("PGDATABASE", "dbname")):
        monkeypatch.setenv(name, known[key])
    async with delayed(f"user={known['user']}", 1) as far:
        session = await connect("psycopg", far)
        assert await round_trip_ms(session, 3) >= 1
        await session.close()


async def test_several_hosts_lead_to_the_one_that_is_there(dsn18: str) -> None:
    known = parameters(dsn18)
    several = make_conninfo("", **{**known, "host": f"/nowhere,{known['host']}"})
    async with delayed(several, 1) as far:
        assert await answer("asyncpg", far, "SELECT 'x'") == "x"


async def test_a_server_that_is_not_there(dsn18: str) -> None:
    with pytest.raises(ServerError, match="cannot connect"):
        async with delayed(make_conninfo(dsn18, host="/nowhere"), 1):
            pass
    with pytest.raises(ConfigError, match="not valid"):
        async with delayed("nonsense", 1):
            pass


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TcpServer, Path]]:
    """A server that takes TLS and a password only; its certificate is for localhost."""
    ours = trustme.CA()
    certificate = ours.issue_cert("localhost")
    files = {
        "ours.crt": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        "ours.key": certificate.private_key_pem.bytes(),
    }
    roots = tmp_path_factory.mktemp("tls") / "roots.crt"
    ours.cert_pem.write_to_path(roots)
    on = {"ssl": "on", "ssl_cert_file": "ours.crt", "ssl_key_file": "ours.key"}
    rules = f"hostssl all all {LOOPBACK}/32 scram-sha-256\n"
    with open_tcp_server(rules, on, files, "pg15") as server:  # the embedded one has no TLS
        server.sql("CREATE ROLE r LOGIN PASSWORD 'a secret: @/'")
        yield server, roots


IS_SECURE = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@pytest.mark.parametrize(
    ("driver", "mode"),
    [("psycopg", "verify-full"), ("psycopg", "require"), ("asyncpg", "verify-ca")],
)
async def test_tls_passes_through_with_the_servers_own_certificate(
    tls: tuple[TcpServer, Path], tmp_path: Path, driver: str, mode: str
) -> None:
    server, roots = tls
    passwords = tmp_path / "passwords"
    passwords.write_text(f"localhost:{server.port}:*:r:a secret\\: @/\n")
    passwords.chmod(0o600)
    dsn = make_conninfo(
        "",
        host="localhost",
        port=server.port,
        user="r",
        dbname="postgres",
        sslmode=mode,
        sslrootcert=str(roots),
        passfile=str(passwords),
    )
    async with delayed(dsn, 1) as far:
        assert parameters(far)["port"] != str(server.port)
        assert await answer(driver, far, IS_SECURE) == "true"


# --- bytes ----------------------------------------------------------------------------------------

Serve = Callable[[socket.socket], None]


@contextmanager
def peer(serve: Serve) -> Iterator[int]:
    """A server for bytes on a port of loopback: each connection in a thread."""
    with socket.create_server((LOOPBACK, 0)) as listener:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    wire, _ = listener.accept()
                    threading.Thread(target=serve, args=(wire,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int, one_way_s: float) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """delay.py in front of a port: where it listens, and its process."""
    command = [sys.executable, "-I", "-S", delay.__file__, f"{LOOPBACK} {port}", repr(one_way_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=child_environment()
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        told = process.stdout.readline()
        yield int(told.split(b":")[1].strip(b" }\n")), process
        process.stdin.close()
        assert process.wait(10) == 0


def echo(wire: socket.socket) -> None:
    """Send back what comes; its end too."""
    with wire, suppress(OSError):
        while block := wire.recv(65_536):
            wire.sendall(block)


def received(wire: socket.socket, into: list[bytes]) -> None:
    while block := wire.recv(65_536):
        into.append(block)


def test_both_directions_at_once_in_order_to_the_end() -> None:
    sent = hashlib.shake_256(b"rows").digest(8 << 20)
    with peer(echo) as port, relay(port, 0.004) as (through, _):
        wires = [socket.create_connection((LOOPBACK, through)) for _ in range(3)]
        found: list[list[bytes]] = [[] for _ in wires]
        readers = [
            threading.Thread(target=received, args=pair) for pair in zip(wires, found, strict=True)
        ]
        for reader in readers:
            reader.start()
        for start in range(0, len(sent), 300_001):
            for wire in wires:
                wire.sendall(sent[start : start + 300_001])
        for wire in wires:
            wire.shutdown(socket.SHUT_WR)  # the way back stays open
        for reader in readers:
            reader.join(60)
        for wire in wires:
            wire.close()
    assert all(b"".join(blocks) == sent for blocks in found)


def test_bandwidth_is_not_limited_by_the_delay() -> None:
    count = 96 << 20

    def drain(wire: socket.socket) -> None:
        with wire:
            left = count
            while left:
                left -= len(wire.recv(1 << 20))
            wire.sendall(b"!")

    def taken_s(port: int) -> float:
        block = bytes(1 << 20)
        with socket.create_connection((LOOPBACK, port)) as wire:
            began_s = time.perf_counter()
            for _ in range(count // len(block)):
                wire.sendall(block)
            assert wire.recv(1) == b"!"
            return time.perf_counter() - began_s

    with peer(drain) as port, relay(port, 0.0001) as (near, _), relay(port, 0.02) as (far, _):
        pairs = [(taken_s(near), taken_s(far)) for _ in range(3)]
    # A window of 1 MiB would take 48 times the 40 ms.
    assert min(far_s / near_s for near_s, far_s in pairs) < 4


def test_a_receiver_that_does_not_read_holds_the_sender() -> None:
    ending = threading.Event()

    def ignore(wire: socket.socket) -> None:
        with wire:
            ending.wait(60)

    with peer(ignore) as port, relay(port, 0.001) as (through, process):
        with socket.create_connection((LOOPBACK, through)) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            wire.settimeout(1.0)
            sent = 0
            with suppress(TimeoutError):
                while sent < 1 << 30:
                    sent += wire.send(bytes(1 << 18))
            memory = psutil.Process(process.pid).memory_info().rss
        ending.set()
    kernels = 16 << 20  # what sockets on loopback may take by themselves
    assert sent < delay.most_bytes(0.001) + kernels
    assert memory < 64 << 20


def test_the_ends_of_a_server_and_of_a_client_arrive() -> None:
    gone = threading.Event()

    def say_and_go(wire: socket.socket) -> None:
        with wire:
            wire.sendall(b"last words")

    def until_end(wire: socket.socket) -> None:
        with wire, suppress(OSError):
            while wire.recv(1_000):
                pass
        gone.set()

    with (
        peer(say_and_go) as port,
        relay(port, 0.01) as (through, _),
        socket.create_connection((LOOPBACK, through)) as wire,
    ):
        assert wire.recv(100) == b"last words"
        assert wire.recv(100) == b""
    with peer(until_end) as port, relay(port, 0.01) as (through, _):
        socket.create_connection((LOOPBACK, through)).close()
        assert gone.wait(20)


def test_a_server_that_refuses_is_a_connection_that_ends() -> None:
    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
    with relay(port, 0.001) as (through, process):
        for _ in range(3):
            with socket.create_connection((LOOPBACK, through)) as wire:
                wire.settimeout(20)
                with suppress(ConnectionError):
                    assert wire.recv(1) == b""
        assert process.poll() is None


def test_a_new_connection_takes_a_round_trip_more() -> None:
    trips_s = []
    with (
        peer(echo) as port,
        relay(port, 0.05) as (through, _),
        socket.create_connection((LOOPBACK, through)) as wire,
    ):
        for _ in range(2):
            began_s = time.perf_counter()
            wire.sendall(b"?")
            wire.recv(1)
            trips_s.append(time.perf_counter() - began_s)
    assert trips_s[0] >= 0.19
    assert trips_s[1] >= 0.1
    assert trips_s[0] / trips_s[1] > 1.3


# --- beginning and end ----------------------------------------------------------------------------


def relays() -> set[int]:
    """Of this process."""
    return {
        child.pid
        for child in psutil.Process().children()
        if any("delay.py" in part for part in child.cmdline())
    }


async def test_it_ends_with_its_context(dsn18: str) -> None:
    before = relays()
    async with delayed(dsn18, 1) as far:
        folder = Path(parameters(far)["host"])
        assert folder.stat().st_mode & 0o77 == 0
        assert len(relays() - before) == 1
        open_still = psycopg.connect(far)
    assert relays() == before
    assert not folder.exists()
    with open_still, pytest.raises(psycopg.OperationalError):
        open_still.execute("SELECT 1")


async def test_it_ends_with_its_context_that_fails(dsn18: str) -> None:
    before = relays()
    with pytest.raises(ValueError, match="mine"):
        async with delayed(dsn18, 1):
            raise ValueError("mine")
    assert relays() == before


async def test_a_relay_that_was_killed_is_an_error(dsn18: str) -> None:
    before = relays()
    far = delayed(dsn18, 1)
    await far.__aenter__()
    (pid,) = relays() - before
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ServerError, match="exit code -9"):
        await far.__aexit__(None, None, None)


ABANDONED = """
import asyncio, os, sys
from batchbench.harness.observe import delayed

async def main():
    async with delayed(sys.argv[1], 1) as far:
        print(far, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextmanager
def abandoned(dsn: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A process with a relay of its own, to be killed, and where the relay is."""
    with subprocess.Popen(
        [sys.executable, "-c", ABANDONED, dsn], stdout=subprocess.PIPE, env=child_environment()
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        try:
            yield process, line.decode()
        finally:
            process.kill()


def test_it_ends_when_its_process_is_killed(dsn18: str) -> None:
    with abandoned(dsn18) as (process, far):
        folder = Path(parameters(far)["host"])
        (child,) = psutil.Process(process.pid).children()
        process.kill()
        until("it is gone", lambda: not child.is_running())
    assert not folder.exists()
