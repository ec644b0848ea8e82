"""Connection strings: libpq's own for psycopg, translated for asyncpg.

Both drivers mean the same by a connection string: libpq parses it and fills in its PG* variables,
its service file and its defaults. Where asyncpg could only do less than was asked for, it is
refused, not done more weakly.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from batchbench.config import SECRETS, without_passwords
from batchbench.errors import ConfigError

# libpq's parameters that asyncpg knows by the same name in a URI, with libpq's defaults.
_SHARED: Mapping[str, str] = {
    "application_name": "",
    "gsslib": "",
    "krbsrvname": "postgres",
    "options": "",
    "passfile": "",
    "service": "",
    "ssl_max_protocol_version": "",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslcert": "",
    "sslcrl": "",
    "sslkey": "",
    "sslmode": "",
    "sslnegotiation": "postgres",
    "sslpassword": "",
    "sslrootcert": "",
    "target_session_attrs": "any",
}

# Values of libpq's parameters under which asyncpg does what libpq does; others are refused.
_ONLY: Mapping[str, tuple[str, ...]] = {
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "replication": ("false", "off", "no", "0"),
    "require_auth": (),
    "requirepeer": (),
    "sslcertmode": ("allow",),
    "sslcrldir": (),
    "sslsni": ("1",),
}

_SYSTEM_ROOTS = "system"
_PORT = "5432"


def parameters(dsn: str) -> dict[str, str]:
    """The parameters of a libpq connection string (URI or key=value), as far as it names them.

    Raises ConfigError where it is neither, or where a character of the password has cut it off
    from where it belongs; the message repeats nothing of it.
    """
    try:
        known = {key: str(value) for key, value in conninfo_to_dict(dsn).items() if value != ""}
    except ProgrammingError:
        raise ConfigError(
            "the connection string is not valid: write postgresql://user@host:port/database"
            " or host=... dbname=... (libpq's syntax); in a URI, write the password's"
            " : / ? # [ ] @ and % as %3A %2F %3F %23 %5B %5D %40 and %25"
        ) from None  # libpq's own words repeat parts of it, the password's too
    if "://" in dsn:
        _check_password_is_whole(dsn)
    return known


def _check_password_is_whole(dsn: str) -> None:
    """An unencoded @ or / in a URI's password would make the rest of it a host or database."""
    place = dsn.split("://", 1)[1].split("?", 1)[0]
    authority, _, path = place.partition("/")
    if authority.count("@") > 1 or "@" in path:
        raise ConfigError(
            "the connection string holds an @ that is not encoded: in a URI write the @ of a user,"
            " password or database as %40, and a / as %2F"
        )


def effective(dsn: str) -> dict[str, str]:
    """The same with what libpq takes from its PG* variables and defaults.

    A service that the string names is left to the drivers: it comes before the variables.
    """
    known = parameters(dsn)
    if "service" in known:
        return known
    defaults = {
        option.keyword.decode(): option.val.decode()
        for option in pq.Conninfo.get_defaults()
        if option.val
    }
    return {**defaults, **known}


def shown(dsn: str) -> str:
    """Where a connection string leads, without user and password."""
    known = parameters(dsn)
    host = without_passwords(known.get("host") or known.get("hostaddr") or "the default host")
    port = known.get("port", _PORT)
    database = without_passwords(known.get("dbname") or "the default database")
    return f"{host}:{port}/{database}"


def apart(dsn: str) -> tuple[str, dict[str, str]]:
    """A connection string without its password, and the variables that say it: for a process
    whose command line anybody may read. Raises ConfigError on a secret that has no variable.
    """
    known = parameters(dsn)
    password = known.pop("password", None)
    if left := [name for name in SECRETS if name in known]:
        raise ConfigError(
            f"{left[0]} would be seen in another process's command line: leave it out of the"
            " connection string"
        )
    return make_conninfo("", **known), {"PGPASSWORD": password} if password else {}


def without_secrets(text: str, dsn: str) -> str:
    """What a server or a driver said of a connection, *** in place of the string's secrets."""
    known = effective(dsn)
    for name in SECRETS:
        if secret := known.get(name):
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return without_passwords(text)


def connect_limit_s(dsn: str, default_s: float) -> float:
    """How long to try each address of a connection string: its connect_timeout, else the default.

    Source: libpq, connectDBComplete: 0 and less is no limit (ours then), 1 is 2.
    Raises ConfigError where it is no whole number.
    """
    text = effective(dsn).get("connect_timeout", "0")
    try:
        limit = int(text)
    except ValueError:
        raise ConfigError(f"connect_timeout takes whole seconds, not {text[:20]!r}") from None
    return float(max(limit, 2)) if limit > 0 else max(default_s, 2.0)


def check_files(dsn: str) -> None:
    """Refuse certificates that are not there: libpq would go on without some of them.

    Raises ConfigError.
    """
    known = effective(dsn)
    if known.get("sslmode") == "disable":
        return
    for name in ("sslrootcert", "sslcert", "sslcrl"):
        path = known.get(name, "")
        if path and path != _SYSTEM_ROOTS and not Path(path).is_file():
            raise ConfigError(f"{name}={path}: there is no such file; check the path")


@dataclass(frozen=True, slots=True, repr=False)
class Attempt:
    """One address for asyncpg to try.

    uri: with the password. where: without. system_roots: trust the system's certificates.
    """

    uri: str
    where: str
    system_roots: bool = False

    def __repr__(self) -> str:
        return f"Attempt({self.where})"


def attempts(dsn: str) -> list[Attempt]:
    """What asyncpg is to try, in this order, until one is taken.

    Source: libpq's documentation, "Specifying Multiple Hosts" and "target_session_attrs".
    Raises ConfigError where asyncpg cannot do what is asked for.
    """
    known = effective(dsn)
    _check_asyncpg_can(known)
    if "service" in known:
        return [Attempt(asyncpg_uri(dsn), shown(dsn))]
    hosts = _hosts(known)
    if known.get("load_balance_hosts") == "random":
        random.shuffle(hosts)
    wanted = known.get("target_session_attrs", "any")
    passes = ["standby", "any"] if wanted == "prefer-standby" else [wanted]
    return [_attempt(known, host, port, target) for target in passes for host, port in hosts]


def _hosts(known: Mapping[str, str]) -> list[tuple[str, str]]:
    """(host, port) of each address; ("", port) is the default socket."""
    names = known.get("hostaddr") or known.get("host") or ""
    hosts, ports = names.split(","), known.get("port", "").split(",")
    if len(ports) not in (1, len(hosts)):
        raise ConfigError(
            f"the connection string has {len(hosts)} hosts and {len(ports)} ports: give one port"
            " for all, or one for each"
        )
    ports = ports * len(hosts) if len(ports) == 1 else ports
    return [(host, port or _PORT) for host, port in zip(hosts, ports, strict=True)]


def _attempt(known: Mapping[str, str], host: str, port: str, target: str) -> Attempt:
    over_tcp = bool(host) and not host.startswith(("/", "@"))
    system_roots = over_tcp and known.get("sslrootcert") == _SYSTEM_ROOTS
    dropped = set() if over_tcp else {name for name in known if name.startswith("ssl")}
    if system_roots:
        dropped |= {"sslrootcert", "sslmode"}
    rest = {key: value for key, value in known.items() if key not in dropped}
    uri = _uri({**rest, "host": host, "port": port, "target_session_attrs": target})
    return Attempt(uri, f"{host or 'the default socket'}:{port}", system_roots)


def asyncpg_uri(dsn: str) -> str:
    """The same address as a URI that asyncpg reads, multi-host addresses included."""
    return _uri(parameters(dsn))


def _uri(known: Mapping[str, str]) -> str:
    user = quote(known.get("user", ""), safe="")
    password = f":{quote(known['password'], safe='')}" if known.get("password") else ""
    query = {
        key: value
        for key, value in known.items()
        if key in _SHARED and value not in ("", _SHARED[key])
    }
    host = known.get("host") or known.get("hostaddr")
    query |= {"host": host} if host else {}
    query |= {"port": known["port"]} if known.get("port") else {}
    login = f"{user}{password}@" if user or password else ""
    database = quote(known.get("dbname", ""), safe="")
    return f"postgresql://{login}/{database}?{urlencode(query, quote_via=quote)}"


def _check_asyncpg_can(known: Mapping[str, str]) -> None:
    for name, allowed in _ONLY.items():
        value = known.get(name, "")
        if value and value not in allowed:
            may = f"only {' or '.join(allowed)}" if allowed else "not at all"
            raise ConfigError(
                f"asyncpg does not do {name}={value[:40]} ({may}): use the driver psycopg"
            )
    if known.get("hostaddr") and known.get("host") and known.get("sslmode") == "verify-full":
        raise ConfigError(
            "asyncpg cannot connect to hostaddr and hold the certificate against host: leave"
            " hostaddr out, or use the driver psycopg"
        )
    if known.get("sslrootcert") == _SYSTEM_ROOTS:
        _check_system_roots(known)


def _check_system_roots(known: Mapping[str, str]) -> None:
    mode = known.get("sslmode", "verify-full")
    if mode not in ("verify-full", "prefer"):  # prefer: libpq's default, which it raises itself
        raise ConfigError(
            f"sslmode={mode} is too weak for sslrootcert=system: it takes verify-full"
        )
    if known.get("sslcert"):
        raise ConfigError(
            "asyncpg does not do sslcert beside sslrootcert=system: use the driver psycopg"
        )
