"""Which of a load's keys are in the table before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

CHUNK_ROWS = 10_000
"""Rows a chunk, for every way that writes in chunks: a chunk of duplicates is a chunk of theirs."""


@dataclass(frozen=True, slots=True)
class Duplicates:
    """condition: SQL over n, the row's number from 0, that tells the rows that are there."""

    name: str
    label: str
    condition: str


_SCATTERED = "abs(hashint8extended(n, 42) % 100) < {percent}"

DUPLICATES: Mapping[str, Duplicates] = {
    scenario.name: scenario
    for scenario in (
        Duplicates("none", "no duplicates", "false"),
        # In one chunk of twenty, one row of ten: the others of that chunk are new.
        Duplicates(
            "chunks",
            "duplicates in 5 % of the chunks",
            f"n / {CHUNK_ROWS} % 20 = 7 AND {_SCATTERED.format(percent=10)}",
        ),
        Duplicates("scattered1", "1 % scattered duplicates", _SCATTERED.format(percent=1)),
        Duplicates("scattered50", "50 % scattered duplicates", _SCATTERED.format(percent=50)),
        Duplicates("scattered100", "100 % duplicates", "true"),
    )
}
"""By name."""

NONE = DUPLICATES["none"]
