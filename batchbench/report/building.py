"""A run -> its report. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

from batchbench.errors import InputError
from batchbench.recommend import env_text, ranking, recommend
from batchbench.report.baseline import baseline_report
from batchbench.report.current import as_text, settings_of
from batchbench.report.first import Evidence, first_lines, gains_of, values_of
from batchbench.report.groups import group_trials
from batchbench.report.model import GateNote, Report
from batchbench.report.ranked import table_report
from batchbench.report.repeating import repeat_command
from batchbench.report.trials import MOST_TRIALS, trial_table
from batchbench.report.undecided import undecided
from batchbench.results import Constraints, Run


def evidence_of(run: Run, constraints: Constraints | None = None) -> Evidence:
    """What the parts of a report are computed from. constraints: as `recommend` has them.

    Raises InputError where the run has no usable trial, or has several round trips.
    """
    if len(run.rtts_ms) > 1:
        known = ", ".join(f"{rtt_ms:g}" for rtt_ms in run.rtts_ms)
        raise InputError(
            f"run {run.info.run_id} has round trips of {known} ms more, which are told apart: take"
            " its part at one of them, run.at(rtt_ms)"
        )
    return Evidence(
        *(run, group_trials(run), ranking(run, constraints), recommend(run, constraints)),
        settings_of(run.info),
    )


Judge: TypeAlias = Callable[[Run, Run | None], GateNote | None]
"""What the gates say of a run, and of one with its baseline."""


def build_reports(
    run: Run, baseline: Run | None = None, judge: Judge | None = None
) -> tuple[Report, ...]:
    """A report of each round trip, the shortest first: pooled, loads from far away would be noise
    of the near ones.

    Raises InputError where no part has a usable trial, or the baseline none of the parts. Parts
    without one are named in the warnings of the others.
    """
    usable = {record.rtt_ms for record in run.trials if record.usable}
    shown = [rtt_ms for rtt_ms in run.rtts_ms if rtt_ms in usable] or run.rtts_ms[:1]
    doubts = [
        f"no load with round trips of {rtt_ms:g} ms more ended well"
        for rtt_ms in run.rtts_ms
        if rtt_ms not in shown
    ]
    if baseline is not None:
        lacking = [rtt_ms for rtt_ms in shown if rtt_ms not in baseline.rtts_ms]
        doubts += [f"the baseline has no round trips of {rtt_ms:g} ms more" for rtt_ms in lacking]
        if lacking == list(shown):
            raise InputError(
                f"{doubts[-1]}, as run {run.info.run_id} has; give one of the same command"
            )
    reports = []
    for part in (run.at(rtt_ms) for rtt_ms in shown):
        part = replace(part, warnings=(*part.warnings, *doubts))
        before = _at(baseline, part.rtts_ms[0])
        gates = None if judge is None else judge(part, before)
        most = MOST_TRIALS // len(shown)
        reports.append(build_report(part, before, gates, most_trials=most))
    return tuple(reports)


def _at(run: Run | None, rtt_ms: float) -> Run | None:
    return run.at(rtt_ms) if run is not None and rtt_ms in run.rtts_ms else None


def build_report(
    run: Run,
    baseline: Run | None = None,
    gates: GateNote | None = None,
    *,
    constraints: Constraints | None = None,
    most_trials: int = MOST_TRIALS,
) -> Report:
    """All that is to be shown of a run. baseline: an earlier run to hold it against.
    gates: what became of them, where any are configured. constraints: as `recommend` has them.
    most_trials: that are listed.

    Raises InputError where either has no usable trial, or several round trips.
    """
    evidence = evidence_of(run, constraints)
    values, gains = values_of(evidence), gains_of(evidence)
    info = run.info
    return Report(
        run_id=info.run_id,
        created=info.created,
        server=f"PostgreSQL {info.server.version} ({info.server.kind})",
        first=first_lines(evidence, values, gains, gates),
        env="" if info.is_imported else env_text(evidence.advice),
        values=values,
        gains=gains,
        tables=tuple(table_report(evidence, table) for table in evidence.tables),
        undecided=undecided(evidence),
        baseline=None if baseline is None else baseline_report(evidence, evidence_of(baseline)),
        trials=trial_table(run, most_trials),
        environment=_environment(run),
        repeat=repeat_command(info),
        rtt_ms=run.rtts_ms[0],
        warnings=(*run.warnings, *evidence.advice.remarks),
    )


def _environment(run: Run) -> Mapping[str, Mapping[str, str]]:
    info = run.info
    client = info.environment
    plan = {name: as_text(v) for name, v in info.plan.items() if isinstance(v, str | int | float)}
    return {
        "Machine": {
            "platform": client.platform,
            "Python": client.python,
            "cores": str(client.cpu_count),
            "memory": f"{client.memory_mb:,} MB",
            "batchbench": info.batchbench_version,
            "revision": info.git_revision or "unknown",
        },
        "Packages": dict(client.packages),
        "Server": {"version": info.server.version, **info.server.settings},
        "Plan": {**plan, "starts": str(1 + len(info.resumed))},
        "Settings": {name: as_text(value) for name, value in info.settings.items()},
        **({"Not seen": missing} if (missing := run.unobserved) else {}),
    }
