"""Optimistic COPY: straight into the table, and around the conflict only for chunks that meet one.

The index decides, so no row is doubled: a chunk that fails with 23505 is rolled back to a
savepoint. Then it is asked which keys are there (see `batchbench.strategies.probe`), or, where
that would not do, the chunk goes through the temporary table, where ON CONFLICT names its target.
Where many chunks meet a conflict, trying costs time and leaves dead rows behind, so it is only
tried as long as most of the latest ones met none.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto

from batchbench.drivers import Session
from batchbench.errors import WriteError
from batchbench.limits import COPY_USE, ParameterUse
from batchbench.strategies import ChunkPlan, Columns, Payload, Target, Written
from batchbench.strategies.copy import CopyPlan, CopyStrategy, StagedCopyPlan, copy_payload
from batchbench.strategies.neighbours import by_key
from batchbench.strategies.probe import (
    DirectOrStaged,
    ProbePlan,
    copy_or_none,
    unanswerable,
)

_DEADLOCK = "40P01"
_LONGEST_PAUSE = 64
_LIKELY = 0.55  # a try that fails costs about what asking costs, and dead rows besides


class OptimisticStrategy:
    """COPY t (...) FROM STDIN; on 23505 the chunk again, without the keys that are there."""

    name = "optimistic"

    def use(self, column_count: int) -> ParameterUse:
        return COPY_USE

    def plan(self, target: Target) -> ChunkPlan:
        if target.key is None or target.by_input:
            return CopyStrategy().plan(target)
        direct, staged = CopyPlan(target), StagedCopyPlan(target)
        asks = unanswerable(target, target.key) is None
        return OptimisticPlan(direct, staged, ProbePlan(direct, staged) if asks else None)


class Way(Enum):
    """How a chunk is written: straight, without the keys that are there, or by ON CONFLICT."""

    DIRECT = auto()
    PROBE = auto()
    STAGED = auto()


@dataclass(slots=True)
class Luck:
    """Which way to take next, by what the latest chunks met.

    Where it can be asked which keys are there, the answer also tells whether a try would have
    failed, so no tries are needed to learn that duplicates have ended. Where only ON CONFLICT can
    settle a chunk, the pause before the next try grows fourfold, up to 64 chunks; a success ends
    it. So even where every chunk fails, one in 65 pays for a try.

    clean: the share of the latest chunks that met no key that was there.
    """

    clean: float = 1.0
    pause: int = 0
    left: int = 0

    def choose(self) -> Way:
        """The way of this chunk; counts the pause down."""
        if self.left:
            self.left -= 1
            return Way.STAGED
        return Way.DIRECT if self.clean > _LIKELY else Way.PROBE

    def met(self, *, conflict: bool) -> None:
        """Take whether a chunk had keys that were there."""
        self.clean = self.clean / 2 if conflict else self.clean + (1 - self.clean) / 4

    def settled(self, *, by_index: bool) -> None:
        """Take whether a way other than ON CONFLICT worked."""
        self.pause = 0 if by_index else min(max(1, self.pause * 4), _LONGEST_PAUSE)
        self.left = self.pause


@dataclass(frozen=True, slots=True)
class OptimisticPlan(DirectOrStaged):
    """See `batchbench.strategies.ChunkPlan`. What is stored does not depend on `luck`.

    probe: None where asking would not do.
    """

    probe: ProbePlan | None
    luck: Luck = field(default_factory=Luck, compare=False)

    def encode(self, columns: Columns) -> Payload:
        if self.probe is not None and self.luck.clean <= _LIKELY:
            return self.probe.encode(columns)
        columns = columns if self.luck.left else by_key(self.direct.target, columns)
        return replace(copy_payload(columns), columns=columns)

    async def write(
        self, session: Session, payload: Payload, *, full: bool, alone: bool
    ) -> Written:
        way = self.luck.choose()
        written: Written | None = None
        try:
            if way is Way.DIRECT:
                written = await copy_or_none(self.direct, session, payload, full=full, alone=alone)
            if written is None and way is not Way.STAGED and self.probe is not None:
                written = await self.probe.write_rest(
                    session, payload, full=full, alone=alone, refused=way is Way.DIRECT
                )
        except WriteError as error:
            if error.sqlstate == _DEADLOCK:  # the next try is in the order of the keys
                self.luck.settled(by_index=False)
            raise
        if way is not Way.STAGED:
            self.luck.settled(by_index=written is not None)
        if written is None:
            return await self.write_staged(session, payload, full=full, alone=alone)
        if self.probe is not None:
            self.luck.met(conflict=written.duplicates > 0)
        return written
