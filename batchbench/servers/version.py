"""Which server versions we work with. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from batchbench.errors import ServerError

OLDEST_MAJOR = 15


@dataclass(frozen=True, slots=True, order=True)
class ServerVersion:
    """A PostgreSQL version. `number` is its server_version_num: 180006 is 18.6."""

    number: int

    @property
    def major(self) -> int:
        """18 of 18.6."""
        return self.number // 10_000

    def __str__(self) -> str:
        if self.major < 10:  # up to 9.6 the major version had two parts
            return f"{self.major}.{self.number // 100 % 100}.{self.number % 100}"
        return f"{self.major}.{self.number % 10_000}"


def supported(server_version_num: int) -> ServerVersion:
    """The version, if it is new enough. Raises ServerError below PostgreSQL 15."""
    version = ServerVersion(server_version_num)
    if version.major < OLDEST_MAJOR:
        raise ServerError(
            f"the server is PostgreSQL {version}, batchbench needs {OLDEST_MAJOR} or newer; "
            "upgrade it, or use another one with --dsn or --server embedded"
        )
    return version
