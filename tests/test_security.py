"""No password in any output, no file for strangers.

Every password of these tests holds the word WORD several times, so that a part of one is found as
well, however it is encoded.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import importlib
import inspect
import logging
import pkgutil
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

import batchbench
from batchbench.config import child_environment
from batchbench.drivers import CAPABILITIES, connect
from batchbench.drivers.address import apart, parameters
from batchbench.errors import BatchbenchError
from batchbench.servers import open_server
from tests.fixtures.commands import Commands, app
from tests.fixtures.loading import query
from tests.fixtures.tcp import LOOPBACK, TcpServer, free_port, open_tcp_server

WORD = "sesame"
PASSWORD = "sesame1@sesame2/sesame3:sesame4 %41sesame5'\\?#&=sesame6ü"
WRONG = "no" + PASSWORD
both_drivers = pytest.mark.parametrize("driver", list(CAPABILITIES))


@pytest.fixture(scope="module")
def guarded() -> Iterator[TcpServer]:
    """A server that asks its role `guarded` for a password, and logs every statement."""
    rules = f"host all guarded {LOOPBACK}/32 scram-sha-256\n"
    with open_tcp_server(rules, {"log_statement": "all"}) as server:
        server.add_role("guarded", PASSWORD)
        server.sql(
            "GRANT CREATE ON DATABASE postgres TO guarded;"
            " CREATE TABLE t (id int4 CHECK (id <> 3), note text); ALTER TABLE t OWNER TO guarded;"
            " GRANT CREATE ON SCHEMA public TO guarded"
        )
        yield server


def check_silent(*texts: str) -> None:
    """No password, nor a part of one, in any of these."""
    encoded = [base64.b64encode(p.encode()).decode()[8:24] for p in (PASSWORD, WRONG)]
    for text in texts:
        for secret in (WORD, *encoded, PASSWORD.encode().hex()[:16]):
            place = text.lower().find(secret.lower())
            assert place < 0, f"...{text[max(0, place - 200) : place + 60]}..."


def check_folder(folder: Path) -> None:
    """The same for all files in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    check_silent(*(path.read_text(errors="replace") for path in files), *map(str, files))


# --- ways to write a password ---------------------------------------------------------------------


def _in_url(port: int, password: str) -> str:
    return f"postgresql://guarded:{quote(password, safe='')}@{LOOPBACK}:{port}/postgres"


def _in_query(port: int, password: str) -> str:
    secret = quote(password, safe="")
    return f"postgresql://guarded@{LOOPBACK}:{port}/postgres?sslmode=prefer&password={secret}"


def _in_pairs(port: int, password: str) -> str:
    secret = password.replace("\\", "\\\\").replace("'", "\\'")
    return f"host={LOOPBACK} port={port} user=guarded dbname=postgres password = '{secret}'"


def _in_hosts(port: int, password: str) -> str:
    """The first of two hosts is not there."""
    hosts = f"{LOOPBACK}:{free_port()},{LOOPBACK}:{port}"
    return f"postgresql://guarded:{quote(password, safe='')}@{hosts}/postgres"


def _of_sqlalchemy(port: int, password: str) -> str:
    return _in_url(port, password).replace("postgresql://", "postgresql+asyncpg://")


Form = Callable[[int, str], str]
FORMS = [_in_url, _in_query, _in_pairs, _in_hosts]
all_forms = pytest.mark.parametrize("form", FORMS)


def _each_command(folder: Path, dsn: list[str]) -> list[list[str]]:
    """Every command that takes a server, in a way that is quick."""
    rows = folder / "rows.csv"
    rows.write_text("id,note\n1,a\n2,b\n3,c\n")
    load = ["load", str(rows), "--table", "t", "--log-format", "json", *dsn]
    return [
        [*load, "--driver", "asyncpg"],
        [*load, "--driver", "psycopg", "--json"],
        ["loads", *dsn],
        ["check", "--table", "t", *dsn],
        ["sweep", *_quick_sweep(folder), *dsn],
    ]


def _quick_sweep(folder: Path) -> list[str]:
    number = len(list(folder.iterdir()))
    return [
        *("--table", "t", "--rows", "200", "--strategy", "copy", "--chunk-size", "100"),
        *("--parallelism", "1", "--repeats", "1", "-o", str(folder / f"run{number}")),
    ]


# --- commands -------------------------------------------------------------------------------------


@all_forms
def test_commands_that_do_well(
    guarded: TcpServer, commands: Commands, tmp_path: Path, form: Form
) -> None:
    rows = tmp_path / "good.csv"
    rows.write_text("id,note\n1,a\n3,b\n")
    dsn = form(guarded.port, PASSWORD)
    codes = []
    for words in _each_command(tmp_path, ["--dsn", dsn]):
        done = commands(*words)
        check_silent(done.out, done.err)
        codes.append(done.code)
    assert codes == [3, 3, 0, 0, 0], "rows are loaded and one is rejected; the rest succeeds"
    assert list(tmp_path.rglob("trials.ndjson"))
    assert list(Path().rglob("rejects.ndjson")), "the dead letter, in the working folder"
    check_folder(tmp_path)
    check_folder(Path())
    ledger = query(
        guarded.dsn, "SELECT l::text, p::text FROM batchbench.loads l, batchbench.parts p"
    )
    check_silent(str(ledger), guarded.log.read_text())


@pytest.mark.parametrize("form", [*FORMS, _of_sqlalchemy])
def test_commands_with_a_wrong_password(
    guarded: TcpServer, commands: Commands, tmp_path: Path, form: Form
) -> None:
    for words in _each_command(tmp_path, ["--dsn", form(guarded.port, WRONG)]):
        done = commands(*words)
        assert done.code == 2
        assert "password authentication failed" in done.error
        check_silent(done.out, done.err)
    check_folder(tmp_path)
    check_silent(guarded.log.read_text())


@all_forms
def test_commands_without_a_server(commands: Commands, tmp_path: Path, form: Form) -> None:
    for words in _each_command(tmp_path, ["--dsn", form(free_port(), PASSWORD)]):
        done = commands(*words)
        assert done.code == 2
        assert LOOPBACK in done.error
        check_silent(done.out, done.err)


@all_forms
@pytest.mark.parametrize("option", ["--table", "sslmode", "dbname"])
def test_commands_that_fail_later(
    guarded: TcpServer, commands: Commands, tmp_path: Path, form: Form, option: str
) -> None:
    dsn = form(guarded.port, PASSWORD)
    joint = "" if "://" not in dsn else "&" if "?" in dsn else "?"
    dsn += {
        "--table": "",
        "sslmode": f"{joint or ' '}sslmode=require",
        "dbname": f"{joint or ' '}dbname=nowhere",
    }[option]
    for words in _each_command(tmp_path, ["--dsn", dsn]):
        if option == "--table":
            words = ["nowhere" if word == "t" else word for word in words]
        done = commands(*words)
        check_silent(done.out, done.err)
        assert done.code == 2 or words[0] == "loads", done.err


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_a_password_of_the_environment(
    guarded: TcpServer,
    commands: Commands,
    tmp_path: Path,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dsn = f"postgresql://guarded@{LOOPBACK}:{guarded.port}/postgres"
    monkeypatch.setenv("PGPASSWORD", password)
    for words in _each_command(tmp_path, ["--dsn", dsn]):
        done = commands(*words)
        assert (done.code == 2) is (password == WRONG), done.err
        check_silent(done.out, done.err)
    monkeypatch.delenv("PGPASSWORD")
    monkeypatch.setenv("DATABASE_URL", _in_url(guarded.port, password))
    for words in _each_command(tmp_path, [])[:-1]:
        done = commands(*words)
        assert (done.code == 2) is (password == WRONG), done.err
        check_silent(done.out, done.err)
    check_folder(tmp_path)


SAMPLE = str(Path(__file__).parent.parent / "results" / "sample-18")


@all_forms
def test_what_measures_in_other_processes(
    guarded: TcpServer, commands: Commands, form: Form
) -> None:
    """What they hand to other processes: see test_a_password_apart."""
    for dsn in (form(guarded.port, WRONG), form(free_port(), PASSWORD)):
        for words in (
            ["gate", "--against-ref", "HEAD"],
            ["recommend", SAMPLE, "--confirm"],
            ["tune", "--table", "t"],
        ):
            done = commands(*words, "--dsn", dsn)
            assert done.code == 2
            check_silent(done.out, done.err)


def test_every_command_that_takes_a_server_is_tested(tmp_path: Path) -> None:
    taking = {
        command.name
        for command in app.registered_commands
        if command.callback is not None and "dsn" in inspect.signature(command.callback).parameters
    }
    assert taking == {words[0] for words in _each_command(tmp_path, [])} | {
        "gate",
        "recommend",
        "tune",
    }


RAW = [
    f"postgresql://guarded:sesame@sesame@{LOOPBACK}/postgres",
    f"postgresql://guarded:sesame/sesame@{LOOPBACK}/postgres",
    f"postgresql://guarded:sesame:sesame/x?y@{LOOPBACK}/postgres",
    f"postgresql://guarded:sesame%zz@{LOOPBACK}/postgres",
    f"postgresql://guarded:sesame#sesame@{LOOPBACK}:1/postgres",
    f"postgresql://guarded:sesame?x=sesame@{LOOPBACK}:1/postgres",
    f"postgresql//guarded:sesame@{LOOPBACK}/postgres",
    f"mysql://guarded:sesame@{LOOPBACK}/postgres",
    f"guarded:sesame@{LOOPBACK}/postgres",
    f"host={LOOPBACK} password=no sesame",
    f"host={LOOPBACK} password='sesame",
    f"host={LOOPBACK} port=1 dbname=postgresql://guarded:sesame@{LOOPBACK}/x",
    f"host=postgresql://guarded:sesame@{LOOPBACK}/x",
]


@pytest.mark.parametrize("dsn", RAW)
def test_passwords_that_break_the_string(commands: Commands, tmp_path: Path, dsn: str) -> None:
    for words in _each_command(tmp_path, ["--dsn", dsn]):
        done = commands(*words)
        assert done.code == 2
        check_silent(done.out, done.err)


@pytest.mark.parametrize(
    "words",
    [
        ["load", "DSN", "--table", "t"],
        ["load", "x.csv", "--table", "DSN", "--dsn", "DSN"],
        ["load", "x.csv", "--table", "t", "--server", "DSN"],
        ["load", "x.csv", "--table", "t", "--env-file", "DSN"],
        ["load", "x.csv", "--table", "t", "--strategy", "DSN", "--server", "embedded"],
        ["load", "x.csv", "--table", "t", "--transaction", "DSN"],
        ["load", "x.csv", "--table", "t", "--format", "DSN"],
        ["load", "x.csv", "--table", "t", "--on-conflict", "DSN"],
        ["load", "x.csv", "--table", "t", "--chunk-size", "DSN"],
        ["load", "x.csv", "--dns=DSN"],
        ["loads", "DSN"],
        ["check", "DSN"],
        ["check", "--table", "DSN"],
        ["check", "--profile", "DSN"],
        ["sweep", "DSN"],
        ["sweep", "--profile", "DSN"],
        ["sweep", "--source", "DSN", "--table", "t"],
        ["recommend", "DSN"],
        ["DSN"],
    ],
)
def test_a_string_in_the_wrong_place(commands: Commands, words: list[str]) -> None:
    Path("x.csv").write_text("id\n1\n")
    dsn = _in_url(1, PASSWORD)
    done = commands(*(word.replace("DSN", dsn) for word in words))
    assert done.code != 0
    check_silent(done.out, done.err)


def test_files_are_for_their_owner_only(
    guarded: TcpServer, commands: Commands, tmp_path: Path
) -> None:
    for words in _each_command(tmp_path, ["--dsn", _in_url(guarded.port, PASSWORD)]):
        commands(*words)
    made = [*tmp_path.glob("run*/*"), *Path().rglob("rejects.ndjson")]
    assert {path.name for path in made} >= {"run.json", "trials.ndjson", "rejects.ndjson"}
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


# --- processes ------------------------------------------------------------------------------------


def _command_lines(process: psutil.Process) -> list[str]:
    lines = []
    for one in [process, *process.children(recursive=True)]:
        try:
            lines.append("\0".join(one.cmdline()))
        except psutil.NoSuchProcess:
            continue
    return lines


@pytest.mark.skipif(sys.platform != "linux", reason="a command line can be changed on Linux only")
@pytest.mark.parametrize(("form", "joined"), [(_in_url, False), (_in_pairs, True)])
def test_process_titles(guarded: TcpServer, tmp_path: Path, form: Form, joined: bool) -> None:
    """From when it runs our code to its end: of the command and of all that it starts."""
    dsn = form(guarded.port, PASSWORD)
    option = [f"--dsn={dsn}"] if joined else ["--dsn", dsn]
    words = [sys.executable, "-m", "batchbench", "sweep", *_quick_sweep(tmp_path), *option]
    with subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=tmp_path,
        env=child_environment({"PYTHONUNBUFFERED": "1"}, without=("BATCH_", "PG")),
    ) as process:
        assert process.stdout is not None
        said, seen = [process.stdout.readline()], []
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            seen += _command_lines(watched)
        said.append(process.stdout.read())
    assert process.returncode in (0, 1), said
    assert any(f"{LOOPBACK}" in line for line in seen), "the rest of the line can be read"
    check_silent(*said, *seen)


# --- the library ----------------------------------------------------------------------------------


def _told(error: BaseException) -> list[str]:
    """All that a log or a traceback would show of an error."""
    told = traceback.format_exception(error)
    inner: BaseException | None = error
    while inner is not None:
        told += [str(inner), repr(inner), repr(inner.args), repr(getattr(inner, "__dict__", ""))]
        hidden = inner.__suppress_context__
        inner = inner.__cause__ or (None if hidden else inner.__context__)
    return told


@both_drivers
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("fault", ["password", "port", "sslmode", "dbname"])
async def test_errors_of_the_library(
    guarded: TcpServer, driver: str, form: Form, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    dsn = form(
        free_port() if fault == "port" else guarded.port,
        WRONG if fault == "password" else PASSWORD,
    )
    joint = " " if "://" not in dsn else "&" if "?" in dsn else "?"
    more = {"sslmode": "sslmode=require", "dbname": "dbname=nowhere"}.get(fault, "")
    with pytest.raises(BatchbenchError) as caught:
        await connect(driver, dsn + (joint + more if more else ""))
    check_silent(*_told(caught.value), caplog.text)


@both_drivers
@pytest.mark.parametrize("dsn", RAW)
async def test_errors_of_broken_strings(
    driver: str, dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(BatchbenchError) as caught:
        await connect(driver, dsn)
    check_silent(*_told(caught.value), caplog.text)
    with pytest.raises(BatchbenchError) as caught, open_server("dsn", dsn=dsn):
        pass
    check_silent(*_told(caught.value), caplog.text)


@both_drivers
async def test_a_connection_logs_no_password(
    guarded: TcpServer, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    session = await connect(driver, _in_url(guarded.port, PASSWORD))
    check_silent(repr(session), str(session))
    await session.close()
    gc.collect()
    check_silent(caplog.text)


def _modules() -> Iterator[str]:
    for module in pkgutil.walk_packages(batchbench.__path__, "batchbench."):
        if not module.name.endswith("__main__"):
            yield module.name


SECRET_FIELDS = {"dsn", "uri", "url", "password"}


def test_no_value_shows_its_connection_string() -> None:
    """A dataclass with one leaves it out of its repr, which a traceback or log may show."""
    showing = []
    for name in _modules():
        for value in vars(importlib.import_module(name)).values():
            if not (isinstance(value, type) and dataclasses.is_dataclass(value)):
                continue
            own_repr = not value.__dataclass_params__.repr  # type: ignore[attr-defined]
            showing += [
                f"{value.__module__}.{value.__name__}.{field.name}"
                for field in dataclasses.fields(value)
                if field.name in SECRET_FIELDS and field.repr and not own_repr
            ]
    assert sorted(set(showing)) == []


def test_a_password_apart() -> None:
    """For the command line of a child process."""
    for form in FORMS:
        dsn, environment = apart(form(5432, PASSWORD))
        check_silent(dsn)
        assert environment == {"PGPASSWORD": PASSWORD}
        expected = {**parameters(form(5432, PASSWORD))}
        del expected["password"]
        assert {**parameters(dsn), "port": expected["port"]} == expected
