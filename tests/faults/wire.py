"""Faults on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.faults.cases import Case, Harm, on_wire
from tests.faults.scene import Scene
from tests.proxy import (
    COMMIT,
    Fault,
    Fired,
    Kind,
    Passing,
    Side,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_before,
    cut_commit_blind,
    from_server,
)
from tests.proxy import ROWS as ANY_ROWS


def ROWS(passing: Passing) -> bool:
    """A client's message that carries rows of the load, none of the ledger's."""
    return ANY_ROWS(passing) and '"batchbench".' not in passing.query


IMPATIENT: dict[str, Any] = {"wait_limit_s": 2.0, "row_count": [200, 300]}
"""For what only the watchdog ends."""

WIDE: dict[str, Any] = {
    "wait_limit_s": 2.0,
    "filler_bytes": 40_000,
    "row_count": [200, 400],
    "chunk_rows": [50, 100],
}


def some_commit(scene: Scene) -> int:
    """Which COMMIT that carries rows."""
    return scene.rng.randint(1, scene.setup.commits)


def some_chunk(scene: Scene) -> int:
    """Which message with rows."""
    return scene.rng.randint(1, scene.setup.chunks)


def among_rows(kind: Kind, side: Side | None = None, **more: Any) -> Harm:
    """At some message with rows, before or after it was passed on."""

    def faults(scene: Scene) -> list[Fault]:
        when = scene.rng.choice((When.BEFORE, When.AFTER))
        return [Fault(kind, Trigger(ROWS, some_chunk(scene)), when, side, **more)]

    return on_wire(faults)


def at_any_message(scene: Scene) -> list[Fault]:
    """Of either side, from the first connection's log-in on."""
    rng, side = scene.rng, scene.rng.choice(list(Side))
    return [
        Fault(
            rng.choice((Kind.CUT, Kind.RESET, Kind.BLACK_HOLE)),
            Trigger(lambda p: p.message.side is side, rng.randint(1, 12 + 6 * scene.setup.chunks)),
            rng.choice((When.BEFORE, When.AFTER)),
        )
    ]


@asynccontextmanager
async def answer_to_the_question_lost_too(scene: Scene) -> AsyncIterator[None]:
    """A COMMIT's answer is lost, then twice what the server says of its fate."""

    async def arm(fired: Fired) -> None:
        scene.proxy.arm(Fault(Kind.CUT, Trigger(from_server("D")), times=2, every=2))

    scene.proxy.arm(cut_commit_after(some_commit(scene), since=ROWS, call=arm))
    yield


@asynccontextmanager
async def refused_after_a_lost_commit(scene: Scene) -> AsyncIterator[None]:
    """A COMMIT's answer is lost, then no connection is to be had for a while."""

    async def refuse(fired: Fired) -> None:
        scene.proxy.refuse(scene.rng.randint(1, 6))

    cut = scene.rng.choice((cut_commit_before, cut_commit_blind, cut_commit_after))
    scene.proxy.arm(cut(some_commit(scene), since=ROWS, call=refuse))
    yield


def black_hole_at_commit(when: When) -> Harm:
    """The COMMIT vanishes, or its answer does."""
    return on_wire(
        lambda s: [Fault(Kind.BLACK_HOLE, Trigger(COMMIT, some_commit(s), since=ROWS), when)]
    )


CASES = (
    Case(
        "cut before COMMIT",
        on_wire(lambda s: [cut_commit_before(some_commit(s), since=ROWS)]),
        runs=4,
        lost_commit=True,
    ),
    Case(
        "cut after COMMIT",
        on_wire(lambda s: [cut_commit_after(some_commit(s), since=ROWS)]),
        runs=5,
        lost_commit=True,
    ),
    Case(
        "cut in COMMIT",
        on_wire(lambda s: [cut_commit_blind(some_commit(s), since=ROWS)]),
        runs=5,
        lost_commit=True,
    ),
    Case(
        "cut in COMMIT, half-open",
        on_wire(lambda s: [cut_commit_blind(some_commit(s), since=ROWS, half_open=True)]),
        runs=4,
        lost_commit=True,
    ),
    Case(
        "cut after each third COMMIT",
        on_wire(lambda s: [cut_commit_after(1, since=ROWS, times=100, every=3)]),
        lost_commit=True,
    ),
    Case("cut among rows", among_rows(Kind.CUT), runs=3),
    Case("cut among rows, half-open", among_rows(Kind.CUT, Side.CLIENT), IMPATIENT),
    Case("the same chunk cut twice", among_rows(Kind.CUT, times=2), {"parallelism": 1}),
    Case("all connections cut", among_rows(Kind.CUT, everywhere=True)),
    Case("reset among rows", among_rows(Kind.RESET), runs=3),
    Case("half-closed by the client's side", among_rows(Kind.HALF_CLOSE, Side.CLIENT), IMPATIENT),
    Case("half-closed by the server's side", among_rows(Kind.HALF_CLOSE, Side.SERVER), IMPATIENT),
    Case("stalled among rows", among_rows(Kind.STALL), IMPATIENT),
    Case("black hole among rows", among_rows(Kind.BLACK_HOLE), IMPATIENT),
    Case(
        "black hole for the answers",
        among_rows(Kind.BLACK_HOLE, Side.SERVER),
        IMPATIENT,
    ),
    Case("stalled among wide rows", among_rows(Kind.STALL), WIDE, runs=1),
    Case("black hole among wide rows", among_rows(Kind.BLACK_HOLE), WIDE, runs=1),
    Case(
        "COMMIT into a black hole", black_hole_at_commit(When.BEFORE), IMPATIENT, lost_commit=True
    ),
    Case("black hole after COMMIT", black_hole_at_commit(When.AFTER), IMPATIENT, lost_commit=True),
    Case("COMMIT lost, its fate's answer too", answer_to_the_question_lost_too, lost_commit=True),
    Case("COMMIT lost, then refused", refused_after_a_lost_commit, lost_commit=True),
    Case(
        "any message",
        on_wire(at_any_message),
        {"wait_limit_s": 2.0},
        runs=5,
        may_miss=True,
        early=True,
    ),
)
