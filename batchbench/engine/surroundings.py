"""What all writers of a load share, and how one gets its connection back."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from batchbench.drivers import Session
from batchbench.drivers.connector import Connector
from batchbench.engine.accounts import Accounts
from batchbench.engine.gate import Gate
from batchbench.engine.orphans import Orphans
from batchbench.engine.plan import LoadPlan
from batchbench.engine.turns import Turns
from batchbench.errors import ServerError
from batchbench.events import Listener
from batchbench.ledger import Ledger
from batchbench.retry import RetryPolicy, retry_policy


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all writers of a load share. ledger: None where there is none. backends: the pid of
    the one that serves each writer now, "" where that cannot be told.
    """

    plan: LoadPlan
    connector: Connector
    load_id: str
    accounts: Accounts
    emit: Listener
    ledger: Ledger | None
    epoch: int
    gate: Gate
    backends: dict[object, str]
    orphans: Orphans = field(default_factory=Orphans)
    turns: Turns = field(default_factory=Turns)
    rng: random.Random = field(default_factory=random.Random)

    @property
    def policy(self) -> RetryPolicy:
        """When to try again."""
        return retry_policy(self.plan.options.settings)

    @property
    def asks_status(self) -> bool:
        """Whether a transaction's status settles a lost COMMIT."""
        return self.ledger is None and self.plan.options.exactly_once in ("auto", "status")


async def reconnect(surroundings: Surroundings) -> Session:
    """A fresh connection, within a budget of its own that costs no retries.

    Raises ServerError where the budget is spent, or where trying again cannot help.
    """
    policy, attempt = surroundings.policy, 0
    deadline = time.monotonic() + policy.reconnect_s
    while True:
        try:
            return await surroundings.connector.open()
        except ServerError as error:
            attempt += 1
            delay_s = policy.delay_s(attempt, surroundings.rng)
            if error.lasting or time.monotonic() + delay_s > deadline:
                raise
            await asyncio.sleep(delay_s)
