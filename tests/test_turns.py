"""Transactions side by side, and those that have to be alone."""

from __future__ import annotations

import asyncio

from batchbench.engine.turns import Turns


async def _settle() -> None:
    """Let every task run as far as it can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_that_is_alone_waits_for_all_and_holds_up_the_next() -> None:
    turns = Turns()
    await turns.enter(alone=False)
    await turns.enter(alone=False)
    alone = asyncio.create_task(turns.enter(alone=True))
    await _settle()
    late = asyncio.create_task(turns.enter(alone=False))
    await _settle()
    assert not alone.done()
    await turns.leave()
    await _settle()
    assert not alone.done()
    await turns.leave()
    await _settle()
    assert alone.done()
    assert not late.done()
    await turns.leave()
    await _settle()
    assert late.done()


async def test_one_that_gives_up_waiting_holds_nobody_up() -> None:
    turns = Turns()
    await turns.enter(alone=False)
    alone = asyncio.create_task(turns.enter(alone=True))
    await _settle()
    late = asyncio.create_task(turns.enter(alone=False))
    alone.cancel()
    await _settle()
    assert late.done()
