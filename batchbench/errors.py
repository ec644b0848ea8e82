"""The error tree, and which class of failure a SQLSTATE belongs to.

    BatchbenchError
    ├── ConfigError         a setting, option or combination that cannot work
    ├── InputError          a source that cannot be read, or whose data does not fit the table
    ├── TableError          a table, column, key or type that is missing or not supported
    ├── ServerError         no usable server: unreachable, refused, too old
    ├── WriteError          the server or a driver refused a statement
    ├── TooManyRejectsError more rows were rejected than may be (see engine)
    └── LoadError           a load ended early; carries what happened to every row (see engine)

Messages say where, what was got, what is allowed and what to do. They never hold a row's
values: the rows are health data.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class BatchbenchError(Exception):
    """Base of every error that batchbench raises on purpose."""


class ConfigError(BatchbenchError):
    """A setting, option or combination of both cannot work."""


class InputError(BatchbenchError):
    """A source cannot be read, or its data does not fit the table."""


class TableError(BatchbenchError):
    """A table, column, key or type is missing or not supported."""


class ServerError(BatchbenchError):
    """No usable server: unreachable, access refused, or too old.

    lasting: whether trying again cannot help (a wrong password, a missing database).
    """

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class Failure(StrEnum):
    """What a failed statement calls for; see `classify`."""

    TRANSIENT = "transient"  # the same chunk again, on a fresh connection
    TOO_BIG = "too big"  # halve the chunk and go on
    STALE = "stale"  # forget prepared statements, read the table again, once
    ROW = "row"  # find the guilty rows, commit the others
    PROTOCOL = "protocol"  # our bug or a limit crossed: never again
    FATAL = "fatal"  # stop, roll back what is open


class WriteError(BatchbenchError):
    """The server or a driver refused a statement.

    sqlstate: five characters, or "" where the failure has none (a broken connection).
    condition: PostgreSQL's name for the SQLSTATE, such as "UniqueViolation".
    schema, table, column, constraint: as the server reported them, else None.
    line: row of a COPY that the server was at, from 1; a hint, since it comes from a text.
    """

    def __init__(
        self,
        message: str,
        *,
        sqlstate: str = "",
        condition: str = "",
        schema: str | None = None,
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.condition = condition
        self.schema = schema
        self.table = table
        self.column = column
        self.constraint = constraint
        self.line = line

    @property
    def fate_unknown(self) -> bool:
        """Whether a COMMIT that ended so may have happened all the same: the connection or the
        backend died. Every other error comes from a server that rolled back and lives on.
        """
        return not self.sqlstate or self.sqlstate[:2] in ("08", "57", "58", "XX")

    def add_place(self, place: str) -> None:
        """Say which rows the statement carried, in front of the message."""
        self.args = (f"{place}: {self.args[0]}", *self.args[1:])

    @property
    def failure(self) -> Failure:
        """The class of this failure; a connection that broke without a SQLSTATE is transient."""
        return classify(self.sqlstate) if self.sqlstate else Failure.TRANSIENT


@dataclass(frozen=True, slots=True)
class FailureClass:
    """A row of the table of failures, which code, README and tests share.

    sqlstates: whole ones, or a class by its first two characters; a whole one goes first.
    besides: what else belongs here, in words. does: what a load does then.
    """

    failure: Failure
    sqlstates: tuple[str, ...]
    besides: str
    does: str


FAILURE_CLASSES = (
    FailureClass(
        Failure.TRANSIENT,
        (
            *("40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04"),
            *("25006", "53300", "08000", "08001", "08003", "08006"),
        ),
        "a connection that was reset, closed or cut",
        "the transaction again on a fresh connection, `BATCH_MAX_RETRIES` times",
    ),
    FailureClass(
        Failure.TOO_BIG,
        ("57014", "53200", "54000"),
        "a chunk whose connection died twice",
        "the chunk is halved",
    ),
    FailureClass(
        Failure.STALE,
        ("26000", "42P05", "42P10", "0A000", "42704"),
        "",
        "the table is read and statements are prepared again, once; a table that has changed stops"
        " the load",
    ),
    FailureClass(
        Failure.ROW,
        ("22", "23", "P0", "44000"),
        "54000 of a single row; 42501 where row security is on; a value that does not fit",
        "the guilty rows are found and rejected, the others are committed",
    ),
    FailureClass(
        Failure.PROTOCOL,
        ("08P01",),
        "",
        "the load stops: a limit was crossed, or it is a bug",
    ),
    FailureClass(
        Failure.FATAL,
        (),
        "everything else",
        "the load stops, what is open is rolled back, what is committed is said",
    ),
)

_BY_SQLSTATE = {sqlstate: row.failure for row in FAILURE_CLASSES for sqlstate in row.sqlstates}


def classify(sqlstate: str) -> Failure:
    """Tell which class of failure a SQLSTATE belongs to. Unknown means fatal: stop.

    Source: PostgreSQL documentation, appendix A.
    """
    of_class = _BY_SQLSTATE.get(sqlstate[:2], Failure.FATAL)
    return _BY_SQLSTATE.get(sqlstate, of_class)


def failure_table() -> list[tuple[str, str, str]]:
    """The table for people: class, what belongs to it, what a load does then."""
    return [
        (
            row.failure.value,
            "; ".join(filter(None, (", ".join(map(_shown, row.sqlstates)), row.besides))),
            row.does,
        )
        for row in FAILURE_CLASSES
    ]


def _shown(sqlstate: str) -> str:
    return sqlstate if len(sqlstate) == 5 else f"{sqlstate}xxx"
