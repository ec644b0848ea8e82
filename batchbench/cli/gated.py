"""What the gates say of a run, for its first line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from batchbench.cli.options import closed_loop
from batchbench.compare import compare
from batchbench.errors import ConfigError, InputError
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
from batchbench.report import (
    COARSE,
    FirstLine,
    FirstLines,
    GateNote,
    all_lines,
    all_markdown,
    build_reports,
    markdown,
    plain_lines,
)
from batchbench.report.model import Status as ReportStatus
from batchbench.results import Run
from batchbench.stats import Ratio
from batchbench.stats.verdict import smallest_difference

_MOST_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Opening:
    """The first lines, which terminal, Markdown and page have alike."""

    plain: tuple[str, ...]
    markdown: str


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
    return _note(judged(run, baseline, rules)[0])


def _note(results: Sequence[Result]) -> GateNote:
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


def first_lines_of_run(run: Run, baseline: Run | None, rules: Rules) -> Opening:
    """Those of the run's report; none where it has none."""
    try:
        reports = build_reports(closed_loop(run), baseline, partial(note_by, rules))
    except (ConfigError, InputError):  # the verdicts say what is missing
        return Opening((), "")
    return Opening(tuple(all_lines(reports)), all_markdown(reports))


def first_lines_of_pairs(results: Sequence[Result]) -> Opening:
    """Of two revisions: there are no settings to change, and trust is what their pairs show."""
    note = _note(results)
    passed = FirstLine("Did it pass?", note.status, note.verdict, _sentence(note.answer))
    nothing = "Nothing: revisions were compared, not settings"
    change = FirstLine("What to change?", "good", "nothing", nothing)
    first = FirstLines(passed, change, _trust(results[0].ratio))
    return Opening(plain_lines(first), markdown(first))


def _trust(ratio: Ratio | None) -> FirstLine:
    question = "Can it be trusted?"
    least = None if ratio is None else smallest_difference(ratio)
    if ratio is None or least is None:
        return FirstLine(question, "unknown", "not yet", "Too few rounds to tell anything")
    seen = f"{ratio.pairs} pairs of {ratio.epochs} rounds"
    status, verdict = _trusted(least)
    return FirstLine(question, status, verdict, f"Differences of {least:.0%} and more show, {seen}")


def _trusted(least: float) -> tuple[ReportStatus, str]:
    return ("good", "yes") if least <= COARSE else ("unknown", "only roughly")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _only(results: Sequence[Result], status: Status) -> list[Result]:
    return [result for result in results if result.status is status]
