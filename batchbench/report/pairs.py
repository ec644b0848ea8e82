"""Differences between configurations, from trials of the same block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev

from batchbench.report.figures import change_text
from batchbench.report.groups import Block, Group
from batchbench.stats import Ratio, detectable, judge, pairs_needed, ratio_of_logs

_MOST_PAIRS = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """One against another. ratio: of speeds; low, high: 95% interval, None under 6 pairs.
    symbol: "+", "-", "~" (equivalent) or "??" (cannot tell).
    """

    ratio: float
    low: float | None
    high: float | None
    pairs: int
    symbol: str

    @property
    def text(self) -> str:
        """The change with its interval."""
        return change_text(self.ratio, self.low, self.high, self.pairs)


def difference(one: Group, other: Group) -> Difference | None:
    """`one` against `other`, over the blocks that have both; None where there is no such block."""
    return mean_difference([(one, other)])


def mean_difference(couples: Sequence[tuple[Group, Group]]) -> Difference | None:
    """The geometric mean over several tables, over the blocks in which all of them ran."""
    sides = [(one.logs(), other.logs()) for one, other in couples]
    blocks = common_blocks(logs for pair in sides for logs in pair)
    if not blocks:
        return None
    logs = [fmean(one[block] - other[block] for one, other in sides) for block in blocks]
    return as_difference(ratio_of_logs(logs, epochs=[epoch for epoch, _ in blocks]))


def as_difference(ratio: Ratio) -> Difference:
    """What may be said of a ratio."""
    sign = judge(ratio).sign
    return Difference(ratio.estimate, ratio.low, ratio.high, ratio.pairs, sign)


def common_blocks(sides: Iterable[Mapping[Block, float]]) -> list[Block]:
    """The blocks that all of them have, in order."""
    keys = [set(side) for side in sides]
    return sorted(set.intersection(*keys)) if keys else []


@dataclass(frozen=True, slots=True)
class Noise:
    """trial: standard deviation of log speeds within a block, about the share by which a trial
    differs from another of its kind; pair: of the log ratios that decide. epochs: in the run.
    """

    trial: float
    pair: float
    epochs: int

    def shows(self, pairs: int) -> float | None:
        """The smallest difference that so many pairs show nine times in ten, as a share."""
        return detectable(self.pair, pairs, self.epochs)

    def pairs_for(self, share: float) -> int:
        """Pairs that would show such a difference, 200 at the most."""
        # More pairs alone do not help against what few epochs have in common.
        return min(_MOST_PAIRS, pairs_needed(self.pair, share) or _MOST_PAIRS)


def noise(groups: Sequence[Group], chosen: Iterable[Group]) -> Noise | None:
    """The typical noise of a run. chosen: of each table, what the others are compared with.

    None where nothing was repeated.
    """
    trial, pair, epochs = [], [], set()
    for reference in chosen:
        others = [g for g in groups if g.table == reference.table and g.usable and g != reference]
        base = reference.logs()
        # What an adaptive run stopped soon has too few blocks, and would leave none in common.
        sides = [s for s in (g.logs() for g in others) if 2 * len(s.keys() & base) >= len(base)]
        blocks = common_blocks([base, *sides])
        if len(blocks) < 2 or not sides:
            continue
        epochs |= {epoch for epoch, _ in blocks}
        means = {block: fmean(side[block] for side in [base, *sides]) for block in blocks}
        trial += [stdev(side[block] - means[block] for block in blocks) for side in [base, *sides]]
        pair += [stdev(side[block] - base[block] for block in blocks) for side in sides]
    return Noise(median(trial), median(pair), len(epochs)) if trial else None
