"""Two revisions of batchbench side by side, each in processes of its own.

Both sweep the same plan on one server at the same time, but only ever one of them loads: trial by
trial they take turns (old, new, new, old, ...), so that what the machine does to one it does to the
other. A round is a life of both their processes, which have luck of their own: one sample.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from batchbench.config import child_environment
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.harness import turns
from batchbench.harness.plan import Configuration

ROUNDS = 10
BUDGET_S = 150.0
"""Of wall time, for all rounds together."""

_LEAST_STARTS = 2
_MOST_BLOCKS = 200
_ROWS = 20_000
_CONFIGURATIONS = tuple(
    Configuration("heart_rate", strategy, driver, 5_000, 1)
    for strategy in ("copy", "unnest")
    for driver in ("psycopg", "asyncpg")
)
_BUILD_LIMIT_S = 600.0
_TRIAL_LIMIT_S = 120.0
_STOP_LIMIT_S = 20.0


class RevisionError(BatchbenchError):
    """A revision could not be built or run. Its own words are in the message."""


def _told(configuration: Configuration) -> dict[str, Any]:
    """A configuration for any revision: one that lacks a newer field has it as it is by default."""
    return {
        each.name: value
        for each in fields(configuration)
        if (value := getattr(configuration, each.name)) != each.default
    }


@dataclass(frozen=True, slots=True)
class Revision:
    """A tree that can be run. python: the interpreter with what it needs."""

    name: str
    tree: Path
    python: Path


@dataclass(frozen=True, slots=True)
class Pair:
    """A load of either revision, next to each other. log: of new against old. round: from 1."""

    round: int
    configuration: str
    log: float


@contextmanager
def revisions(ref: str, folder: Path = Path()) -> Iterator[tuple[Revision, Revision]]:
    """The revision `ref`, and the tree that the folder is in, as it is.

    Raises ConfigError where there is no repository or no such ref, RevisionError where the ref's
    own dependencies cannot be installed.
    """
    top = Path(_git(folder, "rev-parse", "--show-toplevel"))
    commit = _git(top, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="batchbench_ref_") as own:
        tree = Path(own) / "tree"
        _git(top, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            if not (tree / "batchbench" / "__main__.py").is_file():
                raise RevisionError(f"revision {ref} has no batchbench that can be run")
            python = _python_for(top, tree)
            _build([str(python), "-m", "compileall", "-q", str(tree / "batchbench")])
            yield Revision(ref, tree, python), Revision("this tree", top, Path(sys.executable))
        finally:
            _git(top, "worktree", "remove", "--force", str(tree))


async def measure(
    old: Revision,
    new: Revision,
    dsn: str,
    rounds: int,
    budget_s: float,
    told: Callable[[int], None],
) -> tuple[Pair, ...]:
    """Let both take turns. budget_s: of wall time; each round gets an equal part of what is left,
    but twice the time that its processes take to start, so that a slow machine gets fewer rounds
    rather than empty ones. At least two are measured. told: called with the number of each that
    ended.

    Raises RevisionError where one of them cannot be run, or a load of it fails.
    """
    pairs: list[Pair] = []
    end_s, longest_s = time.perf_counter() + budget_s, 0.0
    for number in range(1, rounds + 1):
        begun_s = time.perf_counter()
        if number > 2 and begun_s + longest_s > end_s:
            break
        part_s = (end_s - begun_s) / (rounds + 1 - number)
        asked = {
            "dsn": dsn,
            "configurations": [_told(configuration) for configuration in _CONFIGURATIONS],
            "rows": _ROWS,
            "blocks": _MOST_BLOCKS,
            "seed": number,
        }
        async with _started(old, asked) as one, _started(new, asked) as other:
            order = (one, other) if number % 2 else (other, one)
            await asyncio.gather(*(sweep.answer() for sweep in order))  # the first warm-ups
            ready_s = time.perf_counter()
            until_s = max(begun_s + part_s, ready_s + _LEAST_STARTS * (ready_s - begun_s))
            found = await in_turn(order, until_s)
        pairs += [Pair(number, name, log if number % 2 else -log) for name, log in found]
        longest_s = max(longest_s, time.perf_counter() - begun_s)
        told(number)
    return tuple(pairs)


async def in_turn(order: tuple[_Sweep, _Sweep], until_s: float) -> list[tuple[str, float]]:
    """Configuration and log ratio, second against first, of the pairs of whole blocks."""
    pairs: list[tuple[str, float]] = []
    unpaired: tuple[dict[str, float], dict[str, float]] = {}, {}
    forth = True
    while True:
        said = [await sweep.turn() for sweep in (order if forth else order[::-1])]
        for logs, answer in zip(unpaired, said if forth else said[::-1], strict=True):
            if answer is None:
                return pairs
            if answer["kind"] == "trial":
                logs[answer["name"]] = math.log(answer["rows_per_s"])
        both = unpaired[0].keys() & unpaired[1].keys()  # at once, where their plans agree
        pairs += [(name, unpaired[1].pop(name) - unpaired[0].pop(name)) for name in both]
        whole = len(pairs) % len(_CONFIGURATIONS) == 0
        if pairs and whole and time.perf_counter() > until_s:
            return pairs
        forth = not forth


@dataclass(frozen=True, slots=True, eq=False)
class _Sweep:
    """The sweep of one revision, under way."""

    name: str
    process: asyncio.subprocess.Process
    words: Path = field(repr=False)

    async def turn(self) -> Mapping[str, Any] | None:
        """Let it load once: what became of it, None at the end of the sweep."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        return await self.answer()

    async def answer(self) -> Mapping[str, Any] | None:
        """What it says next. Raises RevisionError where it cannot go on."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(_TRIAL_LIMIT_S):
                line = await self.process.stdout.readline()
                if not line and await self.process.wait() == 0:
                    return None
        except TimeoutError as error:
            raise self._broken(f"it did not answer within {_TRIAL_LIMIT_S:g} s") from error
        if not line:
            last = self.words.read_text(errors="replace").strip().splitlines()[-1:]
            raise self._broken(*last or ["it said nothing"])
        said: Mapping[str, Any] = json.loads(line)
        failure = said.get("error") or said.get("failure")
        if failure:
            raise self._broken(failure)
        return said

    def _broken(self, why: str) -> RevisionError:
        return RevisionError(f"revision {self.name} cannot be measured: {why}")


@asynccontextmanager
async def _started(revision: Revision, asked: Mapping[str, Any]) -> AsyncIterator[_Sweep]:
    """A process of the revision that was told what to sweep; it has ended afterwards."""
    with tempfile.TemporaryDirectory(prefix="batchbench_turns_") as folder:
        words = Path(folder) / "stderr"
        with words.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(str(revision.python), turns.__file__),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=folder,
                env=child_environment({"PYTHONPATH": str(revision.tree), "PYTHONSAFEPATH": "1"}),
                start_new_session=True,  # Ctrl-C is this process's to answer
            )
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({**asked, "folder": f"{folder}/run"}).encode() + b"\n")
            yield _Sweep(revision.name, process, words)
        finally:
            process.stdin.close()
            await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """The end of its input tells it to drop its tables and finish."""
    try:
        async with asyncio.timeout(_STOP_LIMIT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
    except asyncio.CancelledError:
        process.kill()
        raise


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


def _python_for(top: Path, tree: Path) -> Path:
    """This interpreter where both need the same packages, else one that has what the ref needs.

    That one is kept in the repository's git folder: the next ref of the same needs finds it there.
    """
    needs = _needs(tree)
    if needs == _needs(top):
        return Path(sys.executable)
    named = hashlib.sha256("\n".join([sys.version, *needs]).encode()).hexdigest()[:16]
    common = _git(top, "rev-parse", "--path-format=absolute", "--git-common-dir")
    own = Path(common) / "batchbench" / named
    python, whole = own / "bin" / "python", own / "whole"
    if not whole.is_file():
        _build([sys.executable, "-m", "venv", "--clear", str(own)])
        if needs:
            _build([str(python), "-m", "pip", "-qq", "install", *needs])
        whole.touch()
    return python


def _needs(tree: Path) -> Sequence[str]:
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    return sorted(project.get("dependencies", []))


def _build(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_LIMIT_S)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RevisionError(f"the revision to compare with cannot be installed: {last}")
