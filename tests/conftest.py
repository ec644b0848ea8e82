"""Makes the fixtures of `tests/fixtures/` known, and names the servers in pytest's header."""

from __future__ import annotations

import pytest

from tests.fixtures.commands import commands
from tests.fixtures.servers import dsn, dsn18, server, server15, server18, server_header

__all__ = ["commands", "dsn", "dsn18", "server", "server15", "server18"]


def pytest_report_header() -> str:
    """The versions of PostgreSQL that the tests run on."""
    return server_header()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The same at the end of a quiet run, which has no header."""
    if config.get_verbosity() < 0:
        terminalreporter.write_line(server_header())
