"""Play cases, seed by seed."""

from __future__ import annotations

import asyncio
import random
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.arena import Arena, database
from tests.faults.cases import Case, play
from tests.faults.scene import Scene, Tally
from tests.faults.setup import Setup, draw

RUN_LIMIT_S = 150.0


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a case, to be repeated by its seed and number."""

    case: Case
    seed: int
    number: int
    setup: Setup
    tally: Tally

    @property
    def name(self) -> str:
        """What to give to --only, --seeds and --number to see it again."""
        return f"{self.case.name!r} seed {self.seed} number {self.number}"


def run_case(arena: Arena, case: Case, seed: int, number: int) -> Run:
    """Play a case once; what goes wrong is in the tally."""
    rng = random.Random(f"{seed}/{case.name}/{number}")
    setup = draw(rng, **case.fixed)
    cluster = arena.cluster(setup.version, own=case.own_server)
    with (
        database(cluster) as dsn,
        tempfile.TemporaryDirectory(prefix="batchbench-faults-") as folder,
    ):
        scene = Scene(setup, cluster, dsn, Path(folder), rng)
        asyncio.run(_play(case, scene))
    return Run(case, seed, number, setup, scene.tally)


async def _play(case: Case, scene: Scene) -> None:
    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        scene.problem(f"left to the event loop: {context['message']}: {error!r}")

    asyncio.get_running_loop().set_exception_handler(note)
    try:
        async with asyncio.timeout(RUN_LIMIT_S):
            await (case.play or play)(case, scene)
    except TimeoutError:
        scene.problem(f"the run did not end within {RUN_LIMIT_S:.0f} s")
    except Exception as error:  # noqa: BLE001 - one broken run must not hide the others
        scene.problem(f"the run itself failed: {error!r}")
