"""How a recommendation looks: ranking, goal, and the block to paste."""

from __future__ import annotations

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
from batchbench.report import build_report, plain_lines
from batchbench.results import Constraints, Run

GOAL_FAILED = 1
_BEST_SHOWN = 8


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
    for line in plain_lines(build_report(run, gates=gates, constraints=constraints).first):
        out.print(line, markup=False)
    for table, of_table in groupby(rows, key=lambda row: row.table):
        _show_ranking(table, list(of_table), {row.way for row in advice.chosen})
    for goal in advice.goals:
        best = f"; best: {goal.best.way}, {goal.best.figures}" if goal.best else ""
        verdict = "[green]goal met[/]" if goal.met else "[red]goal missed[/]"
        out.print(f"{goal.table}: {verdict} (10,000 rows in under 5 s and 500 MB){best}")
    out.print()
    out.print(env_text(advice), markup=False, end="")
    return advice


def goal_exit_code(advice: Recommendation) -> int:
    """1 where no configuration of a table meets the goal."""
    return 0 if advice.goal_met else GOAL_FAILED


def _show_ranking(table: str, rows: list[RankingRow], chosen: set[object]) -> None:
    """The fastest configurations, and the chosen one wherever it stands."""
    grid = figures_grid(table)
    for title in ("strategy", "driver"):
        grid.add_column(title)
    for title in ("writers", "chunk", "rows/s", "ratio", "p95 ms", "peak MB", "trials"):
        grid.add_column(title, justify="right")
    for row in rows[:_BEST_SHOWN]:
        grid.add_row(*row.way.plug, str(row.way.parallelism), *_figures(row))
    out.print(grid)
    if len(rows) > _BEST_SHOWN:
        out.print(f"  and {len(rows) - _BEST_SHOWN} slower ones (--json has all)\n")


def _figures(row: RankingRow) -> tuple[str, ...]:
    chunk = f"{row.chunk_rows:,}" if row.chunk_rows else "?"
    if row.ratio is None or row.rows_per_s is None:
        return chunk, "failed", "", "", "", str(row.trials)
    spread = f" ± {row.spread / row.rows_per_s:.0%}" if row.spread is not None else ""
    return (
        chunk,
        f"{row.rows_per_s:,.0f}{spread}",
        f"{row.ratio:.2f}",
        f"{(row.p95_s or 0) * 1e3:.1f}",
        f"{row.peak_rss_mb:.0f}",
        str(row.trials),
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
