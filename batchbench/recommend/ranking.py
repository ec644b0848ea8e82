"""How the configurations of a table compare, by estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, median, stdev

from batchbench.errors import InputError
from batchbench.results import (
    Constraints,
    Run,
    RunInfo,
    TrialRecord,
    committed,
    constraints_of,
    meets_goal,
    p99_s,
    peak_rss_mb,
    wal_mb_per_s,
)
from batchbench.stats import Ratio, additive_levels, ratio_of_logs


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """What is chosen for all tables at once, since each is one variable."""

    strategy: str
    driver: str
    parallelism: int
    transaction: str = "chunk"

    @classmethod
    def of(cls, record: TrialRecord) -> Way:
        """That a trial went."""
        return cls(record.strategy, record.driver, record.parallelism, record.transaction)

    @property
    def plug(self) -> tuple[str, str]:
        """Strategy and driver, for charts and tables: where chunks are committed together, that is
        a part of the strategy.
        """
        kept = committed(self.transaction, before=", ")
        return f"{self.strategy}{kept}", self.driver

    def __str__(self) -> str:
        writers = "1 writer" if self.parallelism == 1 else f"{self.parallelism} writers"
        kept = committed(self.transaction, before=", ")
        return f"{self.strategy} over {self.driver}, {writers}{kept}"


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One configuration of one table, over its trials.

    chunk_rows: as used; None where no trial came so far. chunk_sizes: as configured: several that
    a limit cut down to the same rows are one configuration.
    pairs: blocks in which it can be compared with the others.
    rows_per_s: median; spread: standard deviation, None of one trial. ratio: to the table's best
    that keeps to the constraints. to_best: the same with an interval; those of a table hold
    together. p99_s: of all its chunks, None under 500.
    peak_rss_mb, slowest_chunk_s: the largest. failed: trials that failed, with the first reason;
    such a configuration has no ratio and is never recommended. breaks: which constraint it breaks,
    and how; stopped: why an adaptive run did not go on with it. Such ones are never recommended
    either.
    """

    table: str
    way: Way
    chunk_rows: int | None
    chunk_sizes: tuple[int, ...]
    trials: int
    pairs: int = 0
    rows_per_s: float | None = None
    spread: float | None = None
    mb_per_s: float | None = None
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None
    slowest_chunk_s: float | None = None
    peak_rss_mb: float | None = None
    wal_mb_per_s: float | None = None
    ratio: float | None = None
    to_best: Ratio | None = None
    failed: int = 0
    reason: str | None = None
    breaks: str | None = None
    stopped: str | None = None

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.way}, chunks of {self.chunk_sizes[0]:,}"

    @property
    def tail_s(self) -> float | None:
        """p99, or the slowest chunk where there are too few for it."""
        return self.slowest_chunk_s if self.p99_s is None else self.p99_s

    @property
    def eligible(self) -> bool:
        """Whether it may be recommended."""
        return self.ratio is not None and self.breaks is None and self.stopped is None

    @property
    def goal_met(self) -> bool:
        """Whether its median speed and largest peak meet the goal."""
        if self.ratio is None or self.rows_per_s is None or self.peak_rss_mb is None:
            return False
        return meets_goal(self.rows_per_s, self.peak_rss_mb)

    @property
    def figures(self) -> str:
        """Speed with spread, and what it is worth: for reasons and tables."""
        if self.rows_per_s is None or self.ratio is None:
            return f"failed: {self.reason}"
        trials = "1 trial" if self.trials == 1 else f"{self.trials} trials"
        worth = f"{self.ratio:.3f}{interval(self.to_best)} of the best"
        return f"{speed(self.rows_per_s, self.spread)}, {worth}, {trials}"


def speed(rows_per_s: float, spread: float | None) -> str:
    """ "97,500 ± 1,200 rows/s"."""
    return f"{rows_per_s:,.0f}{'' if spread is None else f' ± {spread:,.0f}'} rows/s"


def interval(ratio: Ratio | None) -> str:
    """ " (0.95 to 1.01)"; "" where there is none."""
    if ratio is None or ratio.low is None or ratio.high is None:
        return ""
    return f" ({ratio.low:.3f} to {ratio.high:.3f})"


@dataclass(slots=True)
class _Candidate:
    """Trials that did the same thing. relative: log speed less the block's mean, by block."""

    table: str
    way: Way
    chunk_rows: int | None
    records: list[TrialRecord] = field(default_factory=list)
    relative: dict[int, float] = field(default_factory=dict)
    breaks: str | None = None
    stopped: str | None = None

    @property
    def epochs(self) -> dict[int, int]:
        """By block."""
        return {record.block: record.epoch for record in self.records}

    @property
    def usable(self) -> bool:
        return all(record.usable for record in self.records)

    def speed(self, block: int) -> float | None:
        """Mean log speed in a block; None where it did not run."""
        logs = [math.log(r.rows_per_s) for r in self.records if r.block == block and r.rows_per_s]
        return fmean(logs) if logs else None


def ranking(run: Run, constraints: Constraints | None = None) -> tuple[RankingRow, ...]:
    """Every configuration, by table in the order of the plan, best first, failed ones last.
    constraints: besides those that the run was searched under.

    Raises InputError where the run has no usable trial.
    """
    candidates = _candidates(run.trials)
    if not any(candidate.usable for candidate in candidates):
        count = len(run.trials)
        reason = f"{count} trials, all of configurations that failed" if count else "none at all"
        raise InputError(
            f"{run.folder} holds no usable trial ({reason}), so there is nothing to recommend;"
            " sweep again"
        )
    limits = constraints_of(run.info, constraints)
    rows: list[RankingRow] = []
    for table in _tables(run, candidates):
        mine = [candidate for candidate in candidates if candidate.table == table]
        usable = [candidate for candidate in mine if candidate.usable]
        for candidate in usable:
            candidate.breaks = limits.broken(candidate.records)
        blocks = _score_adaptive(usable, run.info) if run.is_adaptive else _score(usable)
        rows += _ranked(usable, blocks)
        rows += [_row(candidate) for candidate in mine if not candidate.usable]
    return tuple(rows)


def _ranked(usable: Sequence[_Candidate], blocks: Sequence[int]) -> list[RankingRow]:
    """Of one table's candidates, best first, those that an adaptive run stopped last."""
    if not usable:
        return []
    running = [candidate for candidate in usable if candidate.stopped is None] or usable
    allowed = [candidate for candidate in running if candidate.breaks is None] or running
    best = max(allowed, key=lambda candidate: _median(candidate, blocks))
    confidence = 1 - 0.05 / max(1, len(usable) - 1)  # Bonferroni: they hold together
    ranked = [
        replace(
            _row(candidate),
            ratio=math.exp(_median(candidate, blocks) - _median(best, blocks)),
            to_best=_to_best(candidate, best, confidence),
        )
        for candidate in usable
    ]
    return sorted(ranked, key=lambda row: (row.stopped is not None, -(row.ratio or 0.0)))


def _to_best(one: _Candidate, best: _Candidate, confidence: float) -> Ratio | None:
    """None of the best itself, and where no block has both."""
    blocks = sorted(one.relative.keys() & best.relative.keys())
    if one is best or not blocks:
        return None
    logs = [one.relative[block] - best.relative[block] for block in blocks]
    return ratio_of_logs(logs, epochs=[one.epochs[b] for b in blocks], confidence=confidence)


def _candidates(trials: Iterable[TrialRecord]) -> list[_Candidate]:
    found: dict[tuple[str, Way, int | None], _Candidate] = {}
    for record in trials:
        way = Way.of(record)
        # Where a limit cut the chunk, what was used is what is meant.
        key = (record.table, way, record.chunk_rows)
        found.setdefault(key, _Candidate(*key)).records.append(record)
    return list(found.values())


def _tables(run: Run, candidates: Iterable[_Candidate]) -> list[str]:
    planned = [str(c["table"]) for c in run.info.plan.get("configurations", ())]
    return list(dict.fromkeys([*planned, *(candidate.table for candidate in candidates)]))


def _score(usable: Sequence[_Candidate]) -> list[int]:
    """Fill in `relative`, of one table's candidates; return the blocks that count.

    A block that a broken-off sweep left half done counts only where no whole one exists: its mean
    would be of other configurations than the others' means.
    """
    numbers = sorted({record.block for c in usable for record in c.records})
    speeds = {n: [c.speed(n) for c in usable] for n in numbers}
    whole = [n for n in numbers if None not in speeds[n]]
    counted = whole or numbers
    for number in counted:
        ran = [speed for speed in speeds[number] if speed is not None]
        for candidate, speed in zip(usable, speeds[number], strict=True):
            if speed is not None:
                candidate.relative[number] = speed - fmean(ran)
    return counted


def _score_adaptive(usable: Sequence[_Candidate], info: RunInfo) -> list[int]:
    """The same where not all ran in all blocks, and fill in `stopped`."""
    cells = {
        (number, place): speed
        for place, candidate in enumerate(usable)
        for number in candidate.epochs
        if (speed := candidate.speed(number)) is not None
    }
    _, effects = additive_levels(cells)
    for (number, place), speed in cells.items():
        usable[place].relative[number] = speed - effects[number]
    dropped = {name: why for look in info.looks for name, why in look.dropped.items()}
    most = max((len(candidate.relative) for candidate in usable), default=0)
    for candidate in usable:
        names = {record.name for record in candidate.records}
        if names <= dropped.keys():
            candidate.stopped = dropped[min(names)]
        elif 2 * len(candidate.relative) < most:
            candidate.stopped = f"began late: {len(candidate.relative)} of {most} blocks"
    return sorted(effects)


def _median(candidate: _Candidate, blocks: Iterable[int]) -> float:
    return median(candidate.relative[n] for n in blocks if n in candidate.relative)


def _row(candidate: _Candidate) -> RankingRow:
    records = candidate.records
    bad = [record for record in records if not record.usable]
    good = [record for record in records if record.usable]
    speeds = [r.rows_per_s for r in good if r.rows_per_s is not None]
    return RankingRow(
        table=candidate.table,
        way=candidate.way,
        chunk_rows=candidate.chunk_rows,
        chunk_sizes=tuple(sorted({record.chunk_size for record in records})),
        trials=len(records),
        pairs=len(candidate.relative),
        rows_per_s=median(speeds) if speeds else None,
        spread=stdev(speeds) if len(speeds) > 1 else None,
        mb_per_s=_middle(r.mb_per_s for r in good),
        p50_s=_middle(r.p50_s for r in good),
        p95_s=_middle(r.p95_s for r in good),
        p99_s=p99_s(good),
        slowest_chunk_s=max((r.max_s for r in good if r.max_s is not None), default=None),
        peak_rss_mb=peak_rss_mb(good),
        wal_mb_per_s=wal_mb_per_s(good),
        failed=len(bad),
        reason=(bad[0].reason or "its rows were not found in the table") if bad else None,
        breaks=candidate.breaks,
        stopped=candidate.stopped,
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
