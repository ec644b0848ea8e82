"""The state that a trial finds: what is in the table, and a server at rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg.conninfo import make_conninfo

from batchbench.drivers import Session, connect
from batchbench.drivers.address import effective, parameters
from batchbench.errors import ConfigError, ServerError, WriteError
from batchbench.table import Table, TableName, quote

# Those that a session of ours sets itself: what is asked for would be lost in silence.
_OUR_SETTINGS = ("client_encoding", "client_min_messages", "timezone")
WEAK_COMMITS = ("off", "local")
"""Values of synchronous_commit under which a COMMIT may be acknowledged and lost."""


@dataclass(frozen=True, slots=True)
class Privileges:
    """What this role may do around a trial. checkpoint: CHECKPOINT."""

    checkpoint: bool = False


async def privileges_of(session: Session) -> Privileges:
    """Ask the server. Raises WriteError."""
    sql = "SELECT pg_catalog.pg_has_role('pg_checkpoint', 'USAGE')::text"
    return Privileges(checkpoint=(await session.fetch(sql))[0][0] == "true")


async def refill(
    session: Session, table: Table, filling: TableName | None, columns: Sequence[str]
) -> None:
    """The table with nothing but `filling` in it, always in the same order. columns: of it."""
    await session.run(f"TRUNCATE {table.sql}")
    if filling is not None:
        names = ", ".join(map(quote, columns))
        await session.run(f"INSERT INTO {table.sql} ({names}) SELECT {names} FROM {filling.sql}")


async def settle(
    session: Session,
    table: Table,
    privileges: Privileges,
    *,
    vacuum: bool = True,
    checkpoint: bool = True,
) -> None:
    """Have done what the server would do later: VACUUM, then CHECKPOINT where the role may."""
    if vacuum:
        await session.run(f"VACUUM (ANALYZE) {table.sql}")
    if checkpoint and privileges.checkpoint:
        await session.run("CHECKPOINT")


def with_settings(dsn: str, settings: Mapping[str, str]) -> str:
    """The same address, whose sessions begin with these settings."""
    if not settings:
        return dsn
    given = effective(dsn).get("options", "")
    words = [f"-c {name}={_escaped(value)}" for name, value in settings.items()]
    return make_conninfo("", **{**parameters(dsn), "options": " ".join([given, *words]).strip()})


def _escaped(value: str) -> str:
    """As libpq's `options` wants it: a backslash before each blank and backslash."""
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


async def _had(session: Session, name: str, value: str) -> str:
    """The value as the server prints it. Raises ConfigError where the session began without it."""
    has = (await session.fetch("SELECT pg_catalog.current_setting($1::text)", name))[0][0]
    # As the server prints it. Local: behind a pooler the next statement may be another client's.
    sql = "SELECT pg_catalog.set_config($1::text, $2::text, true)"
    try:
        wanted = (await session.fetch(sql, name, value))[0][0]
    except WriteError as error:  # some can only be had from a connection's start on
        if error.fate_unknown:
            raise
        await session.rollback()
        return str(has)
    if has != wanted:
        raise ConfigError(
            f"a session began with {name}={has}, not with {value}: something between here and the"
            " server, such as a pooler, drops settings; connect past it"
        )
    return str(has)


async def check_settings(driver: str, dsn: str, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings as the server prints them. Raises ConfigError where a session cannot have them.

    dsn: of a server that can be reached.
    """
    ours = sorted(settings.keys() & set(_OUR_SETTINGS))
    if ours:
        raise ConfigError(
            f"server setting {ours[0]}: every session of batchbench sets it itself, so that rows do"
            " not depend on it; leave it out"
        )
    if not settings:
        return {}
    try:
        session = await connect(driver, with_settings(dsn, settings))
    except ServerError as error:
        names = ", ".join(f"{name}={value}" for name, value in settings.items())
        raise ConfigError(
            f"a session with the server settings {names} cannot be had: {error}; name settings that"
            " this role may SET, and connect past a pooler"
        ) from error
    try:
        return {n: await _had(session, n, value) for n, value in settings.items()}
    finally:
        await session.close()
