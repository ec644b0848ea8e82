"""Commands that a reader can paste: the run again, or what would decide a question."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from batchbench.recommend import Way
from batchbench.report.groups import Group
from batchbench.results import Run, RunInfo

_AGAIN = (
    *("--table", "--source", "--assume-timezone", "--scratch-schema"),
    *("--dsn", "--server", "--data-dir"),
)
"""What `batchbench recommend --confirm` has to be told again."""

_CONDITIONS = (
    *("--rows", "--rtt-ms", "--regime", "--table-state", "--server-setting", "--on-conflict"),
    "--env-file",
)
"""What `batchbench sweep` and `tune` call the same."""

_FLAGS = ("--resume", "--json", "--watch", "--output", "-o")
_GRID = (
    *("--profile", "--table", "--strategy", "--driver", "--chunk-size", "--parallelism"),
    "--transaction",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a sweep can be asked to measure."""

    table: str
    way: Way
    chunk_size: int


def setting_of(group: Group) -> Setting:
    """The setting of trials that ran."""
    return Setting(group.table, group.way, max(group.chunk_sizes))


def repeat_command(info: RunInfo) -> str:
    """The run's own command, quoted for a shell."""
    return _shell(info.command)


def deciding_command(
    info: RunInfo, settings: Iterable[Setting], repeats: int, rows: int | None = None
) -> str:
    """A sweep of the grid that spans just these, else as this run was.

    rows: of each load, where it is to be others.
    """
    chosen = tuple(settings)
    boundaries = _joined(one.way.transaction for one in chosen)
    replaced = {*_GRID, "--repeats", *_FLAGS} | ({"--rows"} if rows else set())
    words = [
        *_kept(info.command, replaced),
        *_tables(info, chosen),
        "--strategy",
        _joined(one.way.strategy for one in chosen),
        "--driver",
        _joined(one.way.driver for one in chosen),
        "--chunk-size",
        _joined(one.chunk_size for one in chosen),
        "--parallelism",
        _joined(one.way.parallelism for one in chosen),
        *(["--transaction", boundaries] if boundaries != "chunk" else []),
        "--repeats",
        str(repeats),
    ]
    return _shell(["batchbench", "sweep", *words, *(["--rows", str(rows)] if rows else [])])


def confirming_command(run: Run, folder: Path, budget_s: float | None = None) -> str:
    """What measures afresh what a run recommends, or, in a confirmation's folder, recommends from
    that one.
    """
    words = ["batchbench", "recommend", str(folder)]
    if folder == run.folder:
        budget = [] if budget_s is None else ["--budget", f"{math.ceil(budget_s)}s"]
        words += ["--confirm", *budget, *_options(run.info.command, _AGAIN)]
    return _shell(words)


def _options(command: Sequence[str], names: Iterable[str]) -> Iterator[str]:
    """Those of a command that are named, with their values."""
    wanted, keep = set(names), False
    for word in command[2:]:
        if word.startswith("-"):
            keep = word.partition("=")[0] in wanted
        if keep:
            yield word


def _shell(words: Sequence[str]) -> str:
    """Quoted; a server's address, which no run stores, is left for the shell to fill in."""
    address = '"$DATABASE_URL"'
    quoted = [
        address if before == "--dsn" else shlex.quote(word)
        for before, word in pairwise(["", *words])
    ]
    return " ".join(
        f"--dsn={address}" if word.startswith(("--dsn=", "'--dsn=")) else word for word in quoted
    )


def tables_are_named(info: RunInfo) -> bool:
    """Whether the run measured the user's own tables, not those of the built-in profile."""
    return any(word == "--table" or word.startswith("--table=") for word in info.command)


def _tables(info: RunInfo, settings: Sequence[Setting]) -> list[str]:
    names = list(dict.fromkeys(one.table for one in settings))
    if not tables_are_named(info):
        return ["--profile", ",".join(names)]
    return [word for name in names for word in ("--table", name)]


def _joined(values: Iterable[object]) -> str:
    return ",".join(sorted(dict.fromkeys(map(str, values)), key=lambda text: (len(text), text)))


def _kept(command: Sequence[str], replaced: set[str]) -> Iterator[str]:
    """The options that stay, each with its value; of another command, those that say where and
    under what conditions it ran.
    """
    if "sweep" not in command[1:2]:
        yield from _options(command, {*_AGAIN, *_CONDITIONS} - replaced)
        return
    keep = False
    for word in command[2:]:
        if word.startswith("-"):
            keep = word.partition("=")[0] not in replaced
        if keep:
            yield word
