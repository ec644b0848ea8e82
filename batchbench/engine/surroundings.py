"""What all writers of a load share, and how one gets its connection back."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field

from batchbench.drivers import Session, within
from batchbench.drivers.connector import Connector
from batchbench.engine.accounts import Accounts
from batchbench.engine.fate import Backend, wait_event
from batchbench.engine.gate import Gate
from batchbench.engine.orphans import Orphans
from batchbench.engine.plan import LoadPlan
from batchbench.engine.turns import Turns
from batchbench.errors import BatchbenchError, ServerError
from batchbench.events import Listener, Notice
from batchbench.ledger import Ledger
from batchbench.retry import RetryPolicy, retry_policy

_SLOW_COMMIT_S = 5.0


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


async def tell_slow_commit(surroundings: Surroundings, backend: Backend | None) -> None:
    """Say what a COMMIT that takes long waits for: perhaps a synchronous standby that is not there.
    To be cancelled once it has ended.
    """
    await asyncio.sleep(min(_SLOW_COMMIT_S, surroundings.plan.options.wait_limit_s / 2))
    lent = surroundings.connector.session_limit is not None
    if lent or backend is None or not backend.pid:
        return
    try:
        session = await surroundings.connector.open()
        try:
            event = await within(session, _SLOW_COMMIT_S, wait_event(session, backend))
        finally:
            await session.close()
    except BatchbenchError:
        return
    surroundings.emit(Notice(f"a COMMIT is slow: its backend waits for {event}"))
