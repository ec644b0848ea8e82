"""How the configurations of a table compare, by estimate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev

from batchbench.errors import InputError
from batchbench.results import Run, TrialRecord, meets_goal


@dataclass(frozen=True, slots=True, order=True)
class Way:
    """What is chosen for all tables at once, since each is one variable."""

    strategy: str
    driver: str
    parallelism: int

    def __str__(self) -> str:
        writers = "1 writer" if self.parallelism == 1 else f"{self.parallelism} writers"
        return f"{self.strategy} over {self.driver}, {writers}"


@dataclass(frozen=True, slots=True)
class RankingRow:
    """One configuration of one table, over its trials.

    chunk_rows: as used; None where no trial came so far. chunk_sizes: as configured: several that
    a limit cut down to the same rows are one configuration.
    pairs: blocks in which it can be compared with the others.
    rows_per_s: median; spread: standard deviation, None of one trial. ratio: to the table's best.
    peak_rss_mb, slowest_chunk_s: the largest. failed: trials that failed, with the first reason;
    such a configuration has no ratio and is never recommended.
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
    slowest_chunk_s: float | None = None
    peak_rss_mb: float | None = None
    ratio: float | None = None
    failed: int = 0
    reason: str | None = None

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
        spread = "" if self.spread is None else f" ± {self.spread:,.0f}"
        trials = "1 trial" if self.trials == 1 else f"{self.trials} trials"
        return f"{self.rows_per_s:,.0f}{spread} rows/s, {self.ratio:.3f} of the best, {trials}"


@dataclass(slots=True)
class _Candidate:
    """Trials that did the same thing. relative: log speed less the block's mean, by block."""

    table: str
    way: Way
    chunk_rows: int | None
    records: list[TrialRecord] = field(default_factory=list)
    relative: dict[int, float] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        return all(record.usable for record in self.records)

    def speed(self, block: int) -> float | None:
        """Mean log speed in a block; None where it did not run."""
        logs = [math.log(r.rows_per_s) for r in self.records if r.block == block and r.rows_per_s]
        return fmean(logs) if logs else None


def ranking(run: Run) -> tuple[RankingRow, ...]:
    """Every configuration, by table in the order of the plan, best first, failed ones last.

    Raises InputError where the run has no usable trial.
    """
    candidates = _candidates(run.trials)
    if not any(candidate.usable for candidate in candidates):
        raise InputError(
            f"{run.folder} holds no usable trial ({len(run.trials)} trials, all of configurations"
            " that failed), so there is nothing to recommend; sweep again"
        )
    rows: list[RankingRow] = []
    for table in _tables(run, candidates):
        mine = [candidate for candidate in candidates if candidate.table == table]
        usable = [candidate for candidate in mine if candidate.usable]
        blocks = _score(usable)
        best = max((_median(c, blocks) for c in usable), default=0.0)
        ranked = [_row(c, math.exp(_median(c, blocks) - best)) for c in usable]
        rows += sorted(ranked, key=lambda row: -(row.ratio or 0.0))
        rows += [_row(candidate, None) for candidate in mine if not candidate.usable]
    return tuple(rows)


def _candidates(trials: Iterable[TrialRecord]) -> list[_Candidate]:
    found: dict[tuple[str, Way, int | None], _Candidate] = {}
    for record in trials:
        way = Way(record.strategy, record.driver, record.parallelism)
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


def _median(candidate: _Candidate, blocks: Iterable[int]) -> float:
    return median(candidate.relative[n] for n in blocks if n in candidate.relative)


def _row(candidate: _Candidate, ratio: float | None) -> RankingRow:
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
        slowest_chunk_s=max((r.max_s for r in good if r.max_s is not None), default=None),
        peak_rss_mb=max((r.peak_rss_mb for r in good if r.peak_rss_mb is not None), default=None),
        ratio=ratio,
        failed=len(bad),
        reason=(bad[0].reason or "its rows were not found in the table") if bad else None,
    )


def _middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
