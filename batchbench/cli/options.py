"""Options that several commands share, and what they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from batchbench.cli.console import note, warn
from batchbench.config import Settings, find_dsn, load_settings
from batchbench.errors import ConfigError
from batchbench.profile import PROFILES
from batchbench.results import Run, load_run
from batchbench.servers import Server, open_server

Dsn: TypeAlias = Annotated[
    str | None,
    typer.Option(
        help="PostgreSQL to use: postgresql://user@host/database or libpq's key=value."
        " Without it: DATABASE_URL, then libpq's PG* variables."
    ),
]
ServerSpec: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--server",
        help="embedded (a PostgreSQL of our own, deleted at the end), or container:IMAGE"
        " (container alone: postgres:17).",
    ),
]
DataDir: TypeAlias = Annotated[
    Path | None,
    typer.Option(help="With --server embedded: keep the data in this folder."),
]
EnvFile: TypeAlias = Annotated[
    Path | None, typer.Option(help="Read BATCH_* from this file instead of ./.env.")
]
RoundTrips: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--rtt-ms", help="Of a run with several round trips: those that your service has."
    ),
]
MaxMemory: TypeAlias = Annotated[
    float | None, typer.Option("--max-memory-mb", help="Allow the client no larger peak, in MB.")
]
MaxConnections: TypeAlias = Annotated[
    int | None,
    typer.Option(
        "--max-connections", help="Allow a load no more connections (one a writer).", min=1
    ),
]
MaxWal: TypeAlias = Annotated[
    float | None, typer.Option("--max-wal-mb-per-s", help="Allow a load no more WAL, in MB/s.")
]
MaxP99: TypeAlias = Annotated[
    float | None,
    typer.Option(
        "--max-p99-ms",
        help="Allow no longer 99th percentile of the chunks' latency; of under 500 chunks the"
        " slowest counts.",
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def read_settings(env_file: Path | None) -> Settings:
    """The settings; doubts about them go to standard error."""
    settings, doubts = load_settings(env_file)
    for doubt in doubts:
        warn(doubt)
    return settings


def read_run(folder: Path) -> Run:
    """The run as far as it is whole; what is not goes to standard error."""
    run = load_run(folder)
    for warning in run.warnings:
        warn(f"{folder}: {warning}")
    return run


def closed_loop(run: Run) -> Run:
    """The same. Raises ConfigError where its rows arrived at a rate of their own."""
    if run.is_open_loop:
        raise ConfigError(
            f"the rows of {run.folder} arrived at a rate of their own, so its speeds tell who keeps"
            " up, not who is fastest; take a sweep without --arrival-rate"
        )
    return run


def at_round_trips(run: Run, rtt_ms: float | None) -> Run:
    """The part of the run that is meant: what is best near may be worst far away.

    Raises ConfigError where it has several and none is named, or not the one that is.
    """
    if rtt_ms is None and len(run.rtts_ms) == 1:
        return run
    if rtt_ms not in run.rtts_ms:
        known = ", ".join(f"{known:g}" for known in run.rtts_ms)
        raise ConfigError(
            f"{run.folder} was measured with round trips of {known} ms more; name one of them with"
            " --rtt-ms"
        )
    return run.at(rtt_ms)


@contextmanager
def server_of_the_user(
    dsn: str | None, server: str | None, data_dir: Path | None
) -> Iterator[Server]:
    """The server that the user named. Raises ConfigError where they named none: nobody's rows
    go to a server that is about to be deleted without their asking.
    """
    if server is None:
        found = find_dsn(dsn)
        if found is None:
            raise ConfigError(
                "no server is named: give --dsn, set DATABASE_URL or PGHOST, or ask for"
                " --server embedded"
            )
        with open_server("dsn", dsn=found.dsn, data_dir=data_dir) as opened:
            yield opened
        return
    if dsn is not None:
        raise ConfigError("--dsn and --server exclude each other: give one of them")
    with open_server(server, data_dir=data_dir) as opened:
        yield opened


@contextmanager
def server_to_measure(
    dsn: str | None, server: str | None, data_dir: Path | None
) -> Iterator[Server]:
    """The server that the user named with an option, else the embedded one."""
    if dsn is None and server is None:
        ignored = find_dsn(None)
        if ignored is not None:
            note(f"the embedded server is used, not the one of {ignored.origin}; to use it: --dsn")
        server = "embedded"
    with server_of_the_user(dsn, server, data_dir) as opened:
        yield opened


def split_names(text: str | None) -> list[str]:
    """The parts of a comma-separated option; empty where it was not given."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def split_numbers(text: str | None, option: str) -> list[int]:
    """The numbers of a comma-separated option. Raises ConfigError on any that is below 1."""
    numbers = []
    for part in split_names(text):
        digits = part.replace("_", "")
        if not digits.isascii() or not digits.isdigit() or int(digits) < 1:
            raise ConfigError(f"{option} takes whole numbers from 1, not {part!r}")
        numbers.append(int(digits))
    return numbers


def profile_metrics(text: str | None) -> list[str]:
    """The metrics of --profile; all five where it is not given. Raises ConfigError."""
    metrics = split_names(text) or list(PROFILES)
    for metric in metrics:
        if metric not in PROFILES:
            raise ConfigError(f"there is no profile {metric!r}; there are {', '.join(PROFILES)}")
    return metrics


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0}


def seconds_of(text: str, option: str) -> float:
    """ "90s", "10m", "1h" or "90" in seconds. Raises ConfigError."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in _UNITS_S else (text, "s")
    try:
        seconds = float(number) * _UNITS_S[unit]
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{option} takes a time such as 90s, 10m or 1h, not {text!r}")
    return seconds
