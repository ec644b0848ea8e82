"""How a recommendation looks: ranking, goal, and the block to paste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from statistics import median

from batchbench.cli.console import figures_grid, out, print_json, warn
from batchbench.cli.gated import gate_note
from batchbench.errors import ConfigError
from batchbench.recommend import (
    ClaimVerdict,
    Ladder,
    RankingRow,
    Recommendation,
    Sustained,
    env_text,
    ranking,
    recommend,
)
from batchbench.report import Report, TableReport, build_report, detailed_lines
from batchbench.report.figures import UNKNOWN, plural, ratio_text
from batchbench.results import Constraints, Run

GOAL_FAILED = 1
_BEST_SHOWN = 8
_MOST_QUESTIONS = 3
_CHOSEN = ">"


def show_advice(
    run: Run, *, as_json: bool, constraints: Constraints | None = None
) -> Recommendation:
    """Print what a run says; return the recommendation. Raises InputError where it says nothing."""
    rows, advice = ranking(run, constraints), recommend(run, constraints)
    for warning in run.warnings:
        warn(warning)
    for remark in advice.remarks:
        warn(remark)
    if as_json:
        print_json(advice_document(run, constraints))
        return advice
    try:
        gates = gate_note(run)
    except ConfigError as error:  # a sweep's results are not lost over it
        warn(str(error))
        gates = None
    report = build_report(run, gates=gates, constraints=constraints)
    for line in detailed_lines(report.first):
        out.print(line, markup=False)
    tables = {part.table: part for part in report.tables}
    for table, of_table in groupby(rows, key=lambda row: row.table):
        _show_ranking(table, list(of_table), advice.chosen)
        _show_findings(tables[table])
    _show_undecided(report)
    out.print()
    out.print(env_text(advice), markup=False, end="")
    return advice


def goal_exit_code(advice: Recommendation) -> int:
    """1 where no configuration of a table meets the goal."""
    return 0 if advice.goal_met else GOAL_FAILED


def _show_ranking(table: str, rows: list[RankingRow], chosen: Sequence[RankingRow]) -> None:
    """The fastest configurations, and the recommended one wherever it stands, marked."""
    grid = figures_grid(table)
    for title in ("", "strategy", "driver"):
        grid.add_column(title)
    for title in ("writers", "chunk", "rows/s", "of the best", "p95 ms", "peak MB", "trials"):
        grid.add_column(title, justify="right")
    shown = rows[:_BEST_SHOWN] + [row for row in rows[_BEST_SHOWN:] if row in chosen]
    for row in shown:
        mark = _CHOSEN if row in chosen else ""
        grid.add_row(mark, *row.way.plug, str(row.way.parallelism), *_figures(row))
    out.print(grid)
    if left := len(rows) - len(shown):
        slower = "1 slower one" if left == 1 else f"{left} slower ones"
        out.print(f"  and {slower} (--json has all); {_CHOSEN} is recommended\n", markup=False)


def _show_findings(table: TableReport) -> None:
    """Where the knee or the wall is, and what the recommendation costs."""
    for sentence in table.shape:
        out.print(f"  {sentence}", markup=False)
    if table.cost:
        out.print(f"  {table.subject}: {' '.join(table.cost)}", markup=False)
    out.print()


def _show_undecided(report: Report) -> None:
    """What the run leaves open, each with the command that would decide it."""
    for question in report.undecided[:_MOST_QUESTIONS]:
        out.print(f"not decided: {question.question} {question.why}", markup=False)
        out.print(f"  {question.command}", markup=False)
    left = len(report.undecided) - _MOST_QUESTIONS
    if left > 0:
        out.print(f"and {plural(left, 'question')} more, in batchbench report", markup=False)


def _figures(row: RankingRow) -> tuple[str, ...]:
    chunk = f"{row.chunk_rows:,}" if row.chunk_rows else "?"
    if row.ratio is None or row.rows_per_s is None:
        return chunk, "failed", "", "", "", str(row.trials)
    spread = f" ± {row.spread / row.rows_per_s:.0%}" if row.spread is not None else ""
    return (
        chunk,
        f"{row.rows_per_s:,.0f}{spread}",
        _of_the_best(row),
        f"{(row.p95_s or 0) * 1e3:.1f}",
        f"{row.peak_rss_mb:.0f}",
        str(row.trials),
    )


def _of_the_best(row: RankingRow) -> str:
    """With its interval, or question marks where there are too few pairs for one."""
    found = row.to_best
    if found is None:
        return f"{row.ratio:.2f}"
    return ratio_text(row.ratio or 0.0, found.low, found.high) + (
        "" if found.low else f" {UNKNOWN}"
    )


def advice_document(run: Run, constraints: Constraints | None = None) -> dict[str, object]:
    """What a run says, for machines. Raises InputError where it says nothing."""
    rows, advice = ranking(run, constraints), recommend(run, constraints)
    return {
        "run_id": advice.run_id,
        "goal_met": advice.goal_met,
        "provisional": advice.provisional,
        "doubt": advice.doubt,
        "claims": [_claim_document(verdict) for verdict in advice.verdicts],
        "values": dict(advice.values),
        "transaction": advice.boundary or None,
        "reasons": dict(advice.reasons),
        "scaling": [_scaling_document(ladder) for ladder in advice.ladders],
        "sustained": [_sustained_document(one) for one in advice.sustained],
        "sustained_order": list(advice.orders),
        "goals": [{"table": goal.table, "met": goal.met} for goal in advice.goals],
        "ranking": [asdict(row) | {"goal_met": row.goal_met} for row in rows],
    }


def _scaling_document(ladder: Ladder) -> dict[str, object]:
    fit = ladder.fit
    return {
        "table": ladder.table,
        "strategy": ladder.strategy,
        "driver": ladder.driver,
        "chunk_rows": ladder.chunk_rows,
        "rows_per_s": {str(writers): speed for writers, speed in ladder.rows_per_s.items()},
        "fit": None
        if fit is None
        else {
            "single_rows_per_s": asdict(fit.single),
            "contention": asdict(fit.contention),
            "crosstalk": asdict(fit.crosstalk),
            "peak_writers": fit.peak,
            "holds_up_to_writers": 2 * fit.largest,
        },
        "limited_by": ladder.limit.by,
        "limit": ladder.limit.text,
        "says": ladder.sentence,
    }


def _sustained_document(one: Sustained) -> dict[str, object]:
    return {
        **asdict(one.finalist),
        "run": one.run_id,
        "rows_per_s": one.rows_per_s,
        "rows_by_second": list(one.by_second),
        "lowest_second_rows": one.lowest,
        "burst_rows_per_s": median(one.bursts) if one.bursts else None,
        "reason": one.reason,
    }


def _claim_document(verdict: ClaimVerdict) -> dict[str, object]:
    ratio = verdict.ratio
    return {
        "subject": verdict.claim.subject,
        "confirmed": verdict.confirmed,
        "runs": list(verdict.run_ids),
        "pairs": verdict.pairs,
        "bound": verdict.bound,
        "against": verdict.against or None,
        "ratio": None if ratio is None else [ratio.estimate, ratio.low, ratio.high],
        "more_pairs": verdict.more_pairs,
        "more_s": verdict.more_s,
        "says": verdict.sentence,
    }
