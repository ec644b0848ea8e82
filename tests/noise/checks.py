"""What replays of the corpus show of the statistics: claims of nothing, coverage, power."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from batchbench.stats import Finding, Ratio, judge
from batchbench.stats.ratio import hodges_lehmann
from tests.noise.replay import Recording, Shape, replays, share

SAME = (("copy-1", "copy-2"), ("unnest-1", "unnest-2"))
OTHER = (("copy-1", "copy-more"), ("copy-1", "copy-10000"), ("unnest-1", "unnest-5000"))
SHAPES = (Shape(3, 10), Shape(6, 6), Shape(6, 10), Shape(10, 4))
RUNS = 2_000


@dataclass(frozen=True, slots=True)
class Check:
    """Of replays of two arms. claimed, covered: shares. smallest: the median of the smallest
    differences that they reported. found: of replays with just that difference put into them, None
    where the arms differ by themselves.
    """

    recording: str
    arms: str
    shape: Shape
    claimed: float
    covered: float
    smallest: float
    found: float | None


def check(recording: Recording, one: str, other: str, shape: Shape, runs: int = RUNS) -> Check:
    """Replay two arms. The truth is 1 of the same ones, else that of the whole recording."""
    logs, same = recording.logs(one, other), (one, other) in SAME
    truth = 0.0 if same else float(np.mean([hodges_lehmann(epoch) for epoch in logs]))
    ratios = replays(logs, shape, runs, swap=same)
    smallest = float(np.median([judge(ratio).smallest or np.inf for ratio in ratios]))
    found = None
    if same:
        added = float(np.log1p(smallest))
        found = share(replays(logs, shape, runs, swap=True, added=added, seed=2), is_claimed)
    return Check(
        recording.name,
        f"{one} against {other}",
        shape,
        share(ratios, is_claimed),
        share(ratios, lambda ratio: _covers(ratio, truth)),
        smallest,
        found,
    )


def is_claimed(ratio: Ratio) -> bool:
    """Whether a difference is claimed."""
    return judge(ratio).finding is Finding.DIFFERENT


def _covers(ratio: Ratio, truth: float) -> bool:
    return ratio.low is not None and ratio.low <= np.exp(truth) <= (ratio.high or 0.0)
