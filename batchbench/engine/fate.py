"""What became of a COMMIT whose answer was lost.

First the fence: the old backend may live on, hold locks and still commit, so it is ended before
anything is asked; through a pooler it may serve somebody else by now, so the transaction's end is
waited for instead. Then the ledger answers, or the transaction's status; the status is believed
only with proof that the server has not gone through recovery since, because transaction ids whose
WAL was not flushed are handed out again (design.md, "Facts").
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from enum import StrEnum

from batchbench.drivers import Session
from batchbench.errors import WriteError

_FENCE_MS = 5_000

# What a recovery changes, as far as an ordinary role can see it on 15 and newer. Of the functions
# under pg_stat_wal and the like: a new backend plans those views for longer than it reads them.
_EVIDENCE = """concat_ws('|', pg_catalog.pg_postmaster_start_time(),
  (SELECT stats_reset FROM pg_catalog.pg_stat_get_wal()),
  (SELECT stats_reset FROM pg_catalog.pg_stat_get_archiver()),
  pg_catalog.pg_stat_get_bgwriter_stat_reset_time(),
  (SELECT system_identifier FROM pg_catalog.pg_control_system()),
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'standby'
    ELSE left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8) END)"""

_BACKEND_SQL = """
SELECT pid::text, backend_start::text, pg_catalog.current_setting('synchronous_commit'), {}, {}
FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())
"""

# The start tells a backend from a later one that got the same pid: nobody else's is ended.
_FENCE_SQL = """
SELECT pg_catalog.pg_terminate_backend(pid, $3::text::int8)::text
FROM pg_catalog.pg_stat_activity WHERE pid = $1::text::int4 AND backend_start::text = $2::text
"""

_ALIVE_SQL = """
SELECT pid::text FROM pg_catalog.pg_stat_activity
WHERE pid = $1::text::int4 AND backend_start::text = $2::text
"""


_XID_SQL = "pg_catalog.pg_current_xact_id()::text"
_STATUS_SQL = "SELECT pg_catalog.pg_xact_status($1::text::xid8)"
_STATUS_EVERY_S = 0.05
_IN_THE_FUTURE = "22023"  # an id that this server has not given out, or not any more

_WAIT_SQL = """
SELECT coalesce(wait_event_type || ' ' || wait_event, 'nothing')
FROM pg_catalog.pg_stat_activity WHERE pid = $1::text::int4
"""


class Fate(StrEnum):
    """What became of a transaction."""

    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Backend:
    """A server process, and what the server showed of itself when the session began.

    pid: "" where it may serve others, and must not be ended.
    commit_mode: its synchronous_commit.
    evidence: differs after any recovery; "" where this role may not see enough to tell.
    xid: of the transaction in which it was seen, where that was asked for.
    """

    pid: str
    started_at: str
    commit_mode: str
    evidence: str
    xid: str = ""


async def look(session: Session) -> Backend:
    """Who serves this session, and the evidence. Not in a transaction."""
    try:
        return await _look(session, _EVIDENCE, "''")
    except WriteError as error:
        if error.fate_unknown:
            raise
        await session.rollback()
        return await _look(session, "''", "''")


async def look_inside(session: Session, before: Backend) -> Backend:
    """The same for the open transaction, with its id. before: what `look` saw."""
    return await _look(session, _EVIDENCE if before.evidence else "''", _XID_SQL)


async def _look(session: Session, evidence: str, xid: str) -> Backend:
    rows = await session.fetch(_BACKEND_SQL.format(evidence, xid))
    backend = Backend(*(value or "" for value in rows[0]))
    return backend if session.owns_backend else replace(backend, pid="")


async def fence(session: Session, backend: Backend) -> bool:
    """See to it that a backend's transaction has ended, by ending the backend where it is ours.
    True once that is sure.
    """
    if not backend.pid:
        return await _ended(session, backend.xid)
    await session.fetch(_FENCE_SQL, backend.pid, backend.started_at, str(_FENCE_MS))
    return not await session.fetch(_ALIVE_SQL, backend.pid, backend.started_at)


async def _ended(session: Session, xid: str) -> bool:
    """Wait for the end of a transaction. After a recovery its id may be another's: then too it
    has ended, and at worst the other's end is waited for.
    """
    deadline = time.monotonic() + _FENCE_MS / 1e3
    while xid and time.monotonic() < deadline:
        try:
            status = (await session.fetch(_STATUS_SQL, xid))[0][0]
        except WriteError as error:
            if error.sqlstate != _IN_THE_FUTURE:
                raise
            return True
        if status != "in progress":
            return True
        await asyncio.sleep(_STATUS_EVERY_S)
    return False


async def transaction_status(session: Session, xid: str, before: Backend) -> Fate:
    """The fate of a transaction that has ended, by pg_xact_status.

    before: as seen before the transaction began, or at its beginning.
    """
    status = (await session.fetch(_STATUS_SQL, xid))[0][0]
    if not before.evidence or (await look(session)).evidence != before.evidence:
        return Fate.UNKNOWN
    if status == "committed":
        return Fate.COMMITTED
    return Fate.ABORTED if status == "aborted" else Fate.UNKNOWN


async def wait_event(session: Session, backend: Backend) -> str:
    """What a backend waits for, in the server's words."""
    rows = await session.fetch(_WAIT_SQL, backend.pid)
    return (rows[0][0] if rows else None) or "nothing"
