"""The options of `batchbench load`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from batchbench.errors import ConfigError
from batchbench.sources import FORMATS
from batchbench.strategies import OnConflict, strategy_names


class OnReject(StrEnum):
    """--on-reject"""

    SKIP = "skip"
    STOP = "stop"


class Dedup(StrEnum):
    """--dedup"""

    FIRST = "first"
    LAST = "last"


class ExactlyOnce(StrEnum):
    """--exactly-once"""

    AUTO = "auto"
    LEDGER = "ledger"
    STATUS = "status"
    OFF = "off"


class Pooler(StrEnum):
    """--pooler"""

    AUTO = "auto"
    TRANSACTION = "transaction"
    SESSION = "session"
    NONE = "none"


class LogFormat(StrEnum):
    """--log-format"""

    TEXT = "text"
    JSON = "json"


class NanPolicy(StrEnum):
    """--nan"""

    NAN = "nan"
    NULL = "null"
    ERROR = "error"


class NulPolicy(StrEnum):
    """--nul"""

    REJECT = "reject"
    STRIP = "strip"


class MissingKey(StrEnum):
    """--missing"""

    NULL = "null"
    DEFAULT = "default"
    ERROR = "error"


class Durability(StrEnum):
    """--durability"""

    FULL = "full"
    RELAXED = "relaxed"


Files = Annotated[
    list[str] | None,
    typer.Argument(
        help="Parquet, CSV, NDJSON or health JSON files, plain, .gz or .zst; - is standard input.",
        metavar="FILE...",
    ),
]


IntoTable = Annotated[
    str | None,
    typer.Option(help="Where the rows go: table or schema.table. Not for health JSON."),
]


Create = Annotated[
    bool,
    typer.Option(
        help="Make the table where it is missing: the health profile's, or one of the file's"
        " columns and types."
    ),
]


FileFormat = Annotated[
    str | None,
    typer.Option("--format", help=f"Format of the files: {', '.join(FORMATS)}."),
]

Delimiter = Annotated[
    str | None,
    typer.Option(help="Of CSV: one character, or tab. Default: a tab for .tsv, else a comma."),
]

Quote = Annotated[
    str,
    typer.Option(help='Of CSV: one character, or "" where no field is quoted.'),
]

NullString = Annotated[
    str,
    typer.Option(
        help="Of CSV: an unquoted field that says so is null. With any but the default, an empty"
        " field is the empty text."
    ),
]

Encoding = Annotated[str, typer.Option(help="Of CSV: latin-1, cp1252, utf-16 ...")]

Map = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        help="SOURCE=COLUMN: load a column of the files into a column of another name; with commas,"
        " or more than once. SOURCE may be a path into objects: payload.device.name.",
    ),
]

MissingOption = Annotated[
    MissingKey,
    typer.Option(
        "--missing",
        help="A key that a JSON object does not have: null, default (the column's DEFAULT), or"
        " error (the row is rejected).",
    ),
]

Strategy = Annotated[str | None, typer.Option(help=f"auto, {', '.join(strategy_names())}.")]

Driver = Annotated[str | None, typer.Option(help="asyncpg or psycopg.")]

ChunkSize = Annotated[
    str | None,
    typer.Option(help="Rows a chunk; auto: it adapts to measured rows/s.", metavar="ROWS|auto"),
]

Parallelism = Annotated[
    int | None,
    typer.Option(help="Writers, each with a connection of its own."),
]

OnConflictOption = Annotated[
    OnConflict,
    typer.Option(help="What to do with a row whose unique key is there already."),
]

ConflictTarget = Annotated[
    str | None,
    typer.Option(
        help="The unique key that --on-conflict means: its columns, with commas, or the name of a"
        " unique index or constraint, which may be partial."
    ),
]

UpdateColumns = Annotated[
    str | None,
    typer.Option(
        help="Under update, set these columns only, with commas. Default: all but the key's."
    ),
]

NewerBy = Annotated[
    str | None,
    typer.Option(
        help="Update a row only by one whose value in this column is greater, whatever the order"
        " of writers; NULL is older than any value. Means --on-conflict update."
    ),
]

SkipUnchanged = Annotated[
    bool,
    typer.Option(
        "--skip-unchanged",
        help="Under update, leave a row alone that is the same already: it counts as a duplicate.",
    ),
]

DedupOption = Annotated[
    Dedup | None,
    typer.Option(
        help="Which of several rows of one key stays: first or last in the input. Without it,"
        " what --on-conflict leaves: error rejects the later ones, nothing keeps the first,"
        " update the last."
    ),
]

Transaction = Annotated[
    str,
    typer.Option(help="What is committed together: chunk, batch (all or nothing), or N chunks."),
]

OnRejectOption = Annotated[
    OnReject | None,
    typer.Option(
        help="What a row that cannot be loaded does: skip (it goes to the dead letter, the"
        " others are committed) or stop. Default: skip, but stop under --transaction batch."
    ),
]

MaxRejects = Annotated[
    str | None,
    typer.Option(help="Stop after more rejected rows than N, or P%."),
]

DeadLetter = Annotated[
    Path | None,
    typer.Option(
        help="File for rejected rows, NDJSON. Default: results/loads/LOAD_ID/rejects.ndjson."
    ),
]

RetryRejects = Annotated[
    Path | None,
    typer.Option(help="Load the rows of this dead letter, once mended, instead of files."),
]

ExactlyOnceOption = Annotated[
    ExactlyOnce,
    typer.Option(
        help="How a COMMIT whose answer was lost is settled: by a ledger table, by the"
        " transaction's status, or off. auto: the ledger where this role may have one."
    ),
]

PoolerOption = Annotated[
    Pooler | None,
    typer.Option(
        help="What stands before the server: a pooler in transaction or session mode, or none."
        " auto sees for itself, and takes any pooler for one in transaction mode."
    ),
]

LedgerSchema = Annotated[str, typer.Option(help="Schema of the ledger's tables.")]

Resume = Annotated[
    str | None,
    typer.Option(help="Go on with this load id: no row is written twice."),
]

DurabilityOption = Annotated[
    Durability,
    typer.Option(help="full: synchronous_commit is on, whatever server or role say."),
]

WaitLimitS = Annotated[
    float,
    typer.Option(help="Cut the connection of a statement that takes longer.", min=1),
]

NanOption = Annotated[
    NanPolicy,
    typer.Option(help="NaN in the data: nan keeps it, null, or error."),
]

NulOption = Annotated[
    NulPolicy,
    typer.Option(help="NUL characters in text, which PostgreSQL cannot hold: reject or strip."),
]

IgnoreColumns = Annotated[
    str | None,
    typer.Option(help="Columns of the files to leave out, with commas."),
]

AssumeTimezone = Annotated[
    str | None,
    typer.Option(help="Zone of times that bear none, such as Europe/Berlin."),
]

UserId = Annotated[
    str | None,
    typer.Option(help="The user of a health export, whose records name none."),
]

Metrics = Annotated[
    str | None,
    typer.Option(help="Of health JSON, load these metrics only, with commas."),
]

LogFormatOption = Annotated[
    LogFormat,
    typer.Option(help="On standard error: text (a bar on a terminal), or json, a line an event."),
]


MaxRowsPerS = Annotated[float | None, typer.Option(help="Send no more rows a second.")]

MaxWalMbPerS = Annotated[
    float | None,
    typer.Option(
        help="Slow down so that the whole server, others' work included, writes no more WAL a"
        " second."
    ),
]

MaxReplicaLagMb = Annotated[
    float | None,
    typer.Option(help="Pause while a connected replica has more WAL than this to replay."),
]

PauseWhenLocksWait = Annotated[
    bool,
    typer.Option(
        "--pause-when-locks-wait",
        help="Pause while another session waits for a lock that this load holds.",
    ),
]

MetricsPort = Annotated[
    int | None,
    typer.Option(
        help="While the load runs, answer Prometheus at this port's /metrics; 0: any free one.",
        min=0,
        max=65_535,
    ),
]

MetricsHost = Annotated[
    str, typer.Option(help="The address of --metrics-port; what is not loopback, others can read.")
]

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show casts, limits and plan; write nothing.")
]


def parse_chunk_size(text: str | None) -> int | Literal["auto"] | None:
    """A number of rows, or "auto". Raises ConfigError."""
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--chunk-size takes a number of rows, or auto, not {text!r}")


def parse_max_rejects(text: str | None) -> int | float | None:
    """A number of rows, or a share of them. Raises ConfigError."""
    if text is None:
        return None
    number = text.removesuffix("%")
    if not number.isascii() or not number.isdigit() or (text != number and int(number) > 100):
        raise ConfigError(f"--max-rejects takes a number of rows or a percentage, not {text!r}")
    return int(number) / 100 if text != number else int(number)


def parse_transaction(text: str) -> Literal["chunk", "batch"] | int:
    """What is committed together; a number: so many chunks. Raises ConfigError."""
    if text == "chunk":
        return "chunk"
    if text == "batch":
        return "batch"
    if text.isascii() and text.isdigit():
        return int(text)
    raise ConfigError(f"--transaction takes chunk, batch, or a number of chunks, not {text!r}")


def parse_map(texts: list[str] | None) -> dict[str, str]:
    """Source name -> column, of SOURCE=COLUMN with commas. Raises ConfigError."""
    columns: dict[str, str] = {}
    for part in (part.strip() for text in texts or () for part in text.split(",")):
        source, equals, column = part.partition("=")
        if not (source and equals and column):
            raise ConfigError(f"--map takes SOURCE=COLUMN, not {part!r}")
        if columns.setdefault(source, column) != column:
            raise ConfigError(
                f"--map sends {source!r} to both {columns[source]!r} and {column!r}; choose one"
            )
    return columns


def parse_delimiter(text: str | None) -> str | None:
    """A character that a shell is at odds with, by its name."""
    return "\t" if text in ("tab", "\\t") else text
