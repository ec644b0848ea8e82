"""Two revisions of batchbench side by side, each in processes of its own.

Rounds of short sweeps against one server, in turn: old, new, new, old. What the machine does to one
it does to the other, and each round is a fresh client process of both.
"""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from batchbench.config import child_environment
from batchbench.drivers.address import apart
from batchbench.errors import BatchbenchError, ConfigError, InputError
from batchbench.results import Run, load_run

ROUNDS = 20
_SWEEP = (
    *("sweep", "--profile", "heart_rate", "--strategy", "copy,unnest"),
    *("--driver", "psycopg,asyncpg", "--chunk-size", "5000", "--parallelism", "1"),
    *("--rows", "20000", "--repeats", "2", "--json"),
)
_BUILD_LIMIT_S = 600.0
_SWEEP_LIMIT_S = 300.0


class RevisionError(BatchbenchError):
    """A revision could not be built or run. Its own words are in the message."""


@dataclass(frozen=True, slots=True)
class Revision:
    """A tree that can be run. python: the interpreter with what it needs."""

    name: str
    tree: Path
    python: Path

    def sweep(self, dsn: str, folder: Path, seed: int) -> Run:
        """One short sweep. Raises RevisionError."""
        address, secret = apart(dsn)
        words = [*_SWEEP, "--dsn", address, "--seed", str(seed), "-o", str(folder)]
        done = subprocess.run(
            [str(self.python), "-m", "batchbench", *words],
            cwd=folder.parent,
            env=child_environment({"PYTHONPATH": str(self.tree), "PYTHONSAFEPATH": "1", **secret}),
            capture_output=True,
            text=True,
            timeout=_SWEEP_LIMIT_S,
        )
        if done.returncode not in (0, 1):  # 1: the goal was missed, which is another rule's matter
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise RevisionError(f"revision {self.name} cannot be measured: {last}")
        try:
            return load_run(folder)
        except InputError as error:
            raise RevisionError(f"revision {self.name} cannot be measured: {error}") from error


@dataclass(frozen=True, slots=True)
class Pairs:
    """log ratios, new against old, a pair a round: of all configurations together, and of each."""

    together: tuple[float, ...]
    by_configuration: dict[str, tuple[float, ...]]


@contextmanager
def revisions(ref: str) -> Iterator[tuple[Revision, Revision]]:
    """The revision `ref`, and the tree of this folder as it is.

    Raises ConfigError where there is no repository or no such ref, RevisionError where the ref's
    own dependencies cannot be installed.
    """
    top = Path(_git(Path(), "rev-parse", "--show-toplevel"))
    commit = _git(top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="batchbench_ref_") as folder:
        tree = Path(folder) / "tree"
        _git(top, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            if not (tree / "batchbench" / "__main__.py").is_file():
                raise RevisionError(f"revision {ref} has no batchbench that can be run")
            python = _python_for(top, tree, Path(folder))
            yield Revision(ref, tree, python), Revision("this tree", top, Path(sys.executable))
        finally:
            _git(top, "worktree", "remove", "--force", str(tree))


def measure(
    old: Revision,
    new: Revision,
    dsn: str,
    rounds: int,
    told: Callable[[int], None],
) -> Pairs:
    """Sweep both in turn; told: called with the number of each round that ended.

    Raises RevisionError where one of them cannot be run, or has no configuration of the other.
    """
    together: list[float] = []
    single: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="batchbench_rounds_") as folder:
        for number in range(rounds):
            order = [old, new] if number % 2 == 0 else [new, old]
            speeds = {
                revision.name: _speeds(revision.sweep(dsn, Path(folder) / f"{number}_{i}", number))
                for i, revision in enumerate(order)
            }
            shared = speeds[old.name].keys() & speeds[new.name].keys()
            if not shared:
                raise RevisionError(f"revisions {old.name} and {new.name} measured nothing alike")
            logs = {name: speeds[new.name][name] - speeds[old.name][name] for name in shared}
            together.append(fmean(logs.values()))
            for name, log in sorted(logs.items()):
                single.setdefault(name, []).append(log)
            told(number + 1)
    return Pairs(tuple(together), {name: tuple(logs) for name, logs in single.items()})


def _speeds(run: Run) -> dict[str, float]:
    """Mean log speed by configuration."""
    logs: dict[str, list[float]] = {}
    for record in run.trials:
        if not record.usable or not record.rows_per_s:
            raise RevisionError(f"a trial failed: {record.reason or 'rows are missing'}")
        name = f"{record.table} {record.strategy} {record.driver}"
        logs.setdefault(name, []).append(math.log(record.rows_per_s))
    return {name: fmean(values) for name, values in logs.items()}


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(  # nosec B607
            ["git", "-C", str(folder), *words],  # noqa: S607 - the git of the user's PATH
            capture_output=True,
            text=True,
            timeout=60,
        )
    except FileNotFoundError as error:
        raise ConfigError("--against-ref needs git, which is not installed") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()
        what = said[-1] if said else f"git knows no revision {words[-1].split('^')[0]!r}"
        raise ConfigError(f"--against-ref: {what}")
    return done.stdout.strip()


def _python_for(top: Path, tree: Path, folder: Path) -> Path:
    """This interpreter where both need the same packages, else one of the ref's own."""
    if _needs(top) == _needs(tree):
        return Path(sys.executable)
    own = folder / "venv"
    _build([sys.executable, "-m", "venv", str(own)])
    python = own / "bin" / "python"
    _build([str(python), "-m", "pip", "-qq", "install", f"{tree}[embedded]"])
    return python


def _needs(tree: Path) -> Sequence[str]:
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    return sorted(project.get("dependencies", []))


def _build(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_LIMIT_S)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RevisionError(f"the revision to compare with cannot be installed: {last}")
