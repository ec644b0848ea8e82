"""Makes the fixtures of `tests/fixtures/` known, and names the servers in pytest's header."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

from tests.fixtures.commands import commands
from tests.fixtures.disks import small_disk
from tests.fixtures.faults import own_cluster
from tests.fixtures.pgbouncer import pgbouncer
from tests.fixtures.replication import standby, sync_standby_absent
from tests.fixtures.roles import ordinary
from tests.fixtures.servers import dsn, dsn18, server, server15, server18, server_header

__all__ = [
    "commands",
    "dsn",
    "dsn18",
    "ordinary",
    "own_cluster",
    "pgbouncer",
    "server",
    "server15",
    "server18",
    "small_disk",
    "standby",
    "sync_standby_absent",
]


# A run in the background of a shell inherits an ignored SIGINT, and would hand it on to the
# programs whose Ctrl-C is tested.
signal.signal(signal.SIGINT, signal.default_int_handler)

# These machines are shared: a time limit on one example would be a test of their neighbours.
settings.register_profile("batchbench", deadline=None)
settings.load_profile("batchbench")


def pytest_report_header() -> str:
    """The versions of PostgreSQL that the tests run on."""
    return server_header()


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """The same at the end of a quiet run, which has no header."""
    if config.get_verbosity() < 0:
        terminalreporter.write_line(server_header())
