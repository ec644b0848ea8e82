"""Writers side by side whose chunks may share keys, without a deadlock.

A chunk in one statement locks its rows in the order of the key, so two of them wait for each other
at most. One that is written in parts, because of a row or of its size, locks them in no such order,
and neither do several chunks of one table in one transaction: that has to be alone.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field


@dataclass(slots=True)
class Turns:
    """Transactions under way. Used on the event loop only; who waits holds no locks yet."""

    _open: int = 0
    _alone: bool = False
    _waiting: int = 0  # to be alone: others let them go first
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def enter(self, *, alone: bool) -> None:
        """Wait for this transaction's turn."""
        async with self._changed:
            self._waiting += alone
            try:
                await self._changed.wait_for(lambda: self._may_enter(alone=alone))
            finally:
                self._waiting -= alone
                self._changed.notify_all()
            self._open += 1
            self._alone = alone

    def _may_enter(self, *, alone: bool) -> bool:
        return not self._open if alone else not (self._alone or self._waiting)

    async def leave(self) -> None:
        """The transaction has ended."""
        async with self._changed:
            self._open -= 1
            self._alone = False
            self._changed.notify_all()
