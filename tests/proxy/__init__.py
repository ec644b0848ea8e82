"""A TCP proxy in front of a PostgreSQL server: records what clients really send, commits faults.

    async with open_proxy(dsn, cut_commit_after(nth=7)) as proxy:
        ... connect to proxy.dsn ...
        assert max(bind.parameters for bind in proxy.binds) <= 65_535
        assert [fired.tag for fired in proxy.fired] == ["COMMIT"]

It runs on the test's own event loop: clients must be asynchronous, or in a thread or process.
Whole messages are forwarded, one at a time, all through `Link.forward`.
"""

from __future__ import annotations

from tests.proxy.faults import (
    BIND,
    COMMAND_COMPLETE,
    COMMIT,
    COMMITTED,
    COPY_DATA,
    COPY_DONE,
    ERROR,
    EXECUTE,
    PARSE,
    QUERY,
    READY,
    ROWS,
    START_UP,
    SYNC,
    Call,
    Fault,
    Fired,
    Kind,
    Match,
    Passing,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_before,
    cut_commit_blind,
    from_client,
    from_server,
    running,
    tagged,
)
from tests.proxy.listener import Proxy, open_proxy
from tests.proxy.messages import (
    Bind,
    CopyData,
    Execute,
    Message,
    Parse,
    Query,
    Record,
    Side,
    decode,
    ends_in_commit,
)

__all__ = [
    "BIND",
    "COMMAND_COMPLETE",
    "COMMIT",
    "COMMITTED",
    "COPY_DATA",
    "COPY_DONE",
    "ERROR",
    "EXECUTE",
    "PARSE",
    "QUERY",
    "READY",
    "ROWS",
    "START_UP",
    "SYNC",
    "Bind",
    "Call",
    "CopyData",
    "Execute",
    "Fault",
    "Fired",
    "Kind",
    "Match",
    "Message",
    "Parse",
    "Passing",
    "Proxy",
    "Query",
    "Record",
    "Side",
    "Trigger",
    "When",
    "cut_commit_after",
    "cut_commit_before",
    "cut_commit_blind",
    "decode",
    "ends_in_commit",
    "from_client",
    "from_server",
    "open_proxy",
    "running",
    "tagged",
]
