"""Errors of both drivers -> our error tree, at the edge.

A server's text may hold row values ("Key (user_id)=(...) already exists"), so of the classes
that speak about data only names are taken: the condition, table, column and constraint.
"""

from __future__ import annotations

import re

import psycopg

from batchbench.errors import ServerError, WriteError

# Classes whose messages speak of the server, the session or the schema, never of a row:
# connection, feature, transaction state, authorisation, database, syntax or access, resources,
# limits, prerequisite state, operator intervention, system.
_VALUE_FREE = ("08", "0A", "25", "28", "3D", "3F", "42", "53", "54", "55", "57", "58")


def condition_name(sqlstate: str) -> str:
    """PostgreSQL's name for a SQLSTATE ("UniqueViolation"), or the SQLSTATE where unknown."""
    try:
        return psycopg.errors.lookup(sqlstate).__name__
    except KeyError:
        return sqlstate


def write_error(
    sqlstate: str,
    primary: str | None,
    *,
    schema: str | None = None,
    table: str | None = None,
    column: str | None = None,
    constraint: str | None = None,
    context: str | None = None,
) -> WriteError:
    """What the server refused, said without row values."""
    condition = condition_name(sqlstate)
    where = [
        f"{what} {name}"
        for what, name in (("table", table), ("column", column), ("constraint", constraint))
        if name
    ]
    message = f"the server refused the rows: {condition} ({sqlstate})"
    # A context means that a COPY was under way or a function spoke: its words may hold values.
    if sqlstate.startswith(_VALUE_FREE) and primary and not context:
        message = f"the server said: {primary} ({condition}, {sqlstate})"
    if where:
        message += f"; {', '.join(where)}"
    return WriteError(
        message,
        sqlstate=sqlstate,
        condition=condition,
        schema=schema,
        table=table,
        column=column,
        constraint=constraint,
        line=_copy_line(context),
    )


def _copy_line(context: str | None) -> int | None:
    """The row that a COPY was at: "COPY t, line 37, ...", in whatever language."""
    found = re.search(r"^COPY .*?, \S+ (\d+)", context or "", re.MULTILINE)
    return int(found[1]) if found else None


def broken_connection(driver: str, what: str) -> WriteError:
    """The connection is gone; what the driver said about it holds no row values."""
    return WriteError(f"the connection broke ({driver}: {what})")


def lent_error(what: str) -> ServerError:
    """A connection of somebody else's that cannot be used: trying again cannot help."""
    return ServerError(f"the connection that was handed over {what}", lasting=True)


_CONNECT_ADVICE = {
    "28P01": "check user and password",
    "28000": "check pg_hba.conf and the user",
    "3D000": "check the database's name",
    "53300": "too many connections: lower the parallelism or raise max_connections",
    "57P03": "the server is starting or stopping: try again shortly",
}


def connect_error(where: str, sqlstate: str | None, said: str) -> ServerError:
    """No connection: where, why, what to do."""
    advice = _CONNECT_ADVICE.get(sqlstate or "", "check host, port, user, and that it is running")
    said = " ".join(said.split())
    lasting = (sqlstate or "")[:2] in ("28", "3D", "42")
    return ServerError(
        f"cannot connect to PostgreSQL at {where}: {said}; {advice}", lasting=lasting
    )
