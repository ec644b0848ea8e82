"""Servers and backends that die, and connections that are refused."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import psutil
import psycopg

from tests.faults.cases import Case, Harm, always, never, on_wire, without_ledger
from tests.faults.scene import Scene
from tests.faults.wire import ROWS, some_chunk, some_commit
from tests.fixtures.faults import (
    burn_transaction_ids,
    consume_xids_in_background,
    kill_backend,
    kill_postmaster,
    server_process,
    stopped,
    terminate_backends,
    until,
    until_ready,
)
from tests.fixtures.loading import query
from tests.proxy import (
    COMMIT,
    Fault,
    Fired,
    Kind,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_blind,
)

OWN: dict[str, Any] = {"own_server": True, "unknown": without_ledger}

STOPPED: dict[str, Any] = {"wait_limit_s": 3.0, "row_count": [200, 300]}
"""For what only the watchdog ends, and the fence after it."""

_ENOUGH_TO_FENCE_S = 10.0

Blow = Callable[[Scene, Fired], None]
"""What is done to a server; blocks until it answers again."""


def kill_server(scene: Scene, fired: Fired) -> None:
    """SIGKILL to all of it, then start it."""
    kill_postmaster(scene.cluster, at_once=True)
    scene.cluster.start()


def kill_one(scene: Scene, fired: Fired) -> None:
    """SIGKILL to the backend; the postmaster ends the others and recovers."""
    kill_backend(scene.cluster, fired.backend_pid)
    until_ready(scene.dsn)


def restart(scene: Scene, fired: Fired) -> None:
    """Stop it without a checkpoint, then start it."""
    scene.cluster.restart("immediate")


def restart_in_order(scene: Scene, fired: Fired) -> None:
    """As an administrator does; its clients are told to leave."""
    scene.cluster.restart("fast")


def kill_another(scene: Scene, fired: Fired) -> None:
    """SIGKILL to the backend of somebody who has nothing to do with the load."""
    with psycopg.connect(scene.cluster.dsn, autocommit=True) as bystander:
        kill_backend(scene.cluster, bystander.info.backend_pid)
    until_ready(scene.dsn)


def terminate(scene: Scene, fired: Fired) -> None:
    """pg_terminate_backend, all of the load's."""
    terminate_backends(scene.dsn)


def at_rows(blow: Blow) -> Harm:
    """Before or after some message with rows."""

    def faults(scene: Scene) -> list[Fault]:
        async def call(fired: Fired) -> None:
            await asyncio.to_thread(blow, scene, fired)

        when = scene.rng.choice((When.BEFORE, When.AFTER))
        return [Fault(Kind.CALL, Trigger(ROWS, some_chunk(scene)), when, call=call)]

    return on_wire(faults)


def at_commit(blow: Blow) -> Harm:
    """Before, after or at once with some COMMIT."""

    def faults(scene: Scene) -> list[Fault]:
        async def call(fired: Fired) -> None:
            await asyncio.to_thread(blow, scene, fired)

        trigger = Trigger(COMMIT, some_commit(scene), since=ROWS)
        return scene.rng.choice(
            (
                [Fault(Kind.CALL, trigger, When.BEFORE, call=call)],
                [Fault(Kind.CALL, trigger, When.AFTER, call=call)],
                [cut_commit_after(trigger.nth, since=ROWS, call=call)],
            )
        )

    return on_wire(faults)


def killed_in_commit(blow: Blow) -> Harm:
    """The server dies between a COMMIT and its answer; others take transaction ids all the while.

    Three moments: the COMMIT was done; it was not even read (the backend had been stopped), so
    that its id is handed out again; or who knows.
    """

    @asynccontextmanager
    async def harm(scene: Scene) -> AsyncIterator[None]:
        nth, moment = some_commit(scene), scene.rng.choice(("done", "unread", "unread", "blind"))
        walwriter = server_process(scene.dsn, "walwriter")
        ids: list[int] = []

        async def stop(fired: Fired) -> None:
            ids.append(await asyncio.to_thread(_stop_backend, scene, fired.backend_pid))

        def kill(fired: Fired) -> None:
            # Stopped so far, so that ids stay unflushed; it has to see that the others die.
            os.kill(walwriter, signal.SIGCONT)
            blow(scene, fired)
            if ids:
                _take_again(scene, ids[0])

        async def call(fired: Fired) -> None:
            await asyncio.to_thread(kill, fired)

        if moment == "done":
            scene.proxy.arm(cut_commit_after(nth, since=ROWS, call=call))
        else:
            if moment == "unread":
                trigger = Trigger(COMMIT, nth, since=ROWS)
                scene.proxy.arm(Fault(Kind.CALL, trigger, When.BEFORE, call=stop))
            scene.proxy.arm(cut_commit_blind(nth, since=ROWS, call=call))
        with stopped(walwriter), consume_xids_in_background(scene.dsn):
            yield

    return harm


def _stop_backend(scene: Scene, pid: int) -> int:
    """SIGSTOP it; return its transaction's id, as far as 32 bits go."""
    ((xid,),) = query(
        scene.dsn, f"SELECT backend_xid::text::int8 FROM pg_stat_activity WHERE pid = {pid}"
    )
    os.kill(pid, signal.SIGSTOP)
    return int(xid)


def _take_again(scene: Scene, xid: int) -> None:
    """Have others use a lost id too; note where the status of ours then says "committed"."""
    following = burn_transaction_ids(scene.dsn, 1)
    burn_transaction_ids(scene.dsn, max(1, xid - following + 20))
    ((status,),) = query(scene.dsn, f"SELECT pg_xact_status('{xid}')")
    scene.tally.ids_reused += status == "committed"


def stopped_until_fenced(trigger: Callable[[Scene], Trigger]) -> Harm:
    """SIGSTOP to a backend that has a message unread: it neither reads nor dies. The watchdog has
    to cut the connection, and the fence to end the backend, which takes its SIGTERM only once it
    runs again.
    """

    @asynccontextmanager
    async def harm(scene: Scene) -> AsyncIterator[None]:
        pids = _stop_at(scene, trigger(scene))
        waking = asyncio.create_task(_wake_once_fenced(scene, pids))
        try:
            yield
        finally:
            await waking

    return harm


def _stop_at(scene: Scene, trigger: Trigger) -> list[int]:
    """Stop the backend that the message is for; its pid is in the list then."""
    pids: list[int] = []

    async def stop(fired: Fired) -> None:
        os.kill(fired.backend_pid, signal.SIGSTOP)
        pids.append(fired.backend_pid)

    scene.proxy.arm(Fault(Kind.CALL, trigger, When.BEFORE, call=stop))
    return pids


async def _wake_once_fenced(scene: Scene, pids: list[int]) -> None:
    await scene.proxy.until_fired(limit_s=40)
    try:
        being_ended = asyncio.to_thread(
            until, "it is being ended", partial(_being_ended, scene.dsn)
        )
        await asyncio.wait_for(being_ended, _ENOUGH_TO_FENCE_S)
    except TimeoutError:
        return  # it was stopped while it held a lock that every other session needs
    finally:
        os.kill(pids[0], signal.SIGCONT)


def _being_ended(dsn: str) -> bool:
    """Whether somebody waits in pg_terminate_backend."""
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'BackendTermination'"
    return bool(query(dsn, waiting))


@asynccontextmanager
async def stopped_for_good(scene: Scene) -> AsyncIterator[None]:
    """SIGSTOP to a backend at its COMMIT; it runs on only when the load has ended. Until then
    nobody can say whether it will commit.
    """
    pids = _stop_at(scene, Trigger(COMMIT, some_commit(scene), since=ROWS))
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
            await asyncio.to_thread(until, "it has ended", partial(_has_ended, pid))


def _has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def refused(sqlstate: str = "") -> Harm:
    """All connections are cut, and some of the next turned down."""

    def faults(scene: Scene) -> list[Fault]:
        async def call(fired: Fired) -> None:
            scene.proxy.refuse(scene.rng.randint(3, 8), sqlstate=sqlstate)

        trigger = Trigger(ROWS, some_chunk(scene))
        return [Fault(Kind.CUT, trigger, everywhere=True, call=call)]

    return on_wire(faults)


def _killed(name: str, blow: Blow, exactly_once: str) -> Case:
    return Case(
        f"kill -9 of {name} in COMMIT, {exactly_once}",
        killed_in_commit(blow),
        {"keyed": False, "exactly_once": exactly_once},
        runs=3,
        lost_commit=True,
        killed=True,
        **OWN,
    )


CASES = (
    *(
        _killed(name, blow, exactly_once)
        for name, blow in (("the postmaster", kill_server), ("a backend", kill_one))
        for exactly_once in ("ledger", "status")
    ),
    Case("kill -9 of the postmaster", at_rows(kill_server), **OWN),
    Case("kill -9 of a backend", at_rows(kill_one), **OWN),
    Case("immediate stop and start", at_rows(restart), **OWN),
    Case("immediate stop and start in COMMIT", at_commit(restart), lost_commit=True, **OWN),
    Case("restart in order", at_rows(restart_in_order), **OWN),
    Case(
        "kill -9 of another's backend in COMMIT",
        at_commit(kill_another),
        lost_commit=True,
        **OWN,
    ),
    Case("pg_terminate_backend", at_rows(terminate), runs=3),
    Case("pg_terminate_backend in COMMIT", at_commit(terminate), runs=3, lost_commit=True),
    Case(
        "backend stopped (SIGSTOP) among rows",
        stopped_until_fenced(lambda scene: Trigger(ROWS, some_chunk(scene))),
        STOPPED,
    ),
    Case(
        "backend stopped (SIGSTOP) in COMMIT",
        stopped_until_fenced(lambda scene: Trigger(COMMIT, some_commit(scene), since=ROWS)),
        STOPPED,
        lost_commit=True,
    ),
    Case(
        "backend stopped (SIGSTOP) to the end",
        stopped_for_good,
        {**STOPPED, "wait_limit_s": 2.0},
        runs=1,
        must_finish=never,
        unknown=always,
        lost_commit=True,
    ),
    Case("connections refused for a while", refused(), runs=2),
    Case("too many connections (53300)", refused("53300"), runs=2),
)
