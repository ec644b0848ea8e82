"""The three first lines: did it pass, what to change, can the run be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from batchbench.config import Settings
from batchbench.recommend import RankingRow, Recommendation
from batchbench.report.current import as_text, current_group, current_name, current_way
from batchbench.report.figures import EQUIVALENT, UNKNOWN, plural
from batchbench.report.groups import Group, block_of, failures, group_of
from batchbench.report.model import FirstLine, FirstLines, Gain, GateNote, Status, Value
from batchbench.report.pairs import Noise, difference, mean_difference, noise
from batchbench.report.yardstick import drift_of_yardstick
from batchbench.results import Run
from batchbench.stats import FEWEST_PAIRS, Drift

COARSE = 0.10
"""A run that shows no smaller difference than this tells good from bad, but not good from best."""

_PASSED, _CHANGE, _TRUST = "Did it pass?", "What to change?", "Can it be trusted?"
_GAINS: Mapping[str, tuple[Status, str]] = {
    "+": ("good", "faster"),
    "-": ("bad", "slower"),
    EQUIVALENT: ("good", f"{EQUIVALENT} equivalent"),
    UNKNOWN: ("unknown", "cannot tell"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What all parts of a report are computed from."""

    run: Run
    groups: tuple[Group, ...]
    ranking: tuple[RankingRow, ...]
    advice: Recommendation
    settings: Settings | None

    def of_table(self, table: str) -> tuple[Group, ...]:
        """The configurations of one table."""
        return tuple(group for group in self.groups if group.table == table)

    def chosen(self, table: str) -> Group | None:
        """What is recommended for a table."""
        row = next((row for row in self.advice.chosen if row.table == table), None)
        return None if row is None else group_of(self.groups, row)

    def current(self, table: str) -> Group | None:
        """What the settings would do with a table, where that was measured."""
        if self.settings is None:
            return None
        return current_group(self.settings, table, self.groups)

    @property
    def noise(self) -> Noise | None:
        """The typical noise of what is compared with the recommendation."""
        chosen = (self.chosen(table) for table in self.tables)
        return noise(self.groups, [group for group in chosen if group is not None])

    @property
    def tables(self) -> tuple[str, ...]:
        """In the order of the ranking."""
        return tuple(dict.fromkeys(row.table for row in self.ranking))


def values_of(evidence: Evidence) -> tuple[Value, ...]:
    """Every recommended variable against what the run had set; none of imported benchmarks."""
    if evidence.run.info.is_imported:
        return ()
    stored = evidence.run.info.settings
    advice = evidence.advice
    return tuple(
        Value(
            variable,
            as_text(stored[variable]) if variable in stored else "not set",
            _effective(evidence.settings, variable, stored.get(variable)),
            recommended,
            advice.reasons.get(variable, ""),
        )
        for variable, recommended in advice.values.items()
    )


def _effective(settings: Settings | None, variable: str, stored: object) -> str:
    """What counted where the variable was auto, or not set."""
    if stored is None and settings is not None:
        way = current_way(settings)
        return {"BATCH_STRATEGY": way.strategy, "BATCH_DRIVER": way.driver}.get(variable, "")
    return as_text(stored)


def gains_of(evidence: Evidence) -> tuple[Gain, ...]:
    """Recommended against current, table by table."""
    return tuple(
        _gain(evidence, table, chosen)
        for table in evidence.tables
        if (chosen := evidence.chosen(table)) is not None
    )


def _gain(evidence: Evidence, table: str, chosen: Group) -> Gain:
    current = evidence.current(table)
    settings = evidence.settings
    before = (
        f"{current.name}: {current.speed_text} rows/s"
        if current is not None
        else f"{current_name(settings, table)}: not measured"
        if settings is not None
        else "unknown"
    )
    after = f"{chosen.name}: {chosen.speed_text} rows/s"
    found = None if current is None else difference(chosen, current)
    if current == chosen:
        return Gain(table, before, after, 1.0, None, None, 0, "=", "as it is")
    if found is None:
        return Gain(table, before, after, None, None, None, 0, UNKNOWN, f"{UNKNOWN} not measured")
    return Gain(
        table, before, after, found.ratio, found.low, found.high, found.pairs, found.symbol,
        found.text,
    )  # fmt: skip


def first_lines(
    evidence: Evidence, values: Sequence[Value], gains: Sequence[Gain], gates: GateNote | None
) -> FirstLines:
    """All three. gates: None where none are configured."""
    passed = _NO_LOADS if evidence.run.info.is_imported else _passed(evidence)
    return FirstLines(
        _with_gates(passed, gates) if gates else passed,
        _change(evidence, values, gains),
        _trust(evidence),
    )


# --- did it pass ------------------------------------------------------------------------------


def _passed(evidence: Evidence) -> FirstLine:
    goals = evidence.advice.goals
    missed = [goal.table for goal in goals if not goal.met]
    details = ["The goal is 10,000 rows in under 5 s and under 500 MB."]
    for goal in goals:
        best = group_of(evidence.groups, goal.best) if goal.best else None
        figures = f"best {best.speed_text} rows/s, {best.name}" if best else "nothing usable"
        details.append(f"{goal.table}: {'met' if goal.met else 'missed'}; {figures}.")
    failed = failures(evidence.groups)
    if failed:
        details.append(f"{failed}.")
    if missed:
        answer = f"Goal missed on {len(missed)} of {plural(len(goals), 'table')}"
        return FirstLine(_PASSED, "bad", "failed", answer, tuple(details))
    return FirstLine(_PASSED, "good", "passed", f"Goal met on {_all(len(goals))}", tuple(details))


_NO_LOADS = FirstLine(_PASSED, "unknown", "no goal", "Benchmarks have no goal of their own")
_WORST: Sequence[Status] = ("bad", "unknown", "good")


def _with_gates(goal: FirstLine, gates: GateNote) -> FirstLine:
    """The worse of the two decides."""
    decides: FirstLine | GateNote = gates
    if goal is not _NO_LOADS and _WORST.index(goal.status) <= _WORST.index(gates.status):
        decides = goal
    answer, details = f"{goal.answer}; {gates.answer}", (*goal.details, *gates.details)
    return FirstLine(_PASSED, decides.status, decides.verdict, answer, details)


def _all(count: int) -> str:
    return {1: "the table that was measured", 2: "both tables"}.get(count, f"all {count} tables")


# --- what to change ---------------------------------------------------------------------------


def _change(evidence: Evidence, values: Sequence[Value], gains: Sequence[Gain]) -> FirstLine:
    changed = [value for value in values if value.changed]
    details = [f"{value.variable}: {value.before} → {value.recommended}" for value in changed]
    details += _boundary(evidence)
    if evidence.run.info.is_imported:
        return FirstLine(_CHANGE, "good", "nothing", "Nothing: benchmarks have no settings")
    if not details:
        answer = "Keep the settings: they are what is recommended"
        return FirstLine(_CHANGE, "good", "nothing", answer)
    couples = _couples(evidence)
    # What stays as it is says nothing of a gain.
    overall = mean_difference(couples) if any(a != b for a, b in couples) else None
    head = f"Set {plural(len(details), 'value')}"
    if overall is None:
        details.append("The current settings were not among the trials, so the gain is unknown.")
        answer = f"{head}: gain {UNKNOWN}, not measured"
        return FirstLine(_CHANGE, "unknown", "gain unknown", answer, tuple(details))
    details += [f"{gain.table}: {gain.text}" for gain in gains if len(gains) > 1]
    status, verdict = _GAINS[overall.symbol]
    answer = f"{head}: rows/s {overall.text}{_where(len(couples), len(gains))}"
    return FirstLine(_CHANGE, status, verdict, answer, tuple(details))


def _boundary(evidence: Evidence) -> list[str]:
    """What is to be committed together, where that is not each chunk: no variable sets it."""
    kept = {row.way.transaction for row in evidence.advice.chosen} - {"chunk"}
    return [f"--transaction of load: chunk → {one}" for one in sorted(kept)]


def _where(measured: int, tables: int) -> str:
    if tables == 1:
        return ""
    if measured == tables:
        return f", geometric mean of {tables} tables"
    return f" on {measured} of {tables} tables; the others were not measured"


def _couples(evidence: Evidence) -> list[tuple[Group, Group]]:
    """Recommended and current, of the tables that have both."""
    return [
        (chosen, current)
        for table in evidence.tables
        if (chosen := evidence.chosen(table)) is not None
        and (current := evidence.current(table)) is not None
    ]


# --- can it be trusted ------------------------------------------------------------------------


def _trust(evidence: Evidence) -> FirstLine:
    found = evidence.noise
    pairs = min((row.pairs for row in evidence.advice.chosen), default=0)
    least = None if found is None else found.shows(pairs)
    drift = drift_of_yardstick(evidence.run)
    details = tuple(_trust_details(evidence, found, least, pairs, drift))
    if drift is not None and drift.contaminated:
        answer = "The machine was not the same all the time: measure again"
        return FirstLine(_TRUST, "bad", "contaminated", answer, details)
    if least is None:
        counted = f"{plural(pairs, 'pair')} of trials for each comparison"
        answer = f"{counted}, {FEWEST_PAIRS} are the least"
        return FirstLine(_TRUST, "unknown", "not yet", answer, details)
    answer = f"Differences of {least:.0%} and more show"
    if least > COARSE:
        return FirstLine(_TRUST, "unknown", "only roughly", answer, details)
    return FirstLine(_TRUST, "good", "yes", answer, details)


def _trust_details(
    evidence: Evidence, found: Noise | None, least: float | None, pairs: int, drift: Drift | None
) -> Iterable[str]:
    yield from _contamination(drift)
    if found is None:
        yield f"Noise {UNKNOWN}: nothing was repeated."
    else:
        yield f"Noise of one trial ± {found.trial:.0%}, of a pair ± {found.pair:.0%}."
    if least is not None:
        yield (
            f"{plural(pairs, 'pair')}: a difference of {least:.0%} is found nine times in ten,"
            " smaller ones are often missed."
        )
    epochs = len({block_of(record)[0] for record in evidence.run.trials})
    ours = evidence.run.info.server.kind == "embedded"
    lives = "the server" if ours else "the client; the server's was one, since it is not ours"
    yield f"{plural(epochs, 'epoch')} (lives of {lives})."
    advice = evidence.advice
    said = advice.doubt or "; ".join(verdict.sentence for verdict in advice.verdicts)
    yield f"{said[:1].upper()}{said[1:]}."
    yield from (f"{text[:1].upper()}{text[1:]}." for text in advice.orders)
    yield from (f"{warning}." for warning in evidence.run.warnings)


def _contamination(drift: Drift | None) -> Iterable[str]:
    if drift is None:
        yield f"Contamination {UNKNOWN}: the run has no yardstick trials."
    elif drift.contaminated:
        yield from (f"Contaminated: {reason}." for reason in drift.reasons)
    else:
        yield f"Not contaminated: the yardstick's medians moved by {drift.drift:.0%}."
