"""Connection strings: libpq's own for psycopg, translated for asyncpg."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict

from batchbench.errors import ConfigError

# libpq's parameters that asyncpg knows by the same name in a URI.
_SHARED = frozenset(
    [
        "krbsrvname",
        "gsslib",
        "options",
        "passfile",
        "service",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
        "application_name",
    ]
)


def parameters(dsn: str) -> dict[str, str]:
    """The parameters of a libpq connection string (URI or key=value).

    Raises ConfigError where it is neither; the message does not repeat it.
    """
    try:
        return {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value != ""}
    except ProgrammingError as error:
        raise ConfigError(
            "the connection string is not valid: write postgresql://user@host:port/database"
            " or host=... dbname=... (libpq's syntax)"
        ) from error


def shown(dsn: str) -> str:
    """Where a connection string leads, without user and password."""
    known = parameters(dsn)
    host = known.get("host") or known.get("hostaddr") or "the default host"
    port = known.get("port", "5432")
    database = known.get("dbname") or "the default database"
    return f"{host}:{port}/{database}"


def asyncpg_uri(dsn: str) -> str:
    """The same address as a URI that asyncpg reads, multi-host addresses included."""
    known = parameters(dsn)
    user = quote(known.get("user", ""), safe="")
    password = f":{quote(known['password'], safe='')}" if "password" in known else ""
    query = {key: value for key, value in known.items() if key in _SHARED}
    for ours, theirs in (("host", "host"), ("port", "port")):
        if ours in known:
            query[theirs] = known[ours]
    if "hostaddr" in known and "host" not in known:
        query["host"] = known["hostaddr"]
    login = f"{user}{password}@" if user or password else ""
    database = quote(known.get("dbname", ""), safe="")
    return f"postgresql://{login}/{database}?{urlencode(query, quote_via=quote)}"
