"""batchbench compare"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from batchbench.cli.console import figures_grid, note, out, print_json, warn
from batchbench.cli.options import AsJson, read_run
from batchbench.compare import Comparison, Difference, compare
from batchbench.errors import ConfigError
from batchbench.report.figures import plural
from batchbench.stats import FEWEST_PAIRS, Finding, Verdict

CANNOT_TELL = 5


def compare_command(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs: the first is what others are held against."),
    ],
    fail_above: Annotated[
        str | None,
        typer.Option(help="Exit 1 where a later run is surely slower by more than P%."),
    ] = None,
    delta: Annotated[
        str, typer.Option(help="Differences up to this count as equivalent, P%.")
    ] = "2%",
    as_json: AsJson = False,
) -> int:
    """Compare runs: per configuration how many times as fast, and what may be said of it.

    ~ equivalent, ?? cannot tell. Exit codes: 0; 1 slower than --fail-above; 2 nothing in common;
    5 nothing can be told.
    """
    if len(runs) < 2:
        raise ConfigError("compare takes two runs or more")
    slower = None if fail_above is None else percentage(fail_above, "--fail-above")
    first, *others = [read_run(folder) for folder in runs]
    comparisons = [compare(first, other, percentage(delta, "--delta")) for other in others]
    for comparison in comparisons:
        _show(comparison, as_json=as_json)
    return _exit_code(comparisons, slower)


def percentage(text: str, option: str) -> float:
    """ "5%" or "5" as 0.05. Raises ConfigError."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"{option} takes a percentage from 0 to below 100, not {text!r}")
    return share


def _exit_code(comparisons: list[Comparison], slower: float | None) -> int:
    verdicts = [d.verdict for c in comparisons for d in c.differences]
    if slower is not None and any(is_slower(verdict, slower) for verdict in verdicts):
        return 1
    return CANNOT_TELL if all(map(_is_undecided, comparisons)) else 0


def _is_undecided(comparison: Comparison) -> bool:
    return all(d.verdict.finding is Finding.UNDECIDED for d in comparison.differences)


def _outlook(comparison: Comparison) -> str:
    """Why nothing can be told, and what would help."""
    trials = min(difference.verdict.ratio.pairs for difference in comparison.differences)
    seen = [d.verdict.smallest for d in comparison.differences if d.verdict.smallest is not None]
    if trials < FEWEST_PAIRS or not seen:
        few = f"{plural(trials, 'trial')} of a configuration, {FEWEST_PAIRS} are the least"
        return f"cannot tell: {few}; repeat both runs with --repeats {2 * FEWEST_PAIRS} or more"
    return (
        f"cannot tell: no difference under {min(seen):.0%} would have been seen; repeat both runs"
        " with more --repeats"
    )


def is_slower(verdict: Verdict, share: float) -> bool:
    """Whether the whole interval is below 1 - share."""
    return verdict.ratio.high is not None and verdict.ratio.high < 1 - share


def ratio_text(verdict: Verdict) -> str:
    """ "0.93 [0.90, 0.97] -", or "0.93 ??" where there are too few trials for an interval."""
    ratio = verdict.ratio
    if ratio.low is None or ratio.high is None:
        return f"{ratio.estimate:.3f} ??"
    return f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}] {verdict.sign}"


def verdict_document(verdict: Verdict) -> dict[str, object]:
    """For JSON."""
    ratio = verdict.ratio
    return {
        "finding": verdict.finding.value,
        "ratio": ratio.estimate,
        "low": ratio.low,
        "high": ratio.high,
        "trials": ratio.pairs,
        "smallest_detectable": verdict.smallest,
    }


def _show(comparison: Comparison, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "before": comparison.before,
                "after": comparison.after,
                "by_yardstick": comparison.by_yardstick,
                "remarks": comparison.remarks,
                "missing": comparison.missing,
                "mean": comparison.mean and verdict_document(comparison.mean),
                "configurations": [_document(d) for d in comparison.differences],
            }
        )
        return
    grid = figures_grid(f"{comparison.after} against {comparison.before}")
    for heading in ("configuration", "rows/s before", "after", "times as fast", "smallest seen"):
        grid.add_column(heading, justify="left" if heading == "configuration" else "right")
    for difference in comparison.differences:
        smallest = difference.verdict.smallest
        grid.add_row(
            escape(difference.name),
            f"{difference.before:,.0f}",
            f"{difference.after:,.0f}",
            ratio_text(difference.verdict),
            "??" if smallest is None else f"{smallest:.0%}",
        )
    out.print(grid)
    if comparison.mean is not None:
        out.print(f"geometric mean: {ratio_text(comparison.mean)}", markup=False)
    if comparison.differences and _is_undecided(comparison):
        out.print(_outlook(comparison), markup=False)
    if comparison.by_yardstick:
        note("speeds are divided by each run's yardstick, the server's own COPY")
    for remark in comparison.remarks:
        warn(remark)
    for name in comparison.missing:
        note(f"only one of the runs has {name} to compare")


def _document(difference: Difference) -> dict[str, object]:
    return {
        **difference.key._asdict(),
        "before_rows_per_s": difference.before,
        "after_rows_per_s": difference.after,
        **verdict_document(difference.verdict),
    }
