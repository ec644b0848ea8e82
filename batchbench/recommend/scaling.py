"""Throughput over the number of writers: the law that it follows, and what limits it. Pure.

The law is fitted from six numbers of writers on (`stats.scaling`). What limits is told from what
the samplers saw at the largest number: who had the CPU, and what the writers' backends waited for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from batchbench.recommend.ranking import Way
from batchbench.results import Run, TrialRecord
from batchbench.stats import Coefficient, Scaling, fit_scaling
from batchbench.stats.scaling import FEWEST_LEVELS

FEWEST_LOOKS = 10
"""At backends: of fewer, what they waited for most is a guess."""

FEWEST_SHOWN = 3
"""Numbers of writers from which on a missing fit is worth a word."""

BUSY = 0.85
"""Of the cores there are: who has them so much of the time has them all."""

_RUNNING = "running"


@dataclass(frozen=True, slots=True)
class Limit:
    """What keeps more writers from writing more. by: "server CPU", "client", "WAL", "locks" or
    "data files"; None where the samplers saw too little. text: the figures, or why not.
    """

    by: str | None
    text: str


@dataclass(frozen=True, slots=True)
class Ladder:
    """A strategy and driver with one chunk size over numbers of writers, smallest first: the size
    that was measured with the most of them.

    rows_per_s: median by number of writers. fit: None under six of them.
    """

    table: str
    strategy: str
    driver: str
    chunk_rows: int
    rows_per_s: Mapping[int, float]
    fit: Scaling | None
    limit: Limit

    @property
    def plug(self) -> tuple[str, str]:
        """Strategy and driver."""
        return self.strategy, self.driver

    @property
    def name(self) -> str:
        """As people say it."""
        return f"{self.strategy} over {self.driver}, chunks of {self.chunk_rows:,}"

    @property
    def sentence(self) -> str:
        """What may be said; "" where so few numbers of writers were measured that nobody asks."""
        if self.fit is not None:
            return f"{say_fit(self.fit)}; {self.says_limit}"
        count = len(self.rows_per_s)
        if count < FEWEST_SHOWN:
            return ""
        return f"{count} numbers of writers were measured, a fit needs {FEWEST_LEVELS}"

    @property
    def says_limit(self) -> str:
        """What limits it, at the most writers that were measured."""
        at = f"with {max(self.rows_per_s)} writers"
        by = "what limits is not known" if self.limit.by is None else f"limited by {self.limit.by}"
        return f"{at} {by} ({self.limit.text})"


def ladders(run: Run) -> tuple[Ladder, ...]:
    """One for each table, strategy and driver with two numbers of writers or more, in order."""
    found: dict[tuple[str, str, str], dict[int, dict[int, list[TrialRecord]]]] = {}
    for record in run.trials:
        plug = (record.table, *Way.of(record).plug)
        sizes = found.setdefault(plug, {})
        steps = sizes.setdefault(record.chunk_rows or 0, {})
        steps.setdefault(record.parallelism, []).append(record)
    cores = run.info.environment.cpu_count
    made = (_ladder(plug, sizes, cores) for plug, sizes in sorted(found.items()))
    return tuple(ladder for ladder in made if ladder is not None)


def say_fit(fit: Scaling) -> str:
    """The coefficients with their intervals, and what they come to."""
    times = fit.rows_per_s(fit.largest) / fit.single.value
    peak = (
        f"no peak up to {2 * fit.largest}, past which nothing is said"
        if fit.peak is None
        else f"peak near {fit.peak:.1f}"
    )
    return (
        f"contention {_say(fit.contention)}, crosstalk {_say(fit.crosstalk)}:"
        f" {fit.largest} writers write {times:.2f} times what one does, {peak}"
    )


def _say(one: Coefficient) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _ladder(
    plug: tuple[str, str, str], sizes: Mapping[int, Mapping[int, list[TrialRecord]]], cores: int
) -> Ladder | None:
    usable = {
        chunk_rows: {n: records for n, records in steps.items() if all(r.usable for r in records)}
        for chunk_rows, steps in sizes.items()
    }
    chunk_rows = max(usable, key=lambda size: (len(usable[size]), _fastest(usable[size])))
    steps = dict(sorted(usable[chunk_rows].items()))
    if len(steps) < 2:
        return None
    medians = {n: _median(records) for n, records in steps.items()}
    trials = [record for records in steps.values() for record in records]
    return Ladder(
        *plug, chunk_rows, medians, _fit(trials, len(steps)), limit_of(steps[max(steps)], cores)
    )


def _fastest(steps: Mapping[int, Sequence[TrialRecord]]) -> float:
    return max(map(_median, steps.values()), default=0.0)


def _median(records: Iterable[TrialRecord]) -> float:
    return median(record.rows_per_s or 0.0 for record in records)


def _fit(trials: Sequence[TrialRecord], levels: int) -> Scaling | None:
    if levels < FEWEST_LEVELS:
        return None
    return fit_scaling([r.parallelism for r in trials], [r.rows_per_s or 0.0 for r in trials])


# --- what limits --------------------------------------------------------------------------------


def limit_of(records: Sequence[TrialRecord], cores: int) -> Limit:
    """Of trials of one configuration. cores: of the client's machine.

    The server's CPU is only seen where it shares that machine; then both may have used it up. A
    client's process that has a whole core to itself has no more to give. Else it is what the
    writers' backends spent most of their time with.
    """
    client, server = _busy(records, "cpu_s"), _busy(records, "server_cpu_s")
    if client is not None and server is not None and client + server >= BUSY * cores:
        by = "server CPU" if server >= client else "client"
        return Limit(by, f"of {cores} cores the server had {server:.1f}, the client {client:.1f}")
    if client is not None and client >= BUSY:
        return Limit("client", f"its process had {client:.2f} of a core")
    return _waited_for(records)


def _busy(records: Iterable[TrialRecord], name: str) -> float | None:
    """Mean cores that a process kept busy; None where that was not seen."""
    shares = [
        used / record.seconds
        for record in records
        if record.seconds
        and (used := record.cpu_s if name == "cpu_s" else record.observed.get(name)) is not None
    ]
    return fmean(shares) if shares else None


def _waited_for(records: Sequence[TrialRecord]) -> Limit:
    looks = {record.trial_id: record.observed.get("samples") or 0.0 for record in records}
    seen = sum(looks.values())
    if not any(record.waits for record in records):
        reasons = (record.unobserved.get("running_share") for record in records)
        return Limit(None, next(filter(None, reasons), "its backends were not looked at"))
    if seen < FEWEST_LOOKS:
        return Limit(
            None,
            f"{seen:.0f} looks at its backends, {FEWEST_LOOKS} are the least: take more rows",
        )
    spent: dict[str, dict[str, float]] = {}
    for record in records:
        for event, share in record.waits.items():
            events = spent.setdefault(_kind(event), {})
            events[event] = events.get(event, 0.0) + share * looks[record.trial_id] / seen
    by = max(spent, key=lambda kind: sum(spent[kind].values()))
    event = max(spent[by], key=lambda name: spent[by][name])
    time = f"{sum(spent[by].values()):.0%} of its backends' time"
    if event == _RUNNING:
        return Limit(by, f"{time} they ran, or waited for a core")
    return Limit(by, f"{time}, {event} most")


def _kind(event: str) -> str:
    """What stands behind an event. Source: PostgreSQL's documentation, Wait Event Types."""
    kind, _, name = event.partition(":")
    if event == _RUNNING:
        return "server CPU"
    if name.upper().startswith("WAL"):
        return "WAL"
    return {"Client": "client", "Lock": "locks", "LWLock": "locks", "IO": "data files"}.get(
        kind, event
    )
