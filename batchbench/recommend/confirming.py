"""What must hold for a recommendation to be confirmed, and whether fresh runs show it. Pure.

A sweep's best looks faster than it is, since luck helped to choose it. So what it recommends is
measured afresh, in pairs with all that could be better, and only those trials are judged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from statistics import fmean, median, stdev

from batchbench.recommend.ranking import RankingRow, Way, interval, speed
from batchbench.results import Run, TrialRecord
from batchbench.stats import FEWEST_PAIRS, Ratio, lower_bound, ratio_of_logs
from batchbench.stats.ratio import planned_error

TARGET = 0.95
"""Of the best: what the recommended configuration surely reaches where it is confirmed."""

REACH = 0.85
"""What is estimated at less than this share of the best is not measured again."""

FEWEST_RIVALS = 2
"""The next best are measured again even where they seem out of reach: few trials said so."""

MOST_RIVALS = 8
"""Of a claim: more would leave none with enough pairs."""

_ALPHA = 0.05
_MOST_EPOCHS = 200


@dataclass(frozen=True, slots=True)
class Finalist:
    """What is measured afresh. chunk_rows: as used."""

    table: str
    way: Way
    chunk_rows: int

    def __str__(self) -> str:
        return f"{self.table}, {self.way}, chunks of {self.chunk_rows:,}"


@dataclass(frozen=True, slots=True)
class Claim:
    """That `chosen` is within 5 % of the fastest, which is itself or one of the rivals.

    subject: a table; or "all tables", where way against way is told by the geometric mean. chosen,
    and each rival: one finalist a table, in the same order.
    """

    subject: str
    chosen: tuple[Finalist, ...]
    rivals: tuple[tuple[Finalist, ...], ...]


@dataclass(frozen=True, slots=True)
class ClaimVerdict:
    """What the fresh runs say of a claim.

    run_ids: of the fresh runs, () where there is none. figures: speeds of `chosen` in them.
    bound: what its ratio to the fastest is over, one-sided, with `confidence`; None under six
    pairs. ratio: to the rival that comes closest to refuting the claim, `against`; with a
    two-sided interval. fault: why the runs cannot say, "" where they can.
    more_pairs, more_s: what would decide if the estimates held; None where no number would.
    """

    claim: Claim
    run_ids: tuple[str, ...] = ()
    figures: str = ""
    pairs: int = 0
    confidence: float = 1 - _ALPHA
    bound: float | None = None
    ratio: Ratio | None = None
    against: str = ""
    fault: str = ""
    more_pairs: int | None = None
    more_s: float | None = None

    @property
    def confirmed(self) -> bool:
        """Whether it surely reaches `TARGET`."""
        return not self.fault and self.bound is not None and self.bound >= TARGET

    @property
    def sentence(self) -> str:
        """What may be said, of what."""
        return f"{self.claim.subject}: {self.says}"

    @property
    def says(self) -> str:
        """What may be said, and what would decide where nothing may."""
        if self.fault:
            return self.fault
        if self.bound is None:
            return f"only {_counted(self.pairs)} in the fresh run, {FEWEST_PAIRS} are the least"
        found = f"{self.bound:.3f} of the best at least, with {self.confidence:.3g} confidence"
        if self.confirmed:
            return f"confirmed, {found}; {self._seen}"
        return f"{found}, {TARGET:g} is needed; {self._seen}; {self._outlook}"

    @property
    def _seen(self) -> str:
        if self.ratio is None:
            return f"nothing else could be compared, {_counted(self.pairs)}"
        ratio = f"{self.ratio.estimate:.3f}{interval(self.ratio)}"
        return f"{ratio} of {self.against}, {_counted(self.pairs)}"

    @property
    def _outlook(self) -> str:
        if self.more_pairs is None or self.more_s is None:
            return "more pairs would not change that: recommend from the fresh run instead"
        time = f"{max(1, math.ceil(self.more_s / 60))} min"
        return f"about {self.more_pairs} more pairs, {time}, would decide if that holds"


def claims(
    rows: Sequence[RankingRow], chosen: Sequence[RankingRow], means: Mapping[Way, float]
) -> tuple[Claim, ...]:
    """What `chosen`, a row a table, claims. rows: all that could have been chosen, those too that
    an adaptive run stopped after a few trials. means: how good each way is over all tables.

    Where there is one table, every configuration within reach is a rival. Else one way serves all
    tables: its chunk sizes have those of the same way as rivals, table by table, and the way as a
    whole has the other ways with their best chunks.
    """
    if not chosen:
        return ()
    if len(chosen) == 1:
        return (_table_claim(rows, chosen[0], any_way=True),)
    of_tables = [_table_claim(rows, row, any_way=False) for row in chosen]
    way = chosen[0].way
    others = [w for w in sorted(means, key=lambda w: -means[w]) if w != way]
    bests = [(means[w], [_best(rows, row.table, w) for row in chosen]) for w in others]
    rivals = [
        (mean / means[way], tuple(finalist for finalist in found if finalist is not None))
        for mean, found in bests
        if None not in found
    ]
    every = Claim("all tables", tuple(finalist_of(row) for row in chosen), _worth(rivals))
    return (*of_tables, every)


def finalist_of(row: RankingRow) -> Finalist:
    """The same, to be measured afresh."""
    return Finalist(row.table, row.way, row.chunk_rows or row.chunk_sizes[0])


def _table_claim(rows: Iterable[RankingRow], chosen: RankingRow, *, any_way: bool) -> Claim:
    rivals = [
        ((row.ratio or 0.0) / (chosen.ratio or 1.0), (finalist_of(row),))
        for row in sorted(rows, key=lambda row: -(row.ratio or 0.0))
        if row.table == chosen.table and (any_way or row.way == chosen.way) and row != chosen
    ]
    return Claim(chosen.table, (finalist_of(chosen),), _worth(rivals))


def _worth(
    rivals: Sequence[tuple[float, tuple[Finalist, ...]]],
) -> tuple[tuple[Finalist, ...], ...]:
    """Which to measure, of those that come with their estimated share of the chosen, best first."""
    reached = sum(share >= REACH for share, _ in rivals)
    most = min(MOST_RIVALS, max(FEWEST_RIVALS, reached))
    return tuple(rival for _, rival in rivals[:most])


def _best(rows: Iterable[RankingRow], table: str, way: Way) -> Finalist | None:
    found = (row for row in rows if (row.table, row.way) == (table, way))
    first = next(found, None)
    return None if first is None else finalist_of(first)


def finalists(made: Iterable[Claim]) -> tuple[Finalist, ...]:
    """All that must run for these claims to be judged, each once."""
    found = (f for claim in made for side in (claim.chosen, *claim.rivals) for f in side)
    return tuple(dict.fromkeys(found))


# --- judging ------------------------------------------------------------------------------------

_Place = tuple[int, int, int]
"""Run, epoch and block: trials of one block ran next to each other."""


def judge_claims(made: Sequence[Claim], fresh: Sequence[Run]) -> tuple[ClaimVerdict, ...]:
    """A verdict for each claim. fresh: the confirmations, the first first.

    They are pooled. Each further one is a further look, so it has half of the error that the look
    before it had, and all looks together err in under twice 5 %.
    """
    found = _by_finalist(fresh)
    alpha = _ALPHA / 2 ** max(0, len(fresh) - 1)
    pace_s = _block_s(fresh)
    ids = tuple(run.info.run_id for run in fresh)
    return tuple(_judge(claim, found, ids, alpha, pace_s) for claim in made)


def _by_finalist(fresh: Iterable[Run]) -> dict[Finalist, list[tuple[int, TrialRecord]]]:
    found: dict[Finalist, list[tuple[int, TrialRecord]]] = {}
    for number, run in enumerate(fresh):
        for record in run.trials:
            way = Way.of(record)
            rows = record.chunk_rows or record.chunk_size
            finalist = Finalist(record.table, way, rows)
            found.setdefault(finalist, []).append((number, record))
    return found


def _judge(
    claim: Claim,
    found: Mapping[Finalist, Sequence[tuple[int, TrialRecord]]],
    run_ids: tuple[str, ...],
    alpha: float,
    pace_s: float,
) -> ClaimVerdict:
    fault = _fault(claim, found)
    if fault:
        return ClaimVerdict(claim, run_ids, fault=fault)
    own = [_logs(found[finalist]) for finalist in claim.chosen]
    sides = [(rival, _differences(own, [_logs(found[f]) for f in rival]))
             for rival in claim.rivals if _ran(rival, found)]  # fmt: skip
    figures = ", ".join(_figures(record for _, record in found[f]) for f in claim.chosen)
    pairs = min([len(logs) for _, logs in sides] or [len(set.intersection(*map(set, own)))])
    verdict = ClaimVerdict(claim, run_ids, figures, pairs, 1 - alpha)
    if pairs < FEWEST_PAIRS:
        return verdict
    # To be within 5 % of the fastest is to be within 5 % of each: the worst bound holds for all
    # of them together without a correction (an intersection-union test).
    ratios = [(_ratio(logs), rival) for rival, logs in sides]
    bounds = [(_bound(ratio, 1 - alpha), ratio, rival) for ratio, rival in ratios]
    if not bounds:
        return replace(verdict, bound=1.0)
    bound, worst, rival = min(bounds, key=lambda one: one[0])
    more = _more_pairs([ratio for ratio, _ in ratios], alpha)
    return replace(
        verdict,
        bound=min(1.0, bound),
        ratio=worst,
        against=_named(rival),
        more_pairs=more,
        more_s=None if more is None else more * pace_s,
    )


def ratio_between(run: Run, one: Sequence[Finalist], other: Sequence[Finalist]) -> Ratio | None:
    """Speed of one against the other, by the geometric mean over tables where there are several;
    None where no block has all of them. Both: a finalist a table, in the same order.
    """
    found = _by_finalist([run])
    sides = [[_logs(found.get(finalist, ())) for finalist in side] for side in (one, other)]
    logs = _differences(*sides)
    return _ratio(logs) if logs else None


def _fault(claim: Claim, found: Mapping[Finalist, Sequence[tuple[int, TrialRecord]]]) -> str:
    for finalist in claim.chosen:
        if finalist not in found:
            return "no fresh run has confirmed the choice"
        bad = [record for _, record in found[finalist] if not record.usable]
        if bad:
            return f"the choice failed in the fresh run ({bad[0].reason or 'rows were missing'})"
    missing = [f for rival in claim.rivals for f in rival if f not in found]
    if missing:
        return f"the fresh run lacks {missing[0]}; it was made for another choice"
    return ""


def _ran(
    rival: Iterable[Finalist], found: Mapping[Finalist, Sequence[tuple[int, TrialRecord]]]
) -> bool:
    """Whether all trials of a rival ended well: what fails is no rival."""
    return all(record.usable for finalist in rival for _, record in found[finalist])


def _logs(records: Iterable[tuple[int, TrialRecord]]) -> dict[_Place, float]:
    """Log speed in every block."""
    return {
        (number, record.epoch, record.block): math.log(record.rows_per_s)
        for number, record in records
        if record.rows_per_s
    }


def _differences(
    own: Sequence[Mapping[_Place, float]], rival: Sequence[Mapping[_Place, float]]
) -> dict[_Place, float]:
    """Mean over the tables, in every block that has all."""
    shared = set.intersection(*(set(side) for side in (*own, *rival)))
    return {
        place: fmean(one[place] - other[place] for one, other in zip(own, rival, strict=True))
        for place in sorted(shared)
    }


def _ratio(logs: Mapping[_Place, float]) -> Ratio:
    return ratio_of_logs(list(logs.values()), epochs=[place[:2] for place in logs])


def _bound(ratio: Ratio, confidence: float) -> float:
    bound = lower_bound(ratio, confidence)
    return 0.0 if bound is None else bound


def _more_pairs(ratios: Sequence[Ratio], alpha: float) -> int | None:
    """How many another look would need besides those that are there; None where none would do."""
    most = 0
    for ratio in ratios:
        each = max(1, ratio.pairs // ratio.epochs)
        enough = (e for e in range(ratio.epochs + 1, _MOST_EPOCHS) if _decides(ratio, e, alpha / 2))
        epochs = next(enough, None)
        if epochs is None:
            return None
        most = max(most, (epochs - ratio.epochs) * each)
    return most


def _decides(ratio: Ratio, epochs: int, alpha: float) -> bool:
    """Whether so many epochs, each with as many pairs as now, would confirm this estimate."""
    pairs = ratio.pairs * epochs // ratio.epochs
    error, degrees = planned_error(ratio.sd or 0.0, pairs, epochs)
    planned = Ratio(
        *(ratio.estimate, None, None, pairs, epochs, 1 - alpha, error, ratio.sd, degrees)
    )
    return _bound(planned, 1 - alpha) >= TARGET


def _block_s(fresh: Sequence[Run]) -> float:
    """About how long a block takes, without what is between epochs."""
    gaps = []
    for run in fresh:
        times = [datetime.fromisoformat(record.started_at) for record in run.records]
        gaps += [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    loads = len(fresh[0].info.plan.get("configurations", ())) if fresh else 0
    tables = len({record.table for run in fresh for record in run.trials})
    return median(gaps) * (loads + tables) if gaps else 0.0


def _figures(records: Iterable[TrialRecord]) -> str:
    speeds = [record.rows_per_s for record in records if record.rows_per_s]
    return speed(median(speeds), stdev(speeds) if len(speeds) > 1 else None)


def _named(rival: Sequence[Finalist]) -> str:
    if len(rival) > 1:
        return str(rival[0].way)
    return f"{rival[0].way}, chunks of {rival[0].chunk_rows:,}"


def _counted(pairs: int) -> str:
    return "1 pair" if pairs == 1 else f"{pairs} pairs"


def confirmed_figures(verdicts: Iterable[ClaimVerdict], table: str) -> Iterator[str]:
    """What the fresh runs say of a table's choice; nothing where they cannot say anything."""
    for verdict in verdicts:
        if verdict.claim.subject == table and verdict.bound is not None:
            runs = ", ".join(verdict.run_ids)
            yield f"{verdict.figures} in the fresh run {runs}; {verdict.says}"
