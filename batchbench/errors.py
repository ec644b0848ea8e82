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


_TRANSIENT = frozenset(
    ("40001", "40P01", "55P03", "57P01", "57P02", "57P03", "57P05", "25P03", "25P04", "25006")
) | frozenset(("53300", "08000", "08001", "08003", "08006"))
_TOO_BIG = frozenset(["57014", "53200", "54000"])
_STALE = frozenset(["26000", "42P05", "42P10", "0A000", "42704"])
_ROW_CLASSES = ("22", "23", "P0")
_ROW = frozenset(["44000"])


def classify(sqlstate: str) -> Failure:
    """Tell which class of failure a SQLSTATE belongs to. Unknown means fatal: stop.

    Source: PostgreSQL documentation, appendix A.
    """
    if sqlstate in _TRANSIENT:
        return Failure.TRANSIENT
    if sqlstate in _TOO_BIG:
        return Failure.TOO_BIG
    if sqlstate in _STALE:
        return Failure.STALE
    if sqlstate in _ROW or sqlstate[:2] in _ROW_CLASSES:
        return Failure.ROW
    if sqlstate == "08P01":
        return Failure.PROTOCOL
    return Failure.FATAL


_DOES = {
    Failure.TRANSIENT: "the transaction again on a fresh connection, with backoff",
    Failure.TOO_BIG: "the chunk in halves, and on",
    Failure.STALE: "prepared statements are forgotten and the table is read again, once",
    Failure.ROW: "the guilty rows are found and rejected, the others committed",
    Failure.PROTOCOL: "the load stops: our bug, or a limit crossed",
    Failure.FATAL: "the load stops, what is open is rolled back, what is committed is said",
}


def failure_rows() -> list[tuple[str, str, str]]:
    """The table that `classify` goes by, for people: class, SQLSTATEs, what the engine does."""
    states = {
        Failure.TRANSIENT: sorted(_TRANSIENT),
        Failure.TOO_BIG: sorted(_TOO_BIG),
        Failure.STALE: sorted(_STALE),
        Failure.ROW: [*(f"{start}xxx" for start in _ROW_CLASSES), *sorted(_ROW)],
        Failure.PROTOCOL: ["08P01"],
        Failure.FATAL: ["all others"],
    }
    return [(kind.value, ", ".join(states[kind]), _DOES[kind]) for kind in Failure]
