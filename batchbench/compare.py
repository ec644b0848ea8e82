"""Runs against each other: per configuration how many times as fast, and what may be said of it."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from batchbench.errors import InputError
from batchbench.results import Key, Run, TrialRecord
from batchbench.stats import Ratio, Verdict, judge
from batchbench.stats.unpaired import unpaired_ratio


@dataclass(frozen=True, slots=True)
class Difference:
    """One configuration in two runs. rows_per_s: medians, before and after."""

    key: Key
    before: float
    after: float
    verdict: Verdict

    @property
    def name(self) -> str:
        """As `Key.name`."""
        return self.key.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """before, after: run ids. differences: largest change first. mean: of all configurations, None
    where there is none. by_yardstick: whether speeds were divided by each run's own yardstick.
    missing: configurations that only one of them has to compare. remarks: what makes that hard.
    elsewhere: whether they ran on different machines; without yardsticks nothing can be told then.
    """

    before: str
    after: str
    differences: tuple[Difference, ...]
    mean: Verdict | None
    by_yardstick: bool
    missing: tuple[str, ...]
    remarks: tuple[str, ...]
    elsewhere: bool = False


def compare(before: Run, after: Run, delta: float = 0.02) -> Comparison:
    """Raises InputError where the two have no configuration in common."""
    yardsticks = [_yardstick(run) for run in (before, after)]
    both = all(yardsticks)
    if not both:
        yardsticks = [{}, {}]
    old, new = (_by_key(run, of) for run, of in zip((before, after), yardsticks, strict=True))
    shared = [key for key in old if key in new]
    if not shared:
        raise InputError(
            f"runs {before.info.run_id} and {after.info.run_id} have no configuration in common:"
            " repeat the command of one of them for the other"
        )
    elsewhere = before.info.environment.machine != after.info.environment.machine
    known = both or not elsewhere
    differences = []
    for key in shared:
        ratio = unpaired_ratio(
            _speeds(new[key], yardsticks[1]),
            _speeds(old[key], yardsticks[0]),
            epochs=[record.epoch for record in new[key]],
            other_epochs=[record.epoch for record in old[key]],
        )
        verdict = judge(ratio if known else _untold(ratio), delta)
        differences.append(Difference(key, _median(old[key]), _median(new[key]), verdict))
    differences.sort(key=lambda d: -abs(d.verdict.ratio.log))
    of_all = _mean([old, new], shared, yardsticks)
    mean = judge(of_all if known else _untold(of_all), delta)
    used = dict.fromkeys(r.key for run in (before, after) for r in run.trials if r.usable)
    missing = tuple(key.name for key in used if key not in shared)
    remarks = _remarks(before, after, by_yardstick=both)
    ids = before.info.run_id, after.info.run_id
    return Comparison(*ids, tuple(differences), mean, both, missing, remarks, elsewhere)


def _untold(ratio: Ratio) -> Ratio:
    """Times of different machines: no interval holds what the machines differ by."""
    return replace(ratio, low=None, high=None, error=None)


def _mean(
    runs: Sequence[Mapping[Key, list[TrialRecord]]],
    shared: Sequence[Key],
    yardsticks: Sequence[Mapping[Place, float]],
) -> Ratio:
    """Of all configurations together. They share blocks and yardstick, so that their errors are
    not independent: the mean is taken within each block, before anything is compared.
    """
    sides, epochs = [], []
    for trials, yardstick in zip(runs, yardsticks, strict=True):
        logs: dict[tuple[Hashable, int], list[float]] = {}
        for key in shared:
            for record, speed in zip(trials[key], _speeds(trials[key], yardstick), strict=True):
                logs.setdefault((record.epoch, record.block), []).append(math.log(speed))
        sides.append([math.exp(fmean(values)) for values in logs.values()])
        epochs.append([epoch for epoch, _ in logs])
    return unpaired_ratio(sides[1], sides[0], epochs=epochs[1], other_epochs=epochs[0])


def _by_key(run: Run, yardstick: Mapping[Place, float]) -> dict[Key, list[TrialRecord]]:
    """Usable trials; where there is a yardstick, those of blocks that have it."""
    trials: dict[Key, list[TrialRecord]] = {}
    for record in run.trials:
        if record.usable and (not yardstick or _place(record) in yardstick):
            trials.setdefault(record.key, []).append(record)
    return trials


Place = tuple[str, Hashable, int]


def _place(record: TrialRecord) -> Place:
    return record.table, record.epoch, record.block


def _yardstick(run: Run) -> Mapping[Place, float]:
    """Speed of the server's own COPY, by table, epoch and block."""
    return {
        _place(record): record.rows_per_s
        for record in run.records
        if record.kind == "yardstick" and record.usable and record.rows_per_s
    }


def _speeds(trials: Sequence[TrialRecord], yardstick: Mapping[Place, float]) -> list[float]:
    """Rows a second; where there is a yardstick, against that of the same block."""
    if not yardstick:
        return [record.rows_per_s or 0.0 for record in trials]
    return [(record.rows_per_s or 0.0) / yardstick[_place(record)] for record in trials]


def _median(trials: Sequence[TrialRecord]) -> float:
    ordered = sorted(record.rows_per_s or 0.0 for record in trials)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else sum(ordered[middle - 1 : middle + 1]) / 2


def _remarks(before: Run, after: Run, *, by_yardstick: bool) -> tuple[str, ...]:
    remarks = []
    if before.info.environment != after.info.environment:
        remarks.append("the two ran on different machines, or with different packages")
    if before.info.server != after.info.server:
        remarks.append("the two ran on different servers, or with different settings of it")
    if remarks and not by_yardstick:
        remarks.append(
            "without a yardstick in both, times of different machines say nothing of batchbench"
        )
    rows: dict[Key, set[int]] = {}
    for record in (*before.trials, *after.trials):
        if record.usable:
            rows.setdefault(record.key, set()).add(record.rows)
    if any(len(of_one) > 1 for of_one in rows.values()):
        remarks.append("the loads had different numbers of rows")
    return tuple(remarks)
