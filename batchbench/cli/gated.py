"""What the gates say of a run, for its first line."""

from __future__ import annotations

from collections.abc import Sequence

from batchbench.compare import compare
from batchbench.gate import (
    Result,
    Rules,
    Status,
    configured_rules,
    exit_code,
    judge_baseline,
    judge_run,
    read_portability,
)
from batchbench.report import GateNote
from batchbench.results import Run

_MOST_SHOWN = 10


def judged(run: Run, baseline: Run | None, rules: Rules) -> tuple[list[Result], Sequence[str]]:
    """Every rule on every configuration, and what makes the two runs hard to compare."""
    results = judge_run(run, rules)
    if baseline is None:
        return results, ()
    comparison = compare(baseline, run)
    portable = read_portability(baseline.folder)
    return results + judge_baseline(comparison, rules, portable), comparison.remarks


def gate_note(run: Run, baseline: Run | None = None) -> GateNote | None:
    """By the rules of this folder's gates.toml or pyproject.toml; None where there are none.

    Raises ConfigError, naming the rule, for one that cannot be; InputError where run and baseline
    have nothing in common.
    """
    rules = configured_rules()
    return None if rules is None else note_by(rules, run, baseline)


def note_by(rules: Rules, run: Run, baseline: Run | None = None) -> GateNote:
    """The same by rules that were read before."""
    results, _ = judged(run, baseline, rules)
    failed, undecided = (_only(results, status) for status in (Status.FAIL, Status.UNDECIDED))
    bad = [f"Gate {r.rule}, {r.subject}: {r.status}, {r.seen}." for r in failed + undecided]
    more = [f"And {len(bad) - _MOST_SHOWN} gates more."] if len(bad) > _MOST_SHOWN else []
    details, all_of_them = (*bad[:_MOST_SHOWN], *more), len(results)
    code = exit_code(results)
    if code == 0:
        return GateNote("good", "passed", f"gates passed ({all_of_them} of {all_of_them})", ())
    if code == 1:
        answer = f"gates failed ({len(failed)} of {all_of_them})"
        return GateNote("bad", "failed", answer, details)
    answer = f"gates cannot tell ({len(undecided)} of {all_of_them})"
    return GateNote("unknown", "cannot tell", answer, details)


def _only(results: Sequence[Result], status: Status) -> list[Result]:
    return [result for result in results if result.status is status]
