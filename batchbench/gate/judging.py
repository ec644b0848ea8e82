"""Records and rules -> verdicts. Never green by accident: what was not measured is no pass."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import exp, hypot, log
from statistics import median, stdev
from typing import Protocol

from batchbench.compare import Comparison, Difference
from batchbench.gate.portability import Portability
from batchbench.gate.rules import METRICS, Rule, Rules
from batchbench.results import Key, Run, TrialRecord
from batchbench.stats import Ratio, Verdict, judge, ratio_of_logs

_FEWEST_ROUNDS = 2


class Status(StrEnum):
    """What became of a rule."""

    PASS = "pass"  # noqa: S105 - no password  # nosec B105
    FAIL = "fail"
    UNDECIDED = "cannot tell"


@dataclass(frozen=True, slots=True)
class Result:
    """One rule on one configuration. seen: what was measured, against what is allowed.
    ratio: the same of a rule that compares.
    """

    rule: str
    subject: str
    status: Status
    seen: str
    ratio: Ratio | None = None


def exit_code(results: Iterable[Result]) -> int:
    """1 where a rule failed, else 5 where one cannot be told or there is none, else 0."""
    statuses = [result.status for result in results]
    if Status.FAIL in statuses:
        return 1
    return 5 if not statuses or Status.UNDECIDED in statuses else 0


def worst_first(results: Iterable[Result]) -> list[Result]:
    """For people: what failed, what cannot be told, what passed."""
    order = [Status.FAIL, Status.UNDECIDED, Status.PASS]
    return sorted(results, key=lambda result: order.index(result.status))


def judge_run(run: Run, rules: Rules) -> list[Result]:
    """Hold every configuration against the rules about single figures. What could not be read may
    be what fails them.
    """
    results = [result for rule in rules.rules for result in _hold(run, rule)]
    if run.unread:
        seen = f"left out: {run.unread} of {run.unread + len(run.records)}"
        results.append(Result("every line of the run is read", "-", Status.UNDECIDED, seen))
    return results


def _hold(run: Run, rule: Rule) -> list[Result]:
    chosen: dict[Key, list[TrialRecord]] = {}
    for record in run.trials:
        if all(getattr(record, name) == value for name, value in rule.only.items()):
            chosen.setdefault(record.key, []).append(record)
    if not chosen:
        return [Result(rule.name, "-", Status.UNDECIDED, "no trial of it in the run")]
    return [_result(rule, key.name, records) for key, records in chosen.items()]


def _result(rule: Rule, subject: str, records: list[TrialRecord]) -> Result:
    failed = next((record for record in records if not record.usable), None)
    if failed is not None:
        reason = failed.reason or "its rows were not found in the table"
        return Result(rule.name, subject, Status.FAIL, f"a trial failed: {reason}")
    known = [value for r in records if (value := getattr(r, rule.metric)) is not None]
    if not known:
        return Result(rule.name, subject, Status.UNDECIDED, "not measured")
    how = METRICS[rule.metric]
    value = median(known) if how == "median" else max(known)
    good = value > rule.above if rule.above is not None else value < (rule.below or 0)
    status = Status.PASS if good else Status.FAIL
    spread = f" ± {_figure(stdev(known), 2)}" if how == "median" and len(known) > 1 else ""
    return Result(rule.name, subject, status, f"{_figure(value)}{spread} ({how} of {len(known)})")


def _figure(value: float, digits: int = 4) -> str:
    """ "248,000" or "0.1235": so many digits that count."""
    rounded = float(f"{value:.{digits}g}")
    return f"{rounded:,.0f}" if rounded >= 10_000 else f"{rounded:,g}"


def judge_baseline(
    comparison: Comparison, rules: Rules, portable: Portability | None = None
) -> list[Result]:
    """Hold a run against a stored one. portable: how far runs of the same code lie apart; a
    difference from the bound that is no larger cannot be told. Where that is unknown, nothing can
    be told of runs on different machines.
    """
    name = f"not slower than {comparison.before} by more than {rules.max_slowdown:.0%}"
    if comparison.by_yardstick:
        error = portable.words if portable else "error: not measured"
        name = f"{name} (yardstick {error})"
    doubt = _doubt(comparison, portable)
    results = [
        Result(name, difference.name, Status.UNDECIDED, doubt)
        if doubt
        else _judge_difference(name, difference, rules.max_slowdown, portable)
        for difference in comparison.differences
    ]
    return results + [
        Result(name, missing, Status.UNDECIDED, "only one of the runs has it to compare")
        for missing in comparison.missing
    ]


def _doubt(comparison: Comparison, portable: Portability | None) -> str:
    if not comparison.elsewhere or (comparison.by_yardstick and portable):
        return ""
    if comparison.by_yardstick:
        return "on another machine, and how far the yardstick carries was not measured"
    return "on another machine, and not both runs have a yardstick"


def _judge_difference(
    name: str, difference: Difference, max_slowdown: float, portable: Portability | None
) -> Result:
    verdict = difference.verdict
    if portable is not None:
        verdict = replace(verdict, ratio=_widened(verdict.ratio, portable.error))
    return judge_ratio(name, difference.name, verdict, max_slowdown)


def _widened(ratio: Ratio, error: float) -> Ratio:
    """With an error that no trial of the two runs shows: independent ones add in squares."""
    if ratio.low is None or ratio.high is None:
        return ratio
    low = exp(ratio.log - hypot(ratio.log - log(ratio.low), error))
    high = exp(ratio.log + hypot(log(ratio.high) - ratio.log, error))
    return replace(ratio, low=low, high=high)


class Pair(Protocol):
    """A load of either revision, next to each other. log: of the new one's speed against the old
    one's. round: which life of their processes it ran in.
    """

    @property
    def round(self) -> int: ...
    @property
    def configuration(self) -> str: ...
    @property
    def log(self) -> float: ...


def judge_pairs(rule: str, pairs: Sequence[Pair], max_slowdown: float) -> list[Result]:
    """Two revisions that took turns: all configurations together decide. One alone is noisier, so
    it counts only where it is surely slower.
    """
    together = judge_ratio(rule, "all configurations together", _of_rounds(pairs), max_slowdown)
    apart: dict[str, list[Pair]] = {}
    for pair in pairs:
        apart.setdefault(pair.configuration, []).append(pair)
    singles = (
        judge_ratio(rule, name, _of_rounds(of_one), max_slowdown) for name, of_one in apart.items()
    )
    return [together, *(single for single in singles if single.status is Status.FAIL)]


def _of_rounds(pairs: Sequence[Pair]) -> Verdict:
    """One round is one sample: of a single one, how far rounds lie apart cannot be told."""
    ratio = ratio_of_logs([p.log for p in pairs], epochs=[p.round for p in pairs])
    if ratio.epochs < _FEWEST_ROUNDS:
        ratio = replace(ratio, low=None, high=None, error=None)
    return judge(ratio)


def judge_ratio(rule: str, subject: str, verdict: Verdict, max_slowdown: float) -> Result:
    """A slowdown is claimed only where the whole interval is beyond the bound, and denied only
    where the whole interval is within it.
    """
    ratio, bound = verdict.ratio, 1 - max_slowdown
    status = Status.UNDECIDED
    if ratio.high is not None and ratio.high < bound:
        status = Status.FAIL
    elif ratio.low is not None and ratio.low > bound:
        status = Status.PASS
    return Result(rule, subject, status, ratio_words(ratio), ratio)


def ratio_words(ratio: Ratio) -> str:
    """ "0.930 times as fast [0.900, 0.970], 200 pairs of 6 epochs" """
    interval = "" if ratio.low is None else f" [{ratio.low:.3f}, {ratio.high:.3f}]"
    few = "" if interval else ", too few for an interval"
    epochs = f" of {ratio.epochs} epochs" if ratio.epochs > 1 else ""
    return f"{ratio.estimate:.3f} times as fast{interval}, {ratio.pairs} pairs{epochs}{few}"
