"""Makes the fixtures of `tests/fixtures/` known, and names the servers in pytest's header."""

from __future__ import annotations

from tests.fixtures.servers import dsn, dsn18, server, server15, server18, server_header

__all__ = ["dsn", "dsn18", "server", "server15", "server18"]


def pytest_report_header() -> str:
    """The versions of PostgreSQL that the tests run on."""
    return server_header()
