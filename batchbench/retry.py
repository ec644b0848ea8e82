"""When to try again: exponential backoff with full jitter."""

from __future__ import annotations

import random
from dataclasses import dataclass

from batchbench.config import Settings


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long.

    max_retries: after the first attempt. reconnect_s: what getting a connection back may take in
    all, which costs no retries: three retries from 100 ms are over in 0.7 s, a restart is not.
    """

    max_retries: int
    initial_backoff_s: float
    max_backoff_s: float
    reconnect_s: float

    def delay_s(self, retry: int, rng: random.Random) -> float:
        """How long to wait before the `retry`-th retry, counted from 1.

        Source: "full jitter" of the AWS architecture blog: uniform from 0 to the exponential.
        """
        # 2 ** 62 is past any cap; more would overflow a float.
        ceiling = self.initial_backoff_s * float(2 ** min(retry - 1, 62))
        return rng.uniform(0.0, min(ceiling, self.max_backoff_s))


def retry_policy(settings: Settings) -> RetryPolicy:
    """The policy that BATCH_MAX_RETRIES and its neighbours describe."""
    return RetryPolicy(
        max_retries=settings.max_retries,
        initial_backoff_s=settings.initial_backoff_ms / 1e3,
        max_backoff_s=settings.max_backoff_ms / 1e3,
        reconnect_s=settings.reconnect_timeout_s,
    )
