"""A PostgreSQL to run on: an embedded one, one that a DSN names, one in a container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from batchbench.config import masked
from batchbench.drivers.address import parameters, without_secrets
from batchbench.errors import ConfigError, ServerError
from batchbench.servers.cluster import DURABLE, Cluster, open_cluster
from batchbench.servers.container import DEFAULT_IMAGE, open_container
from batchbench.servers.installation import Installation, embedded_installation
from batchbench.servers.version import ServerVersion, supported

__all__ = [
    "DURABLE",
    "Cluster",
    "Installation",
    "Server",
    "ServerVersion",
    "embedded_installation",
    "open_cluster",
    "open_server",
    "probe",
    "supported",
]


@dataclass(frozen=True, slots=True, repr=False)
class Server:
    """A server that answered.

    kind: "embedded", "dsn" or "container:IMAGE". cluster: None unless the server is our own.
    """

    dsn: str
    kind: str
    version: ServerVersion
    cluster: Cluster | None = None

    def __repr__(self) -> str:
        return f"Server({masked(self.dsn)!r}, {self.kind!r}, PostgreSQL {self.version})"


@contextmanager
def open_server(
    spec: str,
    *,
    dsn: str | None = None,
    data_dir: Path | None = None,
    settings: Mapping[str, str] = DURABLE,
    connect_timeout_s: int = 10,
) -> Iterator[Server]:
    """A server that answers and is new enough; one of our own ends with the context.

    spec: "embedded", "dsn" or "container:IMAGE" ("container" alone means postgres:17).
    dsn: for "dsn"; "" lets libpq resolve it from its PG* variables.
    data_dir, settings: for "embedded", see `open_cluster`.
    Raises ConfigError on a spec, or options together, that cannot work; ServerError where there
    is no usable server.
    """
    kind, _, image = spec.partition(":")
    if kind not in ("embedded", "dsn", "container") or (image and kind != "container"):
        raise ConfigError(
            f"there is no server {masked(spec)!r}: write embedded, dsn, or container:IMAGE"
        )
    if data_dir is not None and kind != "embedded":
        raise ConfigError(f"a data folder goes with the embedded server only, not with {kind}")
    if kind == "embedded":
        with open_cluster(embedded_installation(), data_dir=data_dir, settings=settings) as cluster:
            version = probe(cluster.dsn, connect_timeout_s)
            yield Server(cluster.dsn, kind, version, cluster)
    elif kind == "container":
        image = image or DEFAULT_IMAGE
        with open_container(image) as url:
            yield Server(url, f"container:{image}", probe(url, connect_timeout_s))
    elif dsn is None:
        raise ConfigError("no server is named: give --dsn, or set DATABASE_URL or PGHOST")
    else:
        yield Server(dsn, kind, probe(dsn, connect_timeout_s))


def probe(dsn: str, connect_timeout_s: int = 10) -> ServerVersion:
    """Connect once and say which version answers.

    connect_timeout_s: for each host, where the DSN sets none; at least 2 (libpq's least).
    Raises ServerError where the server cannot be reached, refuses us, or is older than 15;
    ConfigError where the DSN cannot be read. No message holds a password.
    """
    parts = parameters(dsn)
    timeout_s = parts.get("connect_timeout") or connect_timeout_s
    try:
        with psycopg.connect(dsn, connect_timeout=timeout_s, autocommit=True) as connection:
            number = connection.info.server_version
    except psycopg.Error as error:
        reason = without_secrets(" ".join(str(error).split()), dsn)
        raise ServerError(
            f"cannot connect to {masked(dsn) or 'the server that the PG* variables name'}: {reason}"
        ) from None  # psycopg's error bears the password
    return supported(number)
