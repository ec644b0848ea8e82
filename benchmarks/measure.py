"""Interleaved measuring: every round runs every way of a case once, in seeded random order."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.cases import Case
from benchmarks.cpu import CpuTimes, cpu_times
from benchmarks.data import Data, Inputs
from benchmarks.ground import Ground
from benchmarks.results import CaseResult, Sample, WayResult
from benchmarks.ways import Skipped, Way

_WARM_UP_ROWS = 1_000
_REAPED_S = 0.02  # the CPU time of a backend that has ended is nobody's until the postmaster knows

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """rows: of a case of size 1. repeats: rounds. stretch: slow peers get as many times more."""

    rows: int
    repeats: int
    seed: int
    stretch: float = 1.0

    def rows_of(self, case: Case) -> int:
        """Rows of a case."""
        return max(1, round(self.rows * case.size))


@dataclass
class _Runner:
    """One way of one case, with its data."""

    way: Way
    data: Data
    samples: list[Sample] = field(default_factory=list)
    failure: str | None = None


def measure(case: Case, ground: Ground, inputs: Inputs, plan: Plan, say: Say) -> CaseResult:
    """Measure a case. A way that fails, or whose rows are wrong, is out from then on."""
    row_count = ground.keep_rows(case.table, plan.rows_of(case))
    ways, skipped = case.ways(ground)
    for one in skipped:
        say(f"  skipped: {one.name}: {one.reason}")
    runners = [_Runner(way, _data(case, way, row_count, inputs, plan)) for way in ways]
    # What is kept for the whole run is no work for the collector inside somebody's clock.
    gc.collect()
    gc.freeze()
    for runner in runners:
        _warm_up(case, runner, ground, inputs)
    shuffled = random.Random(f"{plan.seed} {case.name}")  # nosec B311 # an order
    for number in range(plan.repeats):
        order = [runner for runner in runners if runner.failure is None]
        shuffled.shuffle(order)
        for position, runner in enumerate(order):
            _run(case, runner, ground, number, position)
    for runner in runners:
        if runner.failure is not None:
            say(f"  FAILED: {runner.way.name}: {runner.failure}")
    return _result(case, row_count, runners, skipped)


def _data(case: Case, way: Way, row_count: int, inputs: Inputs, plan: Plan) -> Data:
    rows = row_count
    if way.rows_limit is not None:
        rows = min(rows, max(1, round(way.rows_limit * plan.stretch)))
    return inputs.get(case.table, case.form, rows)


def _warm_up(case: Case, runner: _Runner, ground: Ground, inputs: Inputs) -> None:
    """A small load outside the record: imports, caches, files; it also has to be right."""
    rows = min(_WARM_UP_ROWS, runner.data.row_count)
    _guarded(case, runner, ground, inputs.get(case.table, case.form, rows))
    if runner.way.kind == "limit" and runner.failure is None:
        ground.server_files(case.table, runner.data.row_count, runner.way.writers)


def _run(case: Case, runner: _Runner, ground: Ground, number: int, position: int) -> None:
    cost = _guarded(case, runner, ground, runner.data)
    if cost is not None:
        cpu = cost.cpu
        runner.samples.append(
            Sample(number, position, cost.seconds, cpu and cpu.client_s, cpu and cpu.server_s)
        )


@dataclass(frozen=True, slots=True)
class _Cost:
    """Of one load alone."""

    seconds: float
    cpu: CpuTimes | None


def _guarded(case: Case, runner: _Runner, ground: Ground, data: Data) -> _Cost | None:
    """Load from a clean start and check what landed; None where that failed."""
    ground.reset(case.table, data.row_count, case.duplicates)
    gc.collect()
    before = cpu_times(ground.cluster.pid)
    started = time.perf_counter()
    try:
        runner.way.load(ground.dsn, case.table, data)
        seconds = time.perf_counter() - started
        time.sleep(_REAPED_S)
        after = cpu_times(ground.cluster.pid)
        ground.check(case.table, data.row_count, case.duplicates)
    except Exception as error:  # noqa: BLE001 - peers raise what they like; it is recorded
        runner.failure = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return None
    return _Cost(seconds, after.since(before) if after and before else None)


def _result(
    case: Case, row_count: int, runners: list[_Runner], skipped: list[Skipped]
) -> CaseResult:
    return CaseResult(
        name=case.name,
        title=case.title,
        row_count=row_count,
        column_count=len(case.table.columns),
        ways=tuple(
            WayResult(
                name=runner.way.name,
                kind=runner.way.kind,
                writers=runner.way.writers,
                transaction=runner.way.transaction,
                row_count=runner.data.row_count,
                samples=tuple(runner.samples),
                failure=runner.failure,
                boundary=runner.way.boundary,
            )
            for runner in runners
        ),
        skipped={one.name: one.reason for one in skipped},
    )
