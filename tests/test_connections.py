"""One connection string means the same over both drivers: TLS, several hosts, what ends."""

from __future__ import annotations

import asyncio
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import asyncpg
import pytest
import trustme

from batchbench.accounting import LoadResult
from batchbench.drivers import CAPABILITIES, asyncpg_session, connect
from batchbench.drivers.address import attempts, parameters, shown
from batchbench.engine import load
from batchbench.errors import ConfigError, ServerError
from batchbench.events import ChunkWritten, Event
from batchbench.sources import open_source
from batchbench.table import TableName
from tests.fixtures.faults import kill_postmaster
from tests.fixtures.loading import execute, load_rows, numbered, options, query
from tests.fixtures.replication import Replicated, open_replicated
from tests.fixtures.tcp import LOOPBACK, TcpServer, free_port, open_tcp_server

DRIVERS = list(CAPABILITIES)
both_drivers = pytest.mark.parametrize("driver", DRIVERS)


async def _ask(driver: str, dsn: str, sql: str) -> str | None:
    session = await connect(driver, dsn)
    try:
        return (await session.fetch(sql))[0][0]
    finally:
        await session.close()


async def test_a_connection_that_was_lost_before_it_was_ours_ends_at_once(
    dsn18: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its backend was ended between asyncpg's connect and the session that is made of it."""
    monkeypatch.setattr(asyncpg_session, "_CLOSE_TIMEOUT_S", 3_600.0)
    connection, lost = await asyncpg.connect(dsn18), asyncio.Event()
    connection.add_termination_listener(lambda _: lost.set())
    query(dsn18, f"SELECT pg_terminate_backend({connection.get_server_pid()}, 5000)")
    async with asyncio.timeout(10):
        await lost.wait()
        await asyncpg_session.AsyncpgSession(connection).close()


# --- TLS ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tls:
    """A server with TLS and one without. Files: ours, a stranger's, a client's."""

    server: TcpServer
    plain: TcpServer
    roots: Path
    strangers: Path
    client_cert: Path
    client_key: Path


# Who may come in which way.
RULES = f"""
hostssl   all secured   {LOOPBACK}/32 trust
hostnossl all plain     {LOOPBACK}/32 trust
hostssl   all certified {LOOPBACK}/32 cert
host      all anyone    {LOOPBACK}/32 trust
"""
ROLES = "".join(f"CREATE ROLE {r} LOGIN;" for r in ("secured", "plain", "certified", "anyone"))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """The server's certificate is for localhost, not for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    ours, strangers = trustme.CA(), trustme.CA()
    certificate = ours.issue_cert("localhost")
    client = ours.issue_cert(common_name="certified")
    files = {
        "ours.crt": b"".join(blob.bytes() for blob in certificate.cert_chain_pems),
        "ours.key": certificate.private_key_pem.bytes(),
        "roots.crt": ours.cert_pem.bytes(),
    }
    ours.cert_pem.write_to_path(folder / "roots.crt")
    strangers.cert_pem.write_to_path(folder / "strangers.crt")
    client.cert_chain_pems[0].write_to_path(folder / "client.crt")
    client.private_key_pem.write_to_path(folder / "client.key")
    (folder / "client.key").chmod(0o600)
    on = {
        "ssl": "on",
        "ssl_cert_file": "ours.crt",
        "ssl_key_file": "ours.key",
        "ssl_ca_file": "roots.crt",
    }
    with (  # the embedded PostgreSQL is built without TLS
        open_tcp_server(RULES, on, files, "pg15") as server,
        open_tcp_server(f"host all all {LOOPBACK}/32 trust\n") as plain,
    ):
        server.sql(ROLES)
        plain.sql(ROLES)
        names = ("roots.crt", "strangers.crt", "client.crt", "client.key")
        yield Tls(server, plain, *(folder / name for name in names))


@pytest.fixture
def no_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificates in ~/.postgresql, no PG* variables."""
    for name in os.environ:
        if name.startswith("PG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))


def _dsn(port: int, user: str, host: str = LOOPBACK, **options: object) -> str:
    values = {name: str(value) for name, value in options.items()}
    query_string = urlencode(values, quote_via=quote)
    return f"postgresql://{user}@{host}:{port}/postgres?{query_string}"


IS_SECURE = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()"

# sslmode, user, host -> whether the wire is encrypted; None: refused.
OVER_TLS: Sequence[tuple[str, str, str, bool | None]] = [
    ("disable", "anyone", LOOPBACK, False),
    ("disable", "secured", LOOPBACK, None),
    ("allow", "anyone", LOOPBACK, False),
    ("allow", "secured", LOOPBACK, True),
    ("prefer", "anyone", LOOPBACK, True),
    ("prefer", "plain", LOOPBACK, False),
    ("require", "anyone", LOOPBACK, True),
    ("require", "plain", LOOPBACK, None),
    ("verify-ca", "anyone", LOOPBACK, True),
    ("verify-full", "anyone", "localhost", True),
    ("verify-full", "anyone", LOOPBACK, None),
]


@both_drivers
@pytest.mark.parametrize(("mode", "user", "host", "secure"), OVER_TLS)
@pytest.mark.usefixtures("no_home")
async def test_modes_of_tls(
    tls: Tls, driver: str, mode: str, user: str, host: str, secure: bool | None
) -> None:
    verified = {"sslrootcert": tls.roots} if mode.startswith("verify") else {}
    dsn = _dsn(tls.server.port, user, host, sslmode=mode, **verified)
    if secure is None:
        with pytest.raises(ServerError):
            await connect(driver, dsn)
    else:
        assert await _ask(driver, dsn, IS_SECURE) == str(secure).lower()


@both_drivers
@pytest.mark.parametrize("mode", ["disable", "allow", "prefer"])
@pytest.mark.usefixtures("no_home")
async def test_weak_modes_do_without_tls(tls: Tls, driver: str, mode: str) -> None:
    dsn = _dsn(tls.plain.port, "anyone", sslmode=mode)
    assert await _ask(driver, dsn, IS_SECURE) == "false"


@both_drivers
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.usefixtures("no_home")
async def test_strong_modes_never_go_without_tls(tls: Tls, driver: str, mode: str) -> None:
    roots = {"sslrootcert": tls.roots} if mode != "require" else {}
    with pytest.raises(ServerError):
        await connect(driver, _dsn(tls.plain.port, "anyone", "localhost", sslmode=mode, **roots))


@both_drivers
@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.usefixtures("no_home")
async def test_a_strangers_certificate_is_refused(tls: Tls, driver: str, mode: str) -> None:
    """With a root certificate `require` verifies too, as in libpq."""
    dsn = _dsn(tls.server.port, "anyone", "localhost", sslmode=mode, sslrootcert=tls.strangers)
    with pytest.raises(ServerError):
        await connect(driver, dsn)


@both_drivers
@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
@pytest.mark.usefixtures("no_home")
async def test_verifying_needs_a_root_certificate(tls: Tls, driver: str, mode: str) -> None:
    with pytest.raises(ServerError, match=r"root certificate file"):
        await connect(driver, _dsn(tls.server.port, "anyone", "localhost", sslmode=mode))


@both_drivers
@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslcrl"])
async def test_a_missing_certificate_is_named(driver: str, name: str, tmp_path: Path) -> None:
    dsn = _dsn(1, "anyone", sslmode="require", **{name: tmp_path / "gone.crt"})
    with pytest.raises(ConfigError, match=rf"^{name}=.*gone\.crt: there is no such file"):
        await connect(driver, dsn)


@both_drivers
@pytest.mark.usefixtures("no_home")
async def test_client_certificate(tls: Tls, driver: str) -> None:
    mine = {"sslcert": tls.client_cert, "sslkey": tls.client_key}
    verified = {"sslmode": "verify-full", "sslrootcert": tls.roots}
    dsn = _dsn(tls.server.port, "certified", "localhost", **verified)
    with pytest.raises(ServerError):
        await connect(driver, dsn)
    dsn = _dsn(tls.server.port, "certified", "localhost", **verified, **mine)
    assert await _ask(driver, dsn, "SELECT current_user::text") == "certified"


@both_drivers
@pytest.mark.usefixtures("no_home")
async def test_roots_of_the_system(tls: Tls, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.roots))
    dsn = _dsn(tls.server.port, "anyone", "localhost", sslrootcert="system")
    assert await _ask(driver, dsn, IS_SECURE) == "true"
    monkeypatch.setenv("SSL_CERT_FILE", str(tls.strangers))
    with pytest.raises(ServerError):
        await connect(driver, dsn)


@both_drivers
@pytest.mark.usefixtures("no_home")
async def test_version_of_tls(tls: Tls, driver: str) -> None:
    capped = _dsn(tls.server.port, "anyone", sslmode="require", ssl_max_protocol_version="TLSv1.2")
    asked = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert await _ask(driver, capped, asked) == "TLSv1.2"


@both_drivers
@pytest.mark.usefixtures("no_home")
async def test_the_environments_mode_counts_unless_the_string_names_one(
    tls: Tls, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGSSLMODE", "require")
    with pytest.raises(ServerError):
        await connect(driver, _dsn(tls.plain.port, "anyone"))
    dsn = _dsn(tls.plain.port, "anyone", sslmode="prefer")
    assert await _ask(driver, dsn, IS_SECURE) == "false"


@pytest.mark.parametrize(
    "option",
    [
        "channel_binding=require",
        "require_auth=scram-sha-256",
        "gssencmode=require",
        "requirepeer=postgres",
        "sslcrldir=/etc/crl",
        "sslcertmode=require",
        "hostaddr=127.0.0.1&sslmode=verify-full",
        "sslrootcert=system&sslmode=require",
    ],
)
async def test_what_asyncpg_would_do_more_weakly_is_refused(option: str) -> None:
    with pytest.raises(ConfigError):
        await connect("asyncpg", f"postgresql://anyone@localhost:1/postgres?{option}")


@both_drivers
@pytest.mark.usefixtures("no_home")
async def test_hostaddr_leads_there_without_a_look_at_the_hosts_name(tls: Tls, driver: str) -> None:
    dsn = _dsn(tls.server.port, "anyone", "nowhere.invalid", hostaddr=LOOPBACK, sslmode="require")
    assert await _ask(driver, dsn, IS_SECURE) == "true"


# --- several hosts --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair() -> Iterator[Replicated]:
    """A primary and its standby."""
    with open_replicated() as replicated:
        yield replicated


def _both(hosts: str, pair: Replicated, **options: str) -> str:
    """A connection string to "primary", "standby", or both in that order."""
    folders = [str(getattr(pair, name).socket_dir) for name in hosts.split(",")]
    return "postgresql://postgres@/postgres?" + urlencode(
        {"host": ",".join(folders), **options}, quote_via=quote
    )


WHO = "SELECT CASE WHEN pg_is_in_recovery() THEN 'standby' ELSE 'primary' END"

# target_session_attrs, hosts -> who is taken; None: nobody.
TARGETS = [
    ("any", "primary,standby", "primary"),
    ("any", "standby,primary", "standby"),
    ("read-write", "standby,primary", "primary"),
    ("read-write", "standby", None),
    ("read-only", "primary,standby", "standby"),
    ("read-only", "primary", None),
    ("primary", "standby,primary", "primary"),
    ("primary", "standby", None),
    ("standby", "primary,standby", "standby"),
    ("standby", "primary", None),
    ("prefer-standby", "primary,standby", "standby"),
    ("prefer-standby", "primary", "primary"),
]


@both_drivers
@pytest.mark.parametrize(("wanted", "hosts", "taken"), TARGETS)
async def test_target_session_attrs(
    pair: Replicated, driver: str, wanted: str, hosts: str, taken: str | None
) -> None:
    dsn = _both(hosts, pair, target_session_attrs=wanted)
    if taken is None:
        with pytest.raises(ServerError):
            await connect(driver, dsn)
    else:
        assert await _ask(driver, dsn, WHO) == taken


@both_drivers
async def test_a_primary_that_writes_nothing_by_default_is_read_only(
    pair: Replicated, driver: str
) -> None:
    options = {"options": "-c default_transaction_read_only=on"}
    dsn = _both("primary", pair, target_session_attrs="read-only", **options)
    assert await _ask(driver, dsn, WHO) == "primary"
    with pytest.raises(ServerError):
        await connect(driver, _both("primary", pair, target_session_attrs="read-write", **options))


@both_drivers
async def test_the_environments_hosts(
    pair: Replicated, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", f"{pair.standby.socket_dir},{pair.primary.socket_dir}")
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", "postgres")
    assert await _ask(driver, "", WHO) == "standby"
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
    assert await _ask(driver, "", WHO) == "primary"


@contextmanager
def silent_host() -> Iterator[int]:
    """A port where somebody takes connections and says nothing."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@both_drivers
async def test_a_silent_host_takes_its_own_time_only(pair: Replicated, driver: str) -> None:
    with silent_host() as port:
        hosts = f"{LOOPBACK},{pair.primary.socket_dir}"
        dsn = f"host={hosts} port={port},5432 user=postgres connect_timeout=2 sslmode=disable"
        assert await asyncio.wait_for(_ask(driver, dsn, WHO), 12) == "primary"


@both_drivers
async def test_a_dead_host_is_passed_over(pair: Replicated, driver: str) -> None:
    hosts = f"{LOOPBACK},{pair.primary.socket_dir}"
    dsn = f"host={hosts} port={free_port()},5432 user=postgres dbname=postgres"
    assert await _ask(driver, dsn, WHO) == "primary"


@both_drivers
async def test_where_no_host_answers_each_is_named(driver: str) -> None:
    first, second = free_port(), free_port()
    dsn = f"postgresql://someone@{LOOPBACK}:{first},{LOOPBACK}:{second}/postgres"
    with pytest.raises(ServerError) as caught:
        await connect(driver, dsn)
    assert str(first) in str(caught.value)
    assert str(second) in str(caught.value)


def test_as_many_ports_as_hosts() -> None:
    with pytest.raises(ConfigError, match="3 hosts and 2 ports"):
        attempts("host=a,b,c port=1,2")
    assert [a.where for a in attempts("host=a,b port=7,")] == ["a:7", "b:5432"]
    assert [a.where for a in attempts("host=a,b port=7")] == ["a:7", "b:7"]


@both_drivers
async def test_connect_timeout_is_a_number(driver: str) -> None:
    with pytest.raises(ConfigError, match="connect_timeout takes whole seconds"):
        await connect(driver, "host=localhost connect_timeout=soon")


@both_drivers
async def test_rows_go_to_the_host_that_may_write(pair: Replicated, driver: str) -> None:
    execute(pair.primary.dsn, "DROP TABLE IF EXISTS t; CREATE TABLE t (id int4, note text)")
    pair.until_caught_up()
    dsn = _both("standby,primary", pair, target_session_attrs="read-write")
    result = await load_rows(dsn, numbered(100), driver=driver, chunk_size=20)
    assert result.total.committed == 100
    assert query(pair.primary.dsn, "SELECT count(*) FROM t") == [(100,)]


@both_drivers
async def test_a_load_follows_a_failover(driver: str) -> None:
    """The primary dies between two chunks, the standby is promoted: the load goes on there."""
    with open_replicated() as own:
        execute(own.primary.dsn, "CREATE TABLE t (id int4, note text)")
        chunks = 0

        def fail_over(event: Event) -> None:
            nonlocal chunks
            if isinstance(event, ChunkWritten):
                chunks += 1
                if chunks == 3:
                    own.until_caught_up()
                    kill_postmaster(own.primary, at_once=True)
                    own.promote()

        dsn = _both("primary,standby", own, target_session_attrs="read-write")
        result = await _load(dsn, fail_over, driver)
        stored = query(own.standby.dsn, "SELECT id FROM t ORDER BY id")
    assert result.total.committed == 200
    assert [row[0] for row in stored] == list(range(1, 201))


async def _load(dsn: str, listener: Callable[[Event], None], driver: str) -> LoadResult:
    return await load(
        open_source(numbered(200)),
        {None: TableName("t")},
        dsn,
        options(driver=driver, chunk_size=20, parallelism=1),
        on_event=listener,
    )


# --- strings that are no connection strings -------------------------------------------------------


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:se@cret@host/db",
        "postgresql://me:se/cret@host/db",
        "postgresql://me:se%zzcret@host/db",
        "postgresql://me:se:cret@host:port:port/db?x",
        "host=h password=se cret",
        "host=h password='secret",
        "secret",
    ],
)
def test_what_cannot_be_read_is_not_repeated(dsn: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parameters(dsn)
    assert "cret" not in str(caught.value)
    assert "cret" not in "".join(traceback.format_exception(caught.value))


def test_where_a_string_leads_is_said_without_who_or_how() -> None:
    assert shown("postgresql://me:secret@h:7/d?sslpassword=hush") == "h:7/d"
    assert shown("host=h dbname=postgresql://me:secret@other/d") == (
        "h:5432/postgresql://me:***@other/d"
    )
    assert "secret" not in repr(attempts("postgresql://me:secret@h:7/d"))
