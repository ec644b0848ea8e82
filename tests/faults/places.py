"""A full disk, a pooler, a standby that is promoted and one that is absent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from batchbench.engine import LoadError
from batchbench.errors import WriteError
from tests.faults.cases import Case, make_table, never, note_fired, nothing, settle
from tests.faults.scene import Scene
from tests.faults.wire import ROWS, some_chunk, some_commit
from tests.fixtures.disks import open_small_disk
from tests.fixtures.faults import kill_postmaster, until
from tests.fixtures.pgbouncer import open_pgbouncer
from tests.fixtures.replication import (
    absent_synchronous_standby,
    open_replicated,
    waiting_for_standby,
)
from tests.proxy import (
    COMMIT,
    Fault,
    Fired,
    Kind,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_blind,
    open_proxy,
)

_DISK_BYTES = 24 << 20
_ROWS_OF_A_DISK = 10_800  # 18 MB are free at first, these need 20


async def full_disk(case: Case, scene: Scene) -> None:
    """53100 stops the load, with what to do; once there is room, it resumes."""
    with open_small_disk(scene.cluster, _DISK_BYTES) as disk:
        scene.dsn = disk.dsn
        make_table(case, scene)
        outcome = await scene.load(scene.dsn)
        cause = outcome.error.cause if isinstance(outcome.error, LoadError) else outcome.error
        full = isinstance(cause, WriteError) and cause.sqlstate == "53100"
        scene.claim(full, f"the disk was not full: {cause!r}")
        note_fired(case, scene, int(full))
        await asyncio.to_thread(disk.make_room)
        await settle(case, scene, outcome)


async def pooled(case: Case, scene: Scene) -> None:
    """Through PgBouncer: all writers share one server connection, transaction by transaction.

    The proxy stands before it: what is cut is the way to the pooler.
    """
    make_table(case, scene)
    faults: tuple[list[Fault], ...] = (
        [],
        [Fault(Kind.CUT, Trigger(ROWS, some_chunk(scene)))],
        [cut_commit_after(some_commit(scene), since=ROWS)],
        [cut_commit_blind(some_commit(scene), since=ROWS)],
    )
    with open_pgbouncer(scene.dsn) as bouncer:
        async with open_proxy(bouncer.dsn, *scene.rng.choice(faults)) as proxy:
            scene.proxy = proxy
            outcome = await scene.load(proxy.dsn)
            lost = any(fired.fault.trigger.match is COMMIT for fired in proxy.fired)
            scene.tally.lost_commit |= lost
            note_fired(case, scene, 1)
        await settle(case, scene, outcome)


async def promoted(case: Case, scene: Scene) -> None:
    """The primary dies with commits that the standby never got; the standby takes over.

    The load has to say which acknowledged rows are gone, and to write them when resumed.
    """
    detached = asyncio.Event()
    detach_at = scene.rng.randint(1, scene.setup.commits - 2)
    kill_at = scene.rng.randint(detach_at + 1, scene.setup.commits - 1)
    with open_replicated(scene.setup.version) as pair:
        scene.cluster, scene.dsn = pair.primary, pair.primary.dsn
        make_table(case, scene)

        async def detach(fired: Fired) -> None:
            await asyncio.to_thread(pair.until_caught_up)
            await asyncio.to_thread(pair.detach)
            detached.set()

        async def fail_over(fired: Fired) -> None:
            await detached.wait()
            await asyncio.to_thread(kill_postmaster, pair.primary, at_once=True)
            await asyncio.to_thread(pair.promote)
            scene.proxy.lead_to(pair.standby.dsn)

        faults = (
            Fault(Kind.CALL, Trigger(COMMIT, detach_at, since=ROWS), When.BEFORE, call=detach),
            cut_commit_after(kill_at, since=ROWS, call=fail_over),
        )
        async with open_proxy(scene.dsn, *faults, tolerate_outages=True) as proxy:
            scene.proxy = proxy
            outcome = await scene.load(proxy.dsn)
            note_fired(case, scene, len(proxy.fired))
        scene.claim(scene.tally.fired == 2, "the fault never happened")
        scene.cluster, scene.dsn = pair.standby, pair.standby.dsn
        scene.claim(not outcome.finished, "commits are missing, and the load says nothing")
        await settle(case, scene, outcome)


@asynccontextmanager
async def standby_goes_away(scene: Scene) -> AsyncIterator[None]:
    """Some COMMIT waits for a synchronous standby that is not there; later ones need none.

    The watchdog cuts the connection, the fence ends the wait: the rows are committed here.
    """
    stack = ExitStack()

    async def go_away(fired: Fired) -> None:
        await asyncio.to_thread(stack.enter_context, absent_synchronous_standby(scene.cluster))

    def reset_once_met() -> None:
        until("a COMMIT waits", lambda: bool(waiting_for_standby(scene.cluster)), 40)
        until("none waits any more", lambda: not waiting_for_standby(scene.cluster), 40)
        stack.close()

    trigger = Trigger(COMMIT, some_commit(scene), since=ROWS)
    scene.proxy.arm(Fault(Kind.CALL, trigger, When.BEFORE, call=go_away))
    watching = asyncio.create_task(_after_fault(scene, reset_once_met))
    try:
        yield
    finally:
        await watching
        stack.close()


async def _after_fault(scene: Scene, then: Any) -> None:
    await scene.proxy.until_fired(limit_s=40)
    await asyncio.to_thread(then)


CASES = (
    Case(
        "full disk, then room",
        nothing,
        {
            "version": "pg18",
            "row_count": _ROWS_OF_A_DISK,
            "chunk_rows": 200,
            "filler_bytes": 1_800,
            "parallelism": [1, 2],
            "transaction": ["chunk", 3],
            "keyed": False,
            "exactly_once": "ledger",
        },
        runs=1,
        play=full_disk,
        must_finish=never,
    ),
    Case("PgBouncer, one server connection", nothing, runs=3, play=pooled),
    Case(
        "standby promoted, commits missing",
        nothing,
        {
            "exactly_once": "ledger",
            "transaction": "chunk",
            "keyed": False,
            "parallelism": 1,
        },
        runs=1,
        play=promoted,
        must_finish=never,
        lost_commit=True,
    ),
    Case(
        "absent synchronous standby",
        standby_goes_away,
        {"wait_limit_s": 2.0, "row_count": 200},
        runs=2,
        own_server=True,
        unknown=never,
        lost_commit=True,
    ),
)
