"""A local PostgreSQL of our own, from a folder of binaries, gone when we are gone.

It listens on a Unix socket only, in a folder that others cannot enter, and trusts whoever gets
that far. A watchdog process (see `watchdog.py`) cleans up where we no longer can.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from batchbench.errors import ConfigError, ServerError
from batchbench.servers import watchdog
from batchbench.servers.guard import Guard, start_guard
from batchbench.servers.installation import (
    Account,
    Installation,
    identity,
    major_version,
    may_enter,
    reachable,
    server_account,
    server_environment,
)

PORT = 5432
"""Only a part of the socket's name: every cluster has a socket folder of its own."""

DURABLE: Mapping[str, str] = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "max_wal_size": "4GB",
    "max_connections": "100",
}
"""As durable as production; everything else is PostgreSQL's default."""

SUPERUSER = "postgres"
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103  # sun_path less its NUL
_MARKER = "batchbench.cluster"
_LOG = "batchbench.log"
_CONF = "batchbench.conf"
_POLL_S = 0.02
_LOCALES = ("C.UTF-8", "C")

StopMode = Literal["fast", "immediate"]
_SIGNALS: Mapping[StopMode, signal.Signals] = {
    "fast": signal.SIGINT,
    "immediate": signal.SIGQUIT,
}


@dataclass(slots=True)
class Cluster:
    """A PostgreSQL cluster that we start and stop. Made by `open_cluster`.

    data_dir, socket_dir: its folders. settings: what `batchbench.conf` sets over the defaults.
    account: whom the server runs as, None for ourselves.
    """

    bin_dir: Path
    data_dir: Path
    socket_dir: Path
    settings: dict[str, str]
    account: Account | None
    _guard: Guard = field(repr=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def dsn(self) -> str:
        """URL of the database `postgres`, as superuser; understood by libpq and asyncpg."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """URL of a database of this cluster, as superuser."""
        folder = quote(str(self.socket_dir), safe="/")
        return (
            f"postgresql://{SUPERUSER}@/{quote(database, safe='')}"
            f"?host={folder}&port={PORT}"
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises ServerError where it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise ServerError(f"the server in {self.data_dir} is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the postmaster lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, limit_s: float = 120.0) -> None:
        """Start the server and wait until it takes connections; recovery may take a while.

        Raises ServerError, with the end of the server's log, where it does not come up in time.
        """
        if self.running:
            raise ServerError(f"the server in {self.data_dir} is already running")
        self._write_settings()
        with (self.data_dir / _LOG).open("ab") as log:
            self._process = self._spawn(log.fileno())
        self._guard.tell(self._process.pid)
        deadline = time.monotonic() + limit_s
        while not self._ready():
            if self._process.poll() is not None:
                self._guard.tell(0)
                raise ServerError(f"the embedded server did not start: {self._log_end()}")
            if time.monotonic() > deadline:
                self.stop("immediate")
                raise ServerError(f"no server after {limit_s:.0f} s: {self._log_end()}")
            time.sleep(_POLL_S)  # the postmaster says that it is ready in its pid file only

    def stop(self, mode: StopMode = "fast", limit_s: float = 30.0) -> None:
        """Stop the server and wait for its end. Nothing happens where it does not run.

        fast: ends sessions and writes a checkpoint. immediate: as a crash would, the next start
        recovers. A mode that takes longer than `limit_s` is followed by the harder one.
        """
        process = self._process
        if process is None:
            return
        hard = [signal.SIGQUIT, signal.SIGKILL]
        for number in [_SIGNALS[mode], *hard]:
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(limit_s)
                break
            except subprocess.TimeoutExpired:
                continue
        self._guard.tell(0)

    def restart(self, mode: StopMode = "fast", settings: Mapping[str, str] | None = None) -> None:
        """Stop and start, with these settings besides the present ones."""
        self.stop(mode)
        self.settings.update(settings or {})
        self.start()

    def _spawn(self, log: int) -> subprocess.Popen[bytes]:
        # Where we listen is no part of the data: somebody may start it again by hand.
        # A session of its own: Ctrl-C on our terminal is for us, we then stop the server.
        return subprocess.Popen(
            [
                *(self.bin_dir / "postgres", "-D", self.data_dir),
                *("-k", self.socket_dir, "-p", str(PORT), "-c", "listen_addresses="),
            ],
            cwd=self.data_dir,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **identity(self.account),
        )

    def _ready(self) -> bool:
        # Source of the format: PostgreSQL's pidfile.h, LOCK_FILE_LINE_PM_STATUS.
        lines = _pid_file(self.data_dir)
        pid = self._process.pid if self._process else 0
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _write_settings(self) -> None:
        for name in self.settings:
            if not re.fullmatch(r"[A-Za-z_][\w.]*", name):
                raise ConfigError(f"{name!r} is not the name of a PostgreSQL setting")
        text = "".join(
            "{} = '{}'\n".format(name, value.replace("\\", "\\\\").replace("'", "''"))
            for name, value in self.settings.items()
        )
        path = self.data_dir / _CONF
        path.write_text(text, encoding="utf-8")
        if self.account is not None:
            self.account.own(path)

    def _log_end(self) -> str:
        text = (self.data_dir / _LOG).read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.strip().splitlines()[-5:]) or "its log is empty"


@contextmanager
def open_cluster(
    installation: Installation,
    *,
    data_dir: Path | None = None,
    settings: Mapping[str, str] = DURABLE,
    temporary_in: Path | None = None,
) -> Iterator[Cluster]:
    """A running cluster; stopped at the end, and removed unless `data_dir` is given.

    data_dir: keeps the data. Made if missing; an existing one must be empty or a cluster that we
        made, of the same major version, and not running.
    temporary_in: where to put the temporary folder, if it can be used; None means TMPDIR.
    Raises ConfigError on a data_dir that cannot be used, ServerError where no server comes up.
    """
    kept = data_dir.absolute() if data_dir is not None else None
    account = server_account(kept if kept is not None and _is_there(kept) else None)
    home, socket_dir = _make_folders(account, temporary_in)
    folders = list(dict.fromkeys([home, socket_dir]))
    guard = start_guard(kept or home / "data", folders)
    try:
        bin_dir = reachable(installation, account, home)
        cluster = Cluster(
            bin_dir, kept or home / "data", socket_dir, dict(settings), account, guard
        )
        _prepare(cluster, kept=kept is not None)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop("immediate" if kept is None else "fast")
    finally:
        for folder in folders:
            watchdog.remove(folder)
        guard.end()


def _make_folders(account: Account | None, wanted: Path | None) -> tuple[Path, Path]:
    """Temporary folders for the data and for the socket, the same one where its path is short."""
    # mkdtemp makes private folders in them.
    short = [Path("/tmp"), Path("/var/tmp")]  # noqa: S108  # nosec B108
    home = socket_dir = _make_folder([wanted or Path(tempfile.gettempdir()), *short], account)
    if len(os.fsencode(home / f".s.PGSQL.{PORT}")) > _SOCKET_PATH_BYTES:
        try:
            socket_dir = _make_folder(short, account)
        except ServerError:
            home.rmdir()
            raise
    return home, socket_dir


def _make_folder(parents: list[Path], account: Account | None) -> Path:
    for parent in parents:
        if not may_enter(parent, account):
            continue
        folder = Path(tempfile.mkdtemp(prefix=watchdog.FOLDER_PREFIX, dir=parent))
        if account is not None:
            # The server owns it; our group keeps a way in where root has lost its privileges.
            account_group_stays = -1
            os.chown(folder, account.uid, account_group_stays)
            folder.chmod(0o750)
        return folder
    raise ServerError(
        f"no temporary folder that {account.name if account else 'we'} can enter: tried "
        f"{', '.join(map(str, parents))}; set TMPDIR to one"
    )


def _prepare(cluster: Cluster, *, kept: bool) -> None:
    """Make the cluster on disk, unless `data_dir` holds one that we can use."""
    data_dir, account = cluster.data_dir, cluster.account
    if not _is_there(data_dir):
        _make_data_dir(data_dir)
    if _holds_something(data_dir):
        _check_reusable(cluster)
        return
    if account is not None:
        account.own(data_dir)
    if not may_enter(data_dir, account):
        raise ConfigError(
            f"the data folder {data_dir} is out of reach for the account "
            f"{account.name if account else 'you run'}, which runs PostgreSQL; put it elsewhere"
        )
    _initdb(cluster, sync=kept)
    with (data_dir / "postgresql.conf").open("a", encoding="utf-8") as conf:
        conf.write(f"\ninclude_if_exists = '{_CONF}'\n")
    # Written last: a folder without it was left half-made, or is not ours.
    (data_dir / _MARKER).write_text("made by batchbench\n", encoding="utf-8")


def _is_there(data_dir: Path) -> bool:
    try:
        return data_dir.exists()
    except OSError as error:  # a folder above it that we cannot enter
        raise ConfigError(
            f"the data folder {data_dir} cannot be reached: {error.strerror}"
        ) from error


def _holds_something(data_dir: Path) -> bool:
    try:
        return any(data_dir.iterdir())
    except OSError as error:
        raise ConfigError(
            f"the data folder {data_dir} cannot be used: {error.strerror}; give another folder "
            "with --data-dir"
        ) from error


def _make_data_dir(data_dir: Path) -> None:
    try:
        data_dir.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ConfigError(f"the data folder {data_dir} cannot be made: {error.strerror}") from error


def _check_reusable(cluster: Cluster) -> None:
    data_dir = cluster.data_dir
    try:
        found = (data_dir / "PG_VERSION").read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"the data folder {data_dir} is not empty and holds no PostgreSQL cluster; "
            "give an empty or a new folder with --data-dir"
        ) from error
    if not (data_dir / _MARKER).exists():
        raise ConfigError(
            f"the PostgreSQL cluster in {data_dir} was not made by batchbench and is left alone; "
            "start it yourself and use --dsn, or give another folder with --data-dir"
        )
    ours = major_version(cluster.bin_dir, cluster.account)
    if found != str(ours):
        raise ConfigError(
            f"the data folder {data_dir} belongs to PostgreSQL {found}, this server is {ours}; "
            "give another folder with --data-dir"
        )
    first = _pid_file(data_dir)[:1]
    if first and watchdog.runs_in(int(first[0]), data_dir):
        raise ServerError(
            f"a server is already running in {data_dir}, with pid {first[0]}; stop it, or use "
            "another folder"
        )


def _pid_file(data_dir: Path) -> list[str]:
    try:
        return (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def _initdb(cluster: Cluster, *, sync: bool) -> None:
    """Run initdb; in the locale C where the system has no C.UTF-8. Raises ServerError."""
    reason = ""
    for locale in _LOCALES:
        command = [
            *(cluster.bin_dir / "initdb", "-D", cluster.data_dir, "-U", SUPERUSER),
            *("--auth=trust", "--encoding=UTF8", f"--locale={locale}", "--no-instructions"),
            *(() if sync else ("--no-sync",)),
        ]
        answer = subprocess.run(
            command,
            cwd=cluster.data_dir,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            start_new_session=True,
            **identity(cluster.account),
        )
        if answer.returncode == 0:
            return
        reason = " / ".join(answer.stderr.strip().splitlines())
    raise ServerError(f"initdb could not make a cluster in {cluster.data_dir}: {reason}")
