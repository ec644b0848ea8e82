"""A writer of many producers whose server is killed: see tests/faults/producers.py."""

from __future__ import annotations

from batchbench.servers import Cluster
from tests.faults.producers import Plan, run, words


async def test_every_ticket_tells_the_truth(own_cluster: Cluster) -> None:
    plan = Plan(producers=16, rows_per_s=100, seconds=2.0)
    tally = await run(own_cluster, plan)
    print(words(plan, tally))
    assert tally.faults == []
    assert tally.tickets == 16 * 20
    assert tally.rejected > 0
