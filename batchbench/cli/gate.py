"""batchbench gate"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from batchbench.cli.console import err, figures_grid, out, print_json, warn
from batchbench.cli.files import append, write_whole
from batchbench.cli.gated import Opening, first_lines_of_pairs, first_lines_of_run, judged
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    ServerSpec,
    read_run,
    seconds_of,
    server_to_measure,
)
from batchbench.cli.running import run_async
from batchbench.config import step_summary
from batchbench.errors import ConfigError
from batchbench.gate import (
    PORTABILITY_FILE,
    Result,
    Rules,
    Status,
    document,
    exit_code,
    headline,
    judge_pairs,
    junit,
    markdown,
    portability,
    portability_text,
    read_portability,
    read_rules,
    worst_first,
)
from batchbench.harness.revisions import BUDGET_S, ROUNDS, measure, revisions
from batchbench.results import Run, load_run

_COLOURS = {Status.PASS: "green", Status.FAIL: "red", Status.UNDECIDED: "yellow"}


def gate_command(
    run: Annotated[
        Path | None, typer.Argument(help="The folder of a sweep's run.", metavar="RUN")
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="File of rules. Default: gates.toml or pyproject.toml here, else the goal."
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Folder of the run that RUN is held against.")
    ] = None,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Make RUN the new --baseline, where it passes."),
    ] = False,
    portable: Annotated[
        list[Path] | None,
        typer.Option(
            "--portability",
            help="A run of the --baseline's own code, of another machine or day: how far such runs"
            " lie apart is kept with the baseline and allowed for. May be repeated.",
        ),
    ] = None,
    against_ref: Annotated[
        str | None,
        typer.Option(
            help="A git revision of batchbench: measure it and this tree in turn, on this machine."
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(help="With --against-ref: how often both are started anew.", min=1)
    ] = ROUNDS,
    budget: Annotated[
        str, typer.Option(help="With --against-ref: time for all rounds together: 90s, 5m.")
    ] = f"{BUDGET_S:g}s",
    junit_file: Annotated[
        Path | None, typer.Option("--junit", help="Write JUnit XML to this file.")
    ] = None,
    markdown_file: Annotated[
        Path | None, typer.Option("--markdown", help="Write Markdown to this file.")
    ] = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> int:
    """Pass or fail for CI: a run against rules and a baseline, or this tree against a revision.

    Exit codes: 0 all rules hold; 1 one fails; 2 a rule, run or revision that cannot be used;
    5 too little was measured to tell. In GitHub Actions the step's summary is filled as well.
    """
    if (run is None) == (against_ref is None):
        raise ConfigError("name a RUN, or a revision with --against-ref")
    if update_baseline and baseline is None:
        raise ConfigError("--update-baseline needs the --baseline that it replaces")
    if portable and baseline is None:
        raise ConfigError("--portability needs the --baseline that it is kept with")
    wanted, budget_s = read_rules(rules), seconds_of(budget, "--budget")
    if portable and baseline is not None:
        _keep_portability(baseline, [load_run(folder) for folder in portable])
    if run is not None:
        results, opening = _judge_run(read_run(run), baseline, wanted)
    else:
        with server_to_measure(dsn, server, data_dir) as opened:
            results = _judge_ref(against_ref or "", opened.dsn, rounds, budget_s, wanted)
        opening = first_lines_of_pairs(results)
    _show(results, opening, as_json=as_json)
    _write(results, opening, junit_file, markdown_file)
    code = exit_code(results)
    if update_baseline and run is not None and baseline is not None:
        _replace(baseline, run, code)
    return code


def _keep_portability(baseline: Path, runs: list[Run]) -> None:
    runs = [load_run(baseline), *runs]
    code = {run.info.git_revision or run.info.batchbench_version for run in runs}
    if len(code) > 1:
        warn(f"the runs are of {len(code)} revisions: what those differ by counts as well")
    found = portability(runs)
    write_whole(baseline / PORTABILITY_FILE, portability_text(found))
    err.print(f"the yardstick carries with an error of {found.words}", markup=False)


def _judge_run(run: Run, baseline: Path | None, rules: Rules) -> tuple[list[Result], Opening]:
    before = None
    if baseline is not None and (baseline / "run.json").is_file():
        before = read_run(baseline)
    elif baseline is not None:
        warn(f"{baseline} holds no run yet; --update-baseline makes this one the baseline")
    results, remarks = judged(run, before, rules)
    for remark in remarks:
        warn(remark)
    return results, first_lines_of_run(run, before, rules)


def _judge_ref(ref: str, dsn: str, rounds: int, budget_s: float, rules: Rules) -> list[Result]:
    rule = f"not slower than {ref} by more than {rules.max_slowdown:.0%}"
    with revisions(ref) as (old, new):
        pairs = run_async(
            measure(
                *(old, new, dsn, rounds, budget_s),
                lambda number: err.print(f"round {number} of {rounds}"),
            )
        )
    return judge_pairs(rule, pairs, rules.max_slowdown)


def _show(results: list[Result], opening: Opening, *, as_json: bool) -> None:
    if as_json:
        print_json({"first_lines": opening.plain, **document(results)})
        return
    for line in opening.plain:
        out.print(line, markup=False)
    grid = figures_grid(headline(results))
    for heading in ("", "rule", "configuration", "seen"):
        grid.add_column(heading)
    for result in worst_first(results):
        colour = _COLOURS[result.status]
        texts = map(escape, (result.rule, result.subject, result.seen))
        grid.add_row(f"[{colour}]{result.status}[/]", *texts)
    out.print(grid)


def _write(
    results: list[Result], opening: Opening, junit_file: Path | None, markdown_file: Path | None
) -> None:
    """Also to GitHub's summary of the step, where there is one."""
    if junit_file is not None:
        write_whole(junit_file, junit(results))
    text = markdown(results, opening.markdown)
    if markdown_file is not None:
        write_whole(markdown_file, text)
    summary = step_summary()
    if summary is not None:
        append(summary, text.encode())


def _replace(baseline: Path, run: Path, code: int) -> None:
    """A run that fails its rules is no baseline; the first one has nothing to be held against."""
    first = not (baseline / "run.json").is_file()
    if code == 1 or (code and not first):
        warn(f"the baseline stays as it is: {run} does not pass")
        return
    portable = read_portability(baseline)
    if not first:
        shutil.rmtree(baseline)
    shutil.copytree(run, baseline, dirs_exist_ok=True)
    if portable is not None:  # of the machines and the yardstick, not of the code
        write_whole(baseline / PORTABILITY_FILE, portability_text(portable))
    err.print(f"{baseline} is now a copy of {run}", markup=False)
