"""Sends payloads at a chosen rate, whatever the answers take: nobody's clients wait for each other.

httpx and an event loop are enough for that; locust would bring gevent and web pages of its own, and
its users each wait for an answer before they send again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from examples.health_export.payloads import Payload

_ANSWER_LIMIT_S = 60.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A payload that was sent. seconds: from when it was due to its answer. answer: None without
    one; status: of HTTP, 0 where there was none.
    """

    payload: Payload
    seconds: float
    status: int
    answer: dict[str, Any] | None


async def send(url: str, payloads: Sequence[Payload], rate_per_s: float) -> list[Sent]:
    """One every 1 / `rate_per_s` seconds."""
    started_s = time.monotonic()
    limits = httpx.Limits(max_connections=None)
    async with (
        httpx.AsyncClient(base_url=url, timeout=_ANSWER_LIMIT_S, limits=limits) as client,
        asyncio.TaskGroup() as tasks,
    ):
        sending = [
            tasks.create_task(_send(client, payload, started_s + number / rate_per_s))
            for number, payload in enumerate(payloads)
        ]
    return [task.result() for task in sending]


async def _send(client: httpx.AsyncClient, payload: Payload, due_s: float) -> Sent:
    await asyncio.sleep(due_s - time.monotonic())
    try:
        answered = await client.post("/payloads", content=payload.body)
        status, answer = answered.status_code, answered.json()
    except httpx.HTTPError:
        status, answer = 0, None
    return Sent(payload, time.monotonic() - due_s, status, answer)
