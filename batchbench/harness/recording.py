"""What is kept of a trial: how its load went, as a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from batchbench.engine import LoadResult
from batchbench.harness.arrivals import Arrivals
from batchbench.harness.brief import Brief, Prepared
from batchbench.harness.observe import Observed
from batchbench.harness.plan import SweepPlan, Trial
from batchbench.harness.producing import Payloads
from batchbench.harness.verify import Contents
from batchbench.results import TrialRecord, meets_goal

_LONGEST_REASON = 300


@dataclass(slots=True)
class Outcome:
    """How a load went. reason: why it failed, else "". settled_s: of VACUUM and CHECKPOINT that
    are part of it. by_second: rows written in each second. arrivals: of an open loop. use: what it
    cost the client, by metric; {} where that was lost. found: in the table afterwards.
    """

    reason: str = ""
    result: LoadResult | None = None
    chunk_rows: int | None = None
    settled_s: float = 0.0
    by_second: dict[int, int] = field(default_factory=dict)
    arrivals: Arrivals | Payloads | None = None
    use: Mapping[str, float | None] = field(default_factory=dict)
    observed: Observed | None = None
    found: Contents | None = None

    @property
    def rows_by_second(self) -> tuple[int, ...]:
        """Without gaps."""
        last = max(self.by_second, default=-1)
        return tuple(self.by_second.get(second, 0) for second in range(last + 1))

    @property
    def committed(self) -> int | None:
        """Rows; None where nobody knows."""
        return None if self.result is None else self.result.total.committed

    def differs(self, prepared: Prepared, filled: int) -> str:
        """How what was found is other than what was sent; "" where it is not."""
        found, expected = self.found, prepared.expected
        if found is None:
            return ""
        if found.row_count != expected.row_count:
            counts = f"{found.row_count - filled:,} of {expected.row_count - filled:,}"
            return f"{counts} rows are in the table"
        if found.checksum != expected.checksum:
            return "the rows in the table are not those that were sent (their checksums differ)"
        return ""


def arrival_rate(trial: Trial, plan: SweepPlan) -> float | None:
    """Rows a second that arrive; None for warm-ups and yardsticks, whose rows are all there."""
    return plan.arrival_rows_per_s if trial.kind == "trial" else None


def lost_record(trial: Trial, brief: Brief, started_at: datetime, reason: str) -> TrialRecord:
    """What is kept of a trial that was lost: why."""
    return record_of(trial, brief, started_at, Outcome(reason))


def record_of(trial: Trial, brief: Brief, started_at: datetime, outcome: Outcome) -> TrialRecord:
    """What is kept of a trial; a failed one has no speed."""
    configuration, plan, found = trial.configuration, brief.plan, outcome.found
    prepared = brief.prepared[configuration.table]
    result, arrivals, observed = outcome.result, outcome.arrivals, outcome.observed
    speed = None if outcome.reason else result
    seconds = None if speed is None else speed.seconds + outcome.settled_s
    rows_per_s = speed.total.committed / seconds if speed and seconds else None
    peak_rss_mb = _rounded(outcome.use.get("peak_rss_mb"), 3)
    chunk_seconds = () if result is None else tuple(round(s, 6) for s in result.chunk_seconds)
    return TrialRecord(
        kind=trial.kind,
        trial_id=trial.trial_id,
        table=configuration.table,
        strategy=configuration.strategy,
        driver=configuration.driver,
        chunk_size=configuration.chunk_size,
        chunk_rows=outcome.chunk_rows,
        parallelism=configuration.parallelism,
        transaction=configuration.transaction,
        writers=brief.options_of(trial).writers,
        repeat=trial.repeat,
        block=trial.block,
        position=trial.position,
        started_at=started_at.isoformat(timespec="milliseconds"),
        status="failed" if outcome.reason else "ok",
        reason=prepared.plain(outcome.reason)[:_LONGEST_REASON] or None,
        rows=prepared.rows.num_rows,
        rows_verified=None if found is None else max(0, found.row_count - plan.filled),
        checksum_ok=None if found is None else found.checksum == prepared.expected.checksum,
        seconds=_rounded(seconds, 6),
        rows_per_s=_rounded(rows_per_s, 3),
        mb_per_s=round(speed.byte_count / 1e6 / seconds, 6) if speed and seconds else None,
        chunks=len(chunk_seconds),
        chunk_seconds=chunk_seconds,
        cpu_s=_rounded(outcome.use.get("cpu_s"), 6),
        peak_rss_mb=peak_rss_mb,
        rss_before_mb=_rounded(outcome.use.get("rss_before_mb"), 3),
        retries=0 if result is None else result.retries,
        goal_met=trial.kind != "yardstick"
        and rows_per_s is not None
        and peak_rss_mb is not None
        and meets_goal(rows_per_s, peak_rss_mb),
        epoch=brief.epoch,
        rtt_ms=configuration.rtt_ms,
        table_state=plan.table_state,
        regime=plan.regime,
        server_settings=dict(plan.server_settings),
        rows_by_second=outcome.rows_by_second if plan.regime == "sustained" else (),
        arrival_rows_per_s=arrival_rate(trial, plan),
        arrival_seconds=() if arrivals is None else arrivals.seconds,
        max_wait_ms=trial.flush_age_ms,
        payload_rows=None if trial.flush_age_ms is None else plan.payload_rows,
        behind_seconds=() if arrivals is None else arrivals.behind_seconds,
        observed=_figures(outcome),
        unobserved={} if observed is None else dict(observed.reasons),
        waits={} if observed is None else {k: round(v, 6) for k, v in observed.waits.items()},
    )


def _figures(outcome: Outcome) -> dict[str, float | None]:
    """By metric: what the observer saw, and how the client's CPU is divided."""
    seen = {} if outcome.observed is None else dict(outcome.observed.values)
    client = {name: outcome.use[name] for name in _CLIENT if name in outcome.use}
    return {name: _rounded(value, 6) for name, value in (client | seen).items()}


_CLIENT = ("cpu_user_s", "cpu_system_s")


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
