"""What a case is: a fault, the setups that it is drawn with, and what may come of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tests.faults.invariants import Expected, ledger_rows, stored_rows
from tests.faults.scene import Outcome, Scene
from tests.faults.setup import Setup
from tests.proxy import Fault, open_proxy

Harm: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]
Play: TypeAlias = Callable[["Case", Scene], Awaitable[None]]


def never(setup: Setup) -> bool:
    """For no setup."""
    return False


def always(setup: Setup) -> bool:
    """For every setup."""
    return True


def unless_batch(setup: Setup) -> bool:
    """For all that can write a failed transaction again."""
    return setup.transaction != "batch"


def without_ledger(setup: Setup) -> bool:
    """Where PostgreSQL itself may not be able to tell."""
    return setup.exactly_once != "ledger"


def no_more(scene: Scene) -> str:
    """No statements beside the table's own."""
    return ""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault.

    harm: a context in which the load runs; it arms the proxy or hurts the server.
    fixed: fields of the setup, each a value or a list to choose from.
    own_server: it is hurt, so nobody else's. must_finish: the load has to recover by itself.
    unknown: rows of unknown fate are allowed. runs: a seed's. sample: of `make test`.
    may_miss: the fault may come too late to happen. play: how a run goes.
    lost_commit: it loses the answer of a COMMIT. killed: by a kill -9 of the server.
    early: it may come before the first row; then nothing was sent, and they say so.
    prepare: statements to run once the table is there. expected: what its rows come to.
    """

    name: str
    harm: Harm
    fixed: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 2
    own_server: bool = False
    must_finish: Callable[[Setup], bool] = unless_batch
    unknown: Callable[[Setup], bool] = never
    may_miss: bool = False
    sample: bool = True
    play: Play | None = None
    lost_commit: bool = False
    killed: bool = False
    early: bool = False
    prepare: Callable[[Scene], str] = no_more
    expected: Callable[[Setup], Expected] = Expected.of


def on_wire(faults: Callable[[Scene], list[Fault]]) -> Harm:
    """Arm the proxy with these."""

    @asynccontextmanager
    async def harm(scene: Scene) -> AsyncIterator[None]:
        scene.proxy.arm(*faults(scene))
        yield

    return harm


def make_table(case: Case, scene: Scene) -> None:
    """Make the table, and what the case adds to it."""
    scene.sql(scene.setup.ddl())
    if statements := case.prepare(scene):
        scene.sql(statements)


def note_fired(case: Case, scene: Scene, fired: int) -> None:
    """Note faults that happened, and what they were."""
    scene.tally.fired += fired
    scene.tally.lost_commit |= case.lost_commit and fired > 0
    scene.tally.killed |= case.killed and fired > 0


@asynccontextmanager
async def nothing(scene: Scene) -> AsyncIterator[None]:
    """No harm: what the table does is enough, or the case's own play."""
    scene.tally.fired += 1
    yield


async def play(case: Case, scene: Scene) -> None:
    """Load through the proxy under the fault; judge; then resume what was stopped, and judge."""
    make_table(case, scene)
    async with open_proxy(scene.dsn, tolerate_outages=True) as proxy:
        scene.proxy = proxy
        async with case.harm(scene):
            outcome = await scene.load(scene.dsn_of_load(proxy.dsn))
        note_fired(case, scene, len(proxy.fired))
        proxy.disarm()
        proxy.release()
    scene.claim(case.may_miss or scene.tally.fired > 0, "the fault never happened")
    await settle(case, scene, outcome)


async def settle(case: Case, scene: Scene, outcome: Outcome) -> None:
    """Judge an outcome; where the load was stopped and has a ledger, resume it and judge again."""
    setup = scene.setup
    nothing_sent = case.early and outcome.result is None and not outcome.stuck
    if not outcome.finished and case.must_finish(setup) and not nothing_sent:
        scene.problem(f"it did not recover: {outcome.error}")
    scene.judge(
        outcome, expected=case.expected(setup), unknown_allowed=case.unknown(setup), final=False
    )
    if outcome.finished or outcome.stuck or outcome.result is None:
        return
    if setup.exactly_once == "ledger":
        await resume(case, scene)


async def resume(case: Case, scene: Scene) -> None:
    """Go on with the load, without a fault: everything has to be there exactly once."""
    settled = ledger_rows(scene.dsn, scene.load_id)
    there = {row[0] for row in stored_rows(scene.dsn)}
    scene.claim(there <= settled, f"stored, not in the ledger: {sorted(there - settled)[:5]}")
    outcome = await scene.load(scene.dsn_of_load(scene.dsn), resume=scene.load_id)
    if not outcome.finished:
        scene.problem(f"it did not resume: {outcome.error}")
    scene.judge(outcome, expected=case.expected(scene.setup))
