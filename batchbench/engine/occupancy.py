"""What is in flight, said to the listeners whenever it changes."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import count

from batchbench.engine.plan import LoadPlan
from batchbench.events import InFlight, Listener
from batchbench.memory import Budget


@dataclass(slots=True)
class Occupancy:
    """Whose rows wait, since when, and how many writers have a chunk in hand.

    Used on the event loop only.
    """

    load_id: str
    plan: LoadPlan
    budget: Budget
    emit: Listener
    _waiting: dict[int, float] = field(default_factory=dict)  # in the order in which they came
    _busy: int = 0
    _numbers: count[int] = field(default_factory=count)
    _table: str = field(init=False)  # "" where there are several

    def __post_init__(self) -> None:
        tables = {str(table_plan.table.name) for table_plan in self.plan.tables.values()}
        self._table = tables.pop() if len(tables) == 1 else ""

    def waits(self) -> int:
        """Rows have come; the number they get tells them apart."""
        number = next(self._numbers)
        self._waiting[number] = time.monotonic()
        self._say()
        return number

    def taken(self, number: int) -> None:
        """A writer has them in hand."""
        del self._waiting[number]
        self._busy += 1
        self._say()

    def done(self) -> None:
        """A writer has settled a chunk, and its bytes are given back."""
        self._busy -= 1
        self._say()

    def _say(self) -> None:
        self.emit(
            InFlight(
                load_id=self.load_id,
                table=self._table,
                held_bytes=self.budget.held_bytes,
                limit_bytes=self.budget.limit_bytes,
                waiting_since_s=next(iter(self._waiting.values()), None),
                busy=self._busy,
                writers=self.plan.options.writers,
            )
        )
