"""Other names for COPY: two for the same thing, one for a slowed one. For evidence only.

They are strategies of a third party, as anyone could install them, so that one sweep runs them side
by side like any others.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from batchbench.drivers import Session
from batchbench.strategies import Payload, Target, Written
from batchbench.strategies.copy import CopyPlan, CopyStrategy, StagedCopyPlan

SLOWED = 0.16
"""What `copy-slowed` waits after each chunk, of the time that it took to write: of a whole load,
with what is around its chunks, that is about a tenth."""


class CopyOne(CopyStrategy):
    """COPY."""

    name = "copy-one"


class CopyTwo(CopyStrategy):
    """The same."""

    name = "copy-two"


class SlowedCopyPlan(CopyPlan):
    """COPY whose writer holds up its chunks."""

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        started = time.perf_counter()
        written = await CopyPlan.write(self, session, payload, full=full, alone=alone)
        until = started + (1 + SLOWED) * (time.perf_counter() - started)
        while time.perf_counter() < until:  # a sleep of less than a millisecond would be one
            pass
        return written


class CopySlowed(CopyStrategy):
    """COPY straight into the table, slowed."""

    name = "copy-slowed"

    def plan(self, target: Target) -> CopyPlan | StagedCopyPlan:
        return SlowedCopyPlan(target)


_STRATEGIES = (CopyOne, CopyTwo, CopySlowed)


def install(folder: Path) -> None:
    """Make the names known to this process and to those that it starts, by a distribution of no
    more than its entry points in `folder`.
    """
    about = folder / "injected-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    points = [f"{one.name} = {one.__module__}:{one.__name__}" for one in _STRATEGIES]
    lines = ["[batchbench.strategies]", *points]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: injected\nVersion: 1\n")
    sys.path.append(str(folder.resolve()))
