"""The report as values: first lines, charts, open questions; nothing here renders a page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchbench.cli.advice import show_advice
from batchbench.config import Settings
from batchbench.errors import InputError
from batchbench.harness.planning import configured
from batchbench.report import (
    GateNote,
    LivePage,
    Report,
    build_report,
    build_reports,
    markdown,
    page,
    plain_lines,
)
from batchbench.report.current import AUTO_DRIVER, AUTO_STRATEGY
from batchbench.report.figures import change_text, number, percent, short, with_spread
from batchbench.report.groups import spread_of
from batchbench.report.model import BarChart, Chart, HeatChart, XYChart
from batchbench.report.text import in_markdown
from batchbench.results import Run, RunInfo, TrialRecord, load_run, open_run
from tests.fixtures.commands import app
from tests.test_recommend import copying, run_of
from tests.test_recommend_confirming import fresh
from tests.test_results import INFO, record

STEADY = [1.00, 1.02, 0.99, 1.01, 0.98, 1.00, 1.01, 0.99]
"""Of eight blocks: the machine's own ups and downs."""

OURS: Mapping[str, Any] = {
    "BATCH_STRATEGY": None,
    "BATCH_DRIVER": None,
    "BATCH_ENABLE_PARALLEL": False,
    "BATCH_PARALLELISM": 1,
}


def blocks(speed: float, wobble: float = 0.0) -> list[float]:
    """Speeds in every block; wobble: what sets this configuration apart from block to block."""
    return [
        speed * shared * (1 + wobble * math.sin(3.0 * index))
        for index, shared in enumerate(STEADY, 1)
    ]


def with_info(run: Run, **changes: Any) -> Run:
    return replace(run, info=replace(run.info, **changes))


def sleep_run(current: float = 80_000, best: float = 100_000, wobble: float = 0.01) -> Run:
    """Chunks of 50 are what is set, chunks of 5,000 what is fastest."""
    run = run_of({copying(50): blocks(current, wobble), copying(5_000): blocks(best)})
    return with_info(
        run,
        settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 50},
        command=("batchbench", "sweep", "--rows", "100", "--dsn", "***", "-o", "here"),
    )


def chart(report: Report, name: str) -> Chart:
    charts = [c for t in report.tables for c in (*t.speed_charts, *t.cost_charts)]
    return next(c for c in charts if c.id == name)


# --- figures ----------------------------------------------------------------------------------


def test_figures_are_rounded_to_what_they_are_worth() -> None:
    assert with_spread(756_009, 43_927) == "756,000 ± 44,000"
    assert with_spread(0.01234, 0.00111) == "0.0123 ± 0.0011"
    assert with_spread(756_009, None) == "756,000"
    assert (number(0.012345), number(0), short(1_234_567)) == ("0.0123", "0", "1.2M")
    assert (percent(1.234), percent(0.996), percent(0.5)) == ("+23%", "−0.4%", "−50%")


def test_a_difference_comes_with_its_interval_or_with_question_marks() -> None:
    assert change_text(1.23, 1.15, 1.31, 12) == "+23% [+15%, +31%]"
    assert "??" in change_text(1.23, None, None, 3)
    assert "3 pairs" in change_text(1.23, None, None, 3)


def test_the_interval_of_a_median_is_one_only_from_six_trials() -> None:
    few, many = spread_of([1.0, 2.0, 3.0]), spread_of(float(n) for n in range(1, 21))
    assert few is not None
    assert many is not None
    assert (few.low, few.high, few.exact) == (1.0, 3.0, False)
    assert "smallest to largest" in few.words
    # Of 20 values the 6th and the 15th: Conover, Practical Nonparametric Statistics.
    assert (many.low, many.middle, many.high, many.exact) == (6.0, 10.5, 15.0, True)
    assert spread_of([None]) is None


# --- first lines ------------------------------------------------------------------------------


def test_a_clear_gain_is_told_with_its_interval() -> None:
    report = build_report(sleep_run())
    first = report.first
    assert (first.passed.status, first.change.status) == ("good", "good")
    assert first.change.answer.startswith("Set 1 value: rows/s +25% [+2")
    gain = report.gains[0]
    assert gain.low is not None
    assert gain.high is not None
    assert gain.low < 1.25 < gain.high
    assert gain.symbol == "+"
    assert "BATCH_SLEEP_CHUNK_SIZE: 50 → 5000" in first.change.details


def test_a_gain_that_cannot_be_told_says_so() -> None:
    report = build_report(sleep_run(97_000, 100_000, wobble=0.3))
    assert report.first.change.status == "unknown"
    assert report.gains[0].symbol == "??"


def test_settings_that_are_best_already_are_kept() -> None:
    run = with_info(sleep_run(), settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 5_000})
    first = build_report(run).first
    assert (first.change.status, first.change.verdict) == ("good", "nothing")


def test_settings_that_were_not_measured_lead_to_the_command_that_does() -> None:
    run = with_info(sleep_run(), settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 777})
    report = build_report(run)
    assert report.first.change.verdict == "gain unknown"
    question = report.undecided[0]
    assert "current settings" in question.question
    assert "--chunk-size 777,5000" in question.command


def test_few_pairs_are_not_trusted() -> None:
    run = run_of({copying(50): [1e4, 1e4], copying(100): [2e4, 2e4]})
    trust = build_report(run).first.trust
    assert (trust.status, trust.verdict) == ("unknown", "not yet")
    assert trust.answer.startswith("2 pairs")


def test_noise_makes_a_run_trusted_only_roughly() -> None:
    calm, noisy = sleep_run(wobble=0.01), sleep_run(wobble=0.4)
    assert build_report(calm).first.trust.status == "good"
    assert build_report(noisy).first.trust.verdict == "only roughly"


def yardsticks(seconds: list[float]) -> tuple[TrialRecord, ...]:
    kind: Any = "yardstick"
    return tuple(
        replace(record(n), kind=kind, trial_id=f"yardstick#{n}", seconds=s, rows_per_s=100 / s)
        for n, s in enumerate(seconds, 1)
    )


def test_a_yardstick_that_moves_makes_the_run_contaminated() -> None:
    run = sleep_run()
    still = replace(run, records=run.records + yardsticks([0.1] * 8))
    moved = replace(run, records=run.records + yardsticks([0.1] * 4 + [0.2] * 4))
    assert build_report(still).first.trust.status == "good"
    trust = build_report(moved).first.trust
    assert (trust.status, trust.verdict) == ("bad", "contaminated")
    assert len(build_report(moved).trials.rows) == len(run.records)


def test_a_missed_goal_is_the_first_thing_said() -> None:
    run = run_of({copying(50): [100.0] * 8})
    assert build_report(run).first.passed.status == "bad"
    assert plain_lines(build_report(run).first)[0].startswith("[NO] Did it pass? Goal missed")


def test_what_auto_means_is_what_the_harness_measures() -> None:
    given = configured("sleep", Settings())
    assert (given.strategy, given.driver) == (AUTO_STRATEGY, AUTO_DRIVER)


def test_a_run_without_a_usable_trial_has_no_report() -> None:
    with pytest.raises(InputError, match="no usable trial"):
        build_report(run_of({copying(50): [None, None]}))


# --- charts -----------------------------------------------------------------------------------


def values_run() -> Run:
    """VALUES over asyncpg is cut to 3,276 rows: ten columns, 32,767 parameters."""
    keys = {("sleep", "values", "asyncpg", size, 1): blocks(speed) for size, speed in SIZES.items()}
    return run_of(keys, chunk_rows={5_000: 3_276, 10_000: 3_276})


SIZES = {1_000: 50_000.0, 5_000: 40_000.0, 10_000: 40_000.0}


def test_the_wall_is_where_trials_were_cut() -> None:
    report = build_report(values_run())
    drawn = chart(report, "throughput")
    assert isinstance(drawn, XYChart)
    marks = drawn.views[0].marks
    assert [(mark.axis, mark.at) for mark in marks] == [("x", 3_276)]
    assert "32,767 parameters" in marks[0].text
    assert [p.x for p in drawn.views[0].series[0].points] == [1_000, 3_276]


def test_the_wall_of_a_built_in_table_is_computed_where_no_trial_met_it() -> None:
    run = run_of({("sleep", "values", "psycopg", 5_000, 1): blocks(5e4)})
    texts = build_report(run).tables[0].shape
    assert any("6,553 rows" in text and "no trial met it" in text for text in texts)
    named = with_info(run, command=("batchbench", "sweep", "--table", "sleep"))
    assert not any("6,553" in text for text in build_report(named).tables[0].shape)


def test_memory_is_drawn_against_the_limit() -> None:
    run = with_info(sleep_run(), settings={**OURS, "BATCH_MEMORY_LIMIT_MB": 300.0})
    drawn = chart(build_report(run), "memory")
    assert isinstance(drawn, XYChart)
    assert [mark.at for mark in drawn.views[0].marks] == [500.0, 300.0]
    assert not drawn.views[-1].marks  # what the load added has no limit of its own


def test_the_heat_map_marks_what_is_recommended_and_what_failed() -> None:
    run = run_of(
        {
            copying(50): blocks(50_000),
            copying(100): blocks(100_000),
            copying(100, writers=2): [None] * 8,
        }
    )
    drawn = chart(build_report(run), "heat")
    assert isinstance(drawn, HeatChart)
    view = drawn.views[0]
    assert (view.columns, view.rows) == (("50", "100"), ("2", "1"))
    (empty, failed), (slow, best) = view.cells
    assert (empty.label, failed.label, slow.label) == ("", "failed", "50k")
    assert (best.share, best.chosen) == (1.0, True)
    assert "the server refused" in failed.text


def test_scaling_is_fitted_from_six_numbers_of_writers() -> None:
    def law(n: int) -> float:
        return 10_000 * n / (1 + 0.1 * (n - 1) + 0.01 * n * (n - 1))

    levels = (1, 2, 3, 4, 6, 8)
    full = run_of({copying(50, writers=n): blocks(law(n)) for n in levels})
    few = run_of({copying(50, writers=n): blocks(law(n)) for n in levels[:4]})
    fitted, bare = chart(build_report(full), "scaling"), chart(build_report(few), "scaling")
    assert isinstance(fitted, XYChart)
    assert isinstance(bare, XYChart)
    assert [series.style for series in fitted.views[0].series] == ["line", "curve"]
    assert "contention 0.1" in fitted.views[0].note
    assert [series.style for series in bare.views[0].series] == ["line"]
    one = run_of({copying(50): blocks(1e4)})
    assert all(c.id != "scaling" for c in build_report(one).tables[0].speed_charts)


def test_the_front_holds_what_nothing_else_beats() -> None:
    run = sleep_run()
    costly = tuple(
        replace(r, peak_rss_mb=200.0, chunk_seconds=(0.01,)) if r.chunk_rows == 50 else r
        for r in run.records
    )
    drawn = chart(build_report(replace(run, records=costly)), "pareto")
    assert isinstance(drawn, XYChart)
    strong = {point.x: point.strong for point in drawn.views[0].series[0].points}
    assert strong == {200.0: False, 90.0: True}


def test_latency_ends_at_all_chunks() -> None:
    drawn = chart(build_report(sleep_run()), "latency")
    assert isinstance(drawn, XYChart)
    points = drawn.views[0].series[0].points
    assert [(points[0].x, points[-1].x, points[-1].y)] == [(4.0, 6.0, 1.0)]


def test_wal_and_waits_are_drawn_where_they_were_seen() -> None:
    run = sleep_run()
    assert not {"wal", "waits"} & {c.id for c in build_report(run).tables[0].cost_charts}
    seen = seeing(run, {"wal_bytes": 12_000.0})
    first, *others = (replace(r, waits={"IO:WalSync": 0.75, "running": 0.25}) for r in seen.records)
    alone = replace(first, waits={"running": 1.0})
    report = build_report(replace(seen, records=(alone, *others)))
    assert "WAL: 120 bytes a row on average." in report.tables[0].cost
    wal, waits = chart(report, "wal"), chart(report, "waits")
    assert isinstance(wal, BarChart)
    assert isinstance(waits, BarChart)
    assert {bar.values for bar in wal.views[0].bars} == {(120.0,)}
    assert waits.views[0].parts == ("IO:WalSync", "running")
    assert waits.views[0].unit == "% of the time"
    # An event that a trial has not is 0 there.
    shares = sorted(bar.values for bar in waits.views[0].bars)
    assert shares == [(65.625, 34.375), (75.0, 25.0)]
    unknown = build_report(seeing(run, {"wal_bytes": None}))
    assert "WAL: not recorded." in unknown.tables[0].cost


def test_shares_of_waiting_are_drawn_where_no_single_events_were_kept() -> None:
    shares = {"running_share": 0.5, "client_wait_share": 0.125, "lock_wait_share": 0.0}
    drawn = chart(build_report(seeing(sleep_run(), shares)), "waits")
    assert isinstance(drawn, BarChart)
    view = drawn.views[0]
    assert dict(zip(view.parts, view.bars[0].values, strict=True)) == {
        "running": 50,
        "waiting for anything else": 37.5,
        "waiting for the client": 12.5,
    }


def seeing(run: Run, observed: Mapping[str, float | None]) -> Run:
    return replace(run, records=tuple(replace(r, observed=observed) for r in run.records))


def test_tables_of_any_name_get_colours_and_other_plugs_too() -> None:
    run = run_of({("a.b", "theirs", "other", 10, 1): [1e4], copying(10, table="a.b"): [2e4]})
    drawn = chart(build_report(run), "throughput")
    assert isinstance(drawn, XYChart)
    assert len({series.hue for series in drawn.views[0].series}) == 2


def test_no_two_series_look_alike_to_who_sees_no_colours() -> None:
    ways = [(s, d) for s in ("copy", "unnest", "values") for d in ("asyncpg", "psycopg")]
    drawn = chart(build_report(run_of({("t", *way, 10, 1): [1e4] for way in ways})), "throughput")
    assert isinstance(drawn, XYChart)
    assert len({series.shape % 8 for series in drawn.views[0].series}) == len(ways)


# --- open questions, trials, baseline ------------------------------------------------------------


def test_commands_can_be_pasted_and_hold_no_address() -> None:
    report = build_report(sleep_run())
    assert report.repeat.endswith('--rows 100 --dsn "$DATABASE_URL" -o here')
    sweeps = [one for one in report.undecided if "surely reach" not in one.question]
    assert sweeps
    for question in sweeps:
        assert question.command.startswith("batchbench sweep ")
        assert question.command.count('--dsn "$DATABASE_URL"') == 1
        assert question.command.count("--rows ") == 1
        assert " -o " not in question.command


def test_what_is_provisional_names_the_command_that_confirms_it() -> None:
    def confirming(run: Run) -> list[str]:
        return [one.command for one in build_report(run).undecided if "surely" in one.question]

    words = ("batchbench", "sweep", "--table", "a b", "--rows", "9", "--dsn", "***", "-o", "here")
    run = with_info(sleep_run(), command=words)
    assert confirming(run) == [
        """batchbench recommend run --confirm --table 'a b' --dsn "$DATABASE_URL\""""
    ]
    doubtful = fresh({copying(50): blocks(1e5, 0.3), copying(5_000): blocks(1e5)})
    assert "--budget " in confirming(replace(run, confirmations=(doubtful,)))[0]
    surely_not = fresh({copying(50): blocks(2e5), copying(5_000): blocks(1e5)})
    (command,) = confirming(
        replace(run, confirmations=(replace(surely_not, folder=Path("run/confirmation-1")),))
    )
    assert command == "batchbench recommend run/confirmation-1"
    sure = fresh({copying(50): blocks(5e4), copying(5_000): blocks(1e5)})
    assert confirming(replace(run, confirmations=(sure,))) == []


def test_the_commands_of_a_search_go_to_its_server_under_its_conditions() -> None:
    words = ("tune", "--max-p99-ms", "5", "--dsn", "***", "--regime", "sustained", "--budget", "9m")
    run = with_info(sleep_run(), command=("batchbench", *words))
    commands = [one.command for one in build_report(run).undecided if "sweep" in one.command]
    assert commands
    for command in commands:
        assert '--dsn "$DATABASE_URL" --regime sustained --profile sleep' in command
        assert "9m" not in command
        assert "--max-p99-ms" not in command


def test_another_transaction_boundary_is_a_change_too() -> None:
    run = run_of({copying(50): blocks(5e4), copying(5_000): blocks(1e5)})
    batch = tuple(
        replace(one, transaction="batch") if one.chunk_size == 5_000 else one for one in run.records
    )
    run = with_info(replace(run, records=batch), settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 5_000})
    change = build_report(run).first.change
    assert "--transaction of load: chunk → batch" in change.details
    assert change.answer.startswith("Set 1 value")


def test_settings_that_stay_say_nothing_of_the_gain_of_others() -> None:
    """Chunks of heart_rate stay as they are; what is set for sleep was not measured."""
    speeds = {copying(50, table="heart_rate"): blocks(1e5), copying(50): blocks(1e5)}
    settings = {**OURS, "BATCH_HEART_RATE_CHUNK_SIZE": 50, "BATCH_SLEEP_CHUNK_SIZE": 777}
    change = build_report(with_info(run_of(speeds), settings=settings)).first.change
    assert change.answer == "Set 1 value: gain ??, not measured"


def test_a_terminal_has_all_that_the_first_lines_rest_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What passed, what changes, what it rests on; the knee, the cost, and what is left open."""
    speeds = {copying(size): blocks(1e5 - size) for size in (100, 200, 300, 400, 500, 600, 700)}
    run = run_of({**speeds, copying(50): blocks(8e4, 0.01), copying(800): blocks(1e5)})
    plan = {**run.info.plan, "search": None}
    run = with_info(run, plan=plan, settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 50})
    show_advice(run, as_json=False)
    told = capsys.readouterr().out
    lines = told.splitlines()
    assert [line[5:12] for line in lines if line.startswith("[")] == [
        "Did it ",
        "What to",
        "Can it ",
    ]
    assert "     BATCH_SLEEP_CHUNK_SIZE: 50 → 100" in lines
    assert any("Noise of one trial" in line for line in lines)
    (chosen,) = [line for line in lines if line.lstrip().startswith("> ")]
    assert " 100 " in chosen
    assert "smallest chunk within 3% of the best" in told
    assert "Connections: 1 writer" in told
    assert "and 1 slower one (--json has all)" in told
    assert "not decided: Does the choice surely reach 0.95" in told
    assert "  batchbench recommend run --confirm" in told


def test_the_last_value_that_was_tried_raises_the_question_of_the_next() -> None:
    questions = [
        one for one in build_report(sleep_run()).undecided if "faster still" in one.question
    ]
    assert len(questions) == 1
    assert "--chunk-size 5000,10000,20000" in questions[0].command
    falls = run_of({copying(50): blocks(1e5), copying(500): blocks(5e4)})
    assert not [one for one in build_report(falls).undecided if "faster still" in one.question]


def test_odd_table_names_stay_one_word_of_the_command() -> None:
    odd = "it's; rm -rf $HOME"
    run = run_of({copying(50, table=odd): blocks(1e4), copying(60, table=odd): blocks(1e4, 0.2)})
    run = with_info(run, command=("batchbench", "sweep", "--table", odd))
    command = build_report(run).undecided[0].command
    assert """--table 'it'"'"'s; rm -rf $HOME'""" in command


def test_every_trial_is_listed_and_failures_say_why() -> None:
    run = run_of({copying(50): [1e4, 1e4], copying(60): [None, 1e4]})
    table = build_report(run).trials
    names = [column.name for column in table.columns]
    assert len(table.rows) == 4
    results = {row[names.index("result")]: row[names.index("why")] for row in table.rows}
    assert results == {"ok": "", "failed": "the server refused"}


def test_a_baseline_is_compared_as_it_is_without_yardsticks_and_says_so() -> None:
    report = build_report(sleep_run(current=40_000), sleep_run(current=80_000))
    assert report.baseline is not None
    changes = {row.name: (row.symbol, row.text) for row in report.baseline.rows}
    symbol, text = changes["sleep: copy over psycopg, 1 writer, chunks of 50"]
    assert symbol == "-"
    assert text.startswith("−50% [")
    assert any("yardstick" in doubt for doubt in report.baseline.doubts)
    before = sleep_run(current=80_000)
    elsewhere = replace(before.info.environment, cpu_count=99)
    before = replace(before, info=replace(before.info, environment=elsewhere))
    other = build_report(sleep_run(current=40_000), before)
    assert other.baseline is not None
    assert {row.symbol for row in other.baseline.rows} == {"??"}, "times of another machine"


def test_a_slower_machine_is_no_regression_by_its_yardstick() -> None:
    fast, slow = sleep_run(80_000, 100_000), sleep_run(40_000, 50_000)
    fast = replace(fast, records=fast.records + yardsticks([0.1] * 8))
    slow = replace(slow, records=slow.records + yardsticks([0.2] * 8))
    report = build_report(slow, fast)
    assert report.baseline is not None
    assert {row.symbol for row in report.baseline.rows} <= {"~", "??"}
    assert not report.baseline.doubts


# --- Markdown, command line -----------------------------------------------------------------------


def test_markdown_is_no_way_in_for_markup() -> None:
    assert in_markdown("<img src=x> [a](b) `c` *d*\n# e") == (
        r"\<img src=x\> \[a\]\(b\) \`c\` \*d\* \# e"
    )
    assert "<" not in markdown(
        build_report(run_of({copying(5, table="<b>"): [1e4]})).first
    ).replace(r"\<", "")


def stored(folder: Path, run: Run, info: RunInfo = INFO) -> Path:
    with open_run(folder, info) as writer:
        for one in run.records:
            writer.append(one)
    return folder


def test_the_command_writes_the_page_and_prints_the_first_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where no gates are configured
    folder = stored(tmp_path / "run", sleep_run())
    output = tmp_path / "new" / "report.html"
    done = CliRunner().invoke(app, ["report", str(folder), "-o", str(output)])
    assert done.exit_code == 0, done.output
    assert output.read_text(encoding="utf-8") == page(build_report(load_run(folder)))
    assert "Did it pass? Goal met" in done.output
    again = CliRunner().invoke(
        app, ["report", str(folder), "--baseline", str(folder), "--markdown", "-o", str(output)]
    )
    assert "**Can it be trusted?**" in again.output


RULES = "[gate]\n[[gate.rule]]\nmetric = 'rows_per_s'\nabove = {}\n"


@pytest.mark.parametrize(
    ("above", "first"),
    [
        (50, "[ok] Did it pass? {}; gates passed (2 of 2)."),
        (
            90_000,
            "[NO] Did it pass? {}; gates failed (1 of 2).",
        ),
        (None, "[ok] Did it pass? {}."),
    ],
)
def test_the_first_line_knows_the_gates(
    above: int | None, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path / "run", sleep_run())
    monkeypatch.chdir(tmp_path)
    if above is not None:
        Path("gates.toml").write_text(RULES.format(above))
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert first.format("Goal met on the table that was measured") in done.output
    assert CliRunner().invoke(app, ["report", str(folder), "--markdown"]).exit_code == 0
    page_text = Path("report.html").read_text()
    assert ("Gate rows_per_s" in page_text) == (above == 90_000)


def test_gates_that_were_not_measured_are_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stored(tmp_path / "run", sleep_run())
    monkeypatch.chdir(tmp_path)
    Path("gates.toml").write_text(RULES.format(1) + "table = 'workout'\n")
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert "[??] Did it pass?" in done.output
    assert "gates cannot tell (1 of 1)" in done.output
    Path("gates.toml").write_text(RULES.format("'fast'"))
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 2
    assert "rule 1" in done.output


def near_and_far() -> Run:
    near, far = sleep_run(), sleep_run(8_000, 10_000)
    moved = (replace(r, rtt_ms=20.0, trial_id=f"far{r.trial_id}") for r in far.records)
    return replace(near, records=(*near.records, *moved))


def test_round_trips_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pooled, the loads from far away would be noise of the near ones."""
    monkeypatch.chdir(tmp_path)
    both = near_and_far()
    folder, output = stored(tmp_path / "run", both), tmp_path / "report.html"
    words = ["report", str(folder), "-o", str(output)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert output.read_text() == page(*build_reports(load_run(folder)))
    assert done.output.count("Did it pass?") == 2
    assert "round trips of 20 ms more:\n" in done.output
    marked = CliRunner().invoke(app, [*words, "--markdown"])
    assert marked.output.count("#### round trips") == 2
    done = CliRunner().invoke(app, [*words, "--rtt-ms", "20", "--baseline", str(folder)])
    assert done.exit_code == 0, done.output
    far_away = load_run(folder).at(20)
    assert output.read_text() == page(build_report(far_away, far_away))
    with pytest.raises(InputError, match="told apart"):
        build_report(both)
    with LivePage() as live:
        live.update(both)
        reports = json.loads(live.data())["reports"]
    assert [(one["rtt_ms"], len(one["trials"]["rows"])) for one in reports] == [(0, 16), (20, 16)]


def test_a_round_trip_without_a_figure_is_named_in_the_others() -> None:
    both = near_and_far()
    failed = (replace(r, status="failed") if r.rtt_ms else r for r in both.records)
    (only,) = build_reports(replace(both, records=tuple(failed)))
    assert "no load with round trips of 20 ms more ended well" in only.warnings
    near, far = build_reports(both, both.at(20))
    assert (near.baseline, far.baseline is None) == (None, False)
    assert "the baseline has no round trips of 0 ms more" in near.warnings
    with pytest.raises(InputError, match="baseline has no round trips of 20 ms more, as run"):
        build_reports(both.at(20), both.at(0))


def test_gates_are_asked_of_every_round_trip() -> None:
    both = near_and_far()
    asked = []

    def judge(part: Run, before: Run | None) -> GateNote:
        asked.append((part.rtts_ms, before))
        return GateNote("bad", "failed", "gates failed (1 of 1)", ("Gate speed: fail.",))

    with LivePage(judge=judge) as live:
        live.update(both)
        live.update(both)
        text = live.data()
    assert text.count("gates failed (1 of 1)") == 2
    assert asked == [((0.0,), None), ((20.0,), None)]


@pytest.mark.parametrize("what", ["nothing", "no trials", "not a run", "only failures"])
def test_broken_and_empty_runs_are_one_sentence_and_exit_code_2(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "run"
    if what == "no trials":
        stored(folder, run_of({}))
    elif what == "not a run":
        folder.mkdir()
        (folder / "run.json").write_text("[]")
    elif what == "only failures":
        stored(folder, run_of({copying(50): [None]}))
    output = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", str(folder), "-o", str(output)])
    assert done.exit_code == 2
    assert done.output.startswith("error: ")
    assert len(done.output.splitlines()) == 1
    assert not output.exists()


def test_a_baseline_without_a_configuration_of_the_run_is_one_sentence() -> None:
    with pytest.raises(InputError, match=r"none of the configurations .* repeat the command"):
        build_report(sleep_run(), run_of({copying(7, table="other"): [1e4]}))


def test_lines_that_cannot_be_read_are_named_on_the_page(tmp_path: Path) -> None:
    folder = stored(tmp_path / "run", sleep_run())
    with (folder / "trials.ndjson").open("a") as stream:
        stream.write('{"kind": \n')
    report = build_report(load_run(folder))
    assert any("line 17" in warning for warning in report.warnings)
    assert json.loads(page(report).split('id="data">')[1].split("</script>")[0])
