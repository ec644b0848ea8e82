"""How far a quantile of latencies can be trusted, where neighbours share their fate.

Rows that one flush writes wait for the same commit, and a stall meets many flushes: counted as if
they were independent, they promise too much. So the pieces of time that they came in are resampled.
Source: Efron, Tibshirani (1993), the percentile bootstrap; Kuensch (1989), of blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from batchbench.stats.histogram import Histogram

FEWEST_PIECES = 8

_RESAMPLES = 1_000


def quantile_interval(pieces: Sequence[Histogram], share: float) -> tuple[float, float] | None:
    """The 95 % interval, to 1 %, of what `Histogram.quantile` says of all pieces together.

    pieces: of about the same length of time, each much longer than what neighbours share. None
    under eight of them. The same for the same pieces.
    """
    if len(pieces) < FEWEST_PIECES:
        return None
    buckets = sorted({bucket for piece in pieces for bucket in piece.counts})
    counts = np.array([[piece.counts.get(bucket, 0) for bucket in buckets] for piece in pieces])
    even = np.full(len(pieces), 1 / len(pieces))
    times = np.random.default_rng(1).multinomial(len(pieces), even, size=_RESAMPLES)
    seen = np.cumsum(times @ counts, axis=1)
    found = np.argmax(seen >= share * seen[:, -1:], axis=1)
    low, high = np.quantile(found, (0.025, 0.975), method="closest_observation")
    max_s = max(piece.max_s for piece in pieces)
    shortest, longest = (Histogram({buckets[at]: 1}, max_s) for at in (int(low), int(high)))
    return shortest.quantile(share), longest.quantile(share)
