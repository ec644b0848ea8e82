"""Optimistic COPY: straight into the table, and around the conflict only for chunks that meet one.

The index decides, so no row is doubled: a chunk that fails with 23505 is rolled back to a
savepoint and goes through the temporary table, where ON CONFLICT names its target. Where most
chunks fail, trying costs time and leaves dead rows behind, so it is tried less and less.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from batchbench.drivers import Session
from batchbench.errors import WriteError
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.strategies import ChunkPlan, Columns, Payload, Target, Written
from batchbench.strategies.copy import CopyPlan, StagedCopyPlan

_SAVEPOINT = "batchbench_optimistic"
_UNIQUE_VIOLATION = "23505"
_DEADLOCK = "40P01"
_LONGEST_PAUSE = 64


class OptimisticStrategy:
    """COPY t (...) FROM STDIN; on 23505 the chunk again, through a temporary table."""

    name = "optimistic"

    def use(self, column_count: int) -> ParameterUse:
        return COPY_USE

    def plan(self, target: Target) -> ChunkPlan:
        if target.key is None:
            return CopyPlan(target)
        return OptimisticPlan(CopyPlan(target), StagedCopyPlan(target))


@dataclass(slots=True)
class Luck:
    """Whether to try. After each failure the pause before the next try grows fourfold, up to 64
    chunks; a success ends it. So even where every chunk fails, one in 65 pays for a try.
    """

    pause: int = 0
    left: int = 0

    def try_it(self) -> bool:
        """Whether to try this chunk; counts the pause down."""
        if self.left:
            self.left -= 1
            return False
        return True

    def learn(self, *, worked: bool) -> None:
        """Take the outcome of a try."""
        self.pause = 0 if worked else min(max(1, self.pause * 4), _LONGEST_PAUSE)
        self.left = self.pause


@dataclass(frozen=True, slots=True)
class OptimisticPlan:
    """See `batchbench.strategies.ChunkPlan`. What is stored does not depend on `luck`."""

    direct: CopyPlan
    staged: StagedCopyPlan
    luck: Luck = field(default_factory=Luck, compare=False)

    @property
    def use(self) -> ParameterUse:
        return COPY_USE

    @property
    def guard(self) -> str:
        return self.direct.guard

    async def prepare(self, session: Session) -> None:
        await self.staged.prepare(session)

    def encode(self, columns: Columns) -> Payload:
        return self.direct.encode(columns)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        if not self.luck.try_it():
            return await self.staged.write(session, payload, full=full, alone=alone)
        await session.run(f"SAVEPOINT {_SAVEPOINT}")
        try:
            written = await self.direct.write(session, payload, full=full, alone=alone)
        except WriteError as error:
            if error.sqlstate == _DEADLOCK:  # the next try is in the order of the keys
                self.luck.learn(worked=False)
            if error.sqlstate != _UNIQUE_VIOLATION:
                raise
            self.luck.learn(worked=False)
            await session.run(f"ROLLBACK TO {_SAVEPOINT}; RELEASE SAVEPOINT {_SAVEPOINT}")
            return await self.staged.write(session, payload, full=full, alone=alone)
        await session.run(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        self.luck.learn(worked=True)
        return written
