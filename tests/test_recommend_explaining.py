"""Why a value is recommended, and what others would cost; configured values against a run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from batchbench.cli.measured import slower_than_measured
from batchbench.config import child_environment, load_settings
from batchbench.errors import ConfigError, InputError
from batchbench.recommend import explain, pareto_front, ranking
from batchbench.results import Constraints, Run, TrialRecord
from tests.test_recommend import copying, run_of


def measured(blocks: int = 8) -> Run:
    """Larger chunks are faster, heavier and later; unnest is slower and lighter."""
    run = run_of(
        {
            copying(100): [50_000] * blocks,
            copying(500): [99_000] * blocks,
            copying(900): [100_000] * blocks,
            copying(500, writers=2): [98_000] * blocks,
            ("sleep", "unnest", "asyncpg", 500, 1): [60_000] * blocks,
        }
    )
    return replace(run, records=tuple(map(costly, run.records)))


def costly(record: TrialRecord) -> TrialRecord:
    heavy = 10 if record.strategy == "unnest" else 100
    return replace(
        record,
        peak_rss_mb=heavy + record.chunk_size / 100 + 50 * (record.parallelism - 1),
        chunk_seconds=(record.chunk_size / 1e5,) * 10,
    )


def test_every_chunk_size_of_the_chosen_way_with_what_it_costs() -> None:
    found = explain(measured(), "batch_sleep_chunk_size")
    assert (found.variable, found.value) == ("BATCH_SLEEP_CHUNK_SIZE", "500")
    assert "99,000" in found.reason
    assert [(one.value, one.chosen) for one in found.options] == [
        ("100", False),
        ("500", True),
        ("900", False),
    ]
    small, chosen, large = found.options
    assert chosen.to_chosen is None
    assert small.to_chosen is not None
    assert large.to_chosen is not None
    assert small.to_chosen.estimate == pytest.approx(50 / 99)
    assert large.to_chosen.low == pytest.approx(100 / 99)
    assert (small.peak_rss_mb, large.peak_rss_mb) == (101, 109)
    assert (small.tail_s, large.tail_s) == (0.001, 0.009)


@pytest.mark.parametrize(
    ("variable", "values", "chosen"),
    [
        ("BATCH_STRATEGY", ["copy", "unnest"], "copy"),
        ("BATCH_DRIVER", ["asyncpg", "psycopg"], "psycopg"),
        ("BATCH_PARALLELISM", ["1", "2"], "1"),
        ("BATCH_ENABLE_PARALLEL", ["true", "false"], "false"),
    ],
)
def test_a_value_of_the_way_is_shown_at_its_best(
    variable: str, values: list[str], chosen: str
) -> None:
    found = explain(measured(), variable)
    assert [one.value for one in found.options] == values
    assert [one.value for one in found.options if one.chosen] == [chosen]
    others = [one.to_chosen for one in found.options if not one.chosen]
    assert all(ratio is not None and ratio.estimate < 1 for ratio in others)


def test_the_front_is_what_nothing_beats_in_all_three() -> None:
    rows = [row for row in ranking(measured()) if row.ratio is not None]
    names = [(row.way.strategy, row.chunk_rows, row.way.parallelism) for row in pareto_front(rows)]
    assert names == [
        *(("copy", 900, 1), ("copy", 500, 1), ("unnest", 500, 1), ("copy", 100, 1))
    ]  # not: two writers, which cost more memory for less


def test_a_forbidden_value_is_shown_with_its_reason() -> None:
    found = explain(measured(), "BATCH_SLEEP_CHUNK_SIZE", Constraints(max_p99_ms=2))
    assert found.value == "100"
    assert [one.fault for one in found.options] == [
        "",
        "p99 5 of at most 2 ms",
        "p99 9 of at most 2 ms",
    ]


def test_only_what_is_recommended_can_be_explained() -> None:
    with pytest.raises(ConfigError, match="recommends no 'BATCH_SLEP'; it recommends BATCH_STRA"):
        explain(measured(), "BATCH_SLEP")


# --- configured values ----------------------------------------------------------------------------


def stored(folder: Path, run: Run) -> Path:
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(asdict(run.info)))
    lines = [json.dumps(asdict(record)) + "\n" for record in run.records]
    (folder / "trials.ndjson").write_text("".join(lines))
    return folder


CONFIGURED = {
    "BATCH_STRATEGY": "copy",
    "BATCH_DRIVER": "psycopg",
    "BATCH_ENABLE_PARALLEL": "false",
    "BATCH_SLEEP_CHUNK_SIZE": "100",
}


def test_slower_values_are_named_with_what_is_faster(tmp_path: Path) -> None:
    folder = stored(tmp_path / "run", measured())
    settings, _ = load_settings(None, CONFIGURED)
    found = slower_than_measured(folder, settings, {"BATCH_SLEEP_CHUNK_SIZE"})
    text = found["BATCH_SLEEP_CHUNK_SIZE"]
    assert "measurably slower" in text
    assert "chunks of 500" in text
    assert "+98%" in text
    assert slower_than_measured(folder, settings, {"BATCH_ORDERS_CHUNK_SIZE"}) == {}


@pytest.mark.parametrize(("size", "blocks"), [("900", 8), ("500", 8), ("100", 4), ("300", 8)])
def test_nothing_is_said_of_equals_of_few_pairs_and_of_what_was_not_measured(
    tmp_path: Path, size: str, blocks: int
) -> None:
    folder = stored(tmp_path / "run", measured(blocks))
    settings, _ = load_settings(None, CONFIGURED | {"BATCH_SLEEP_CHUNK_SIZE": size})
    assert slower_than_measured(folder, settings, {"BATCH_SLEEP_CHUNK_SIZE"}) == {}


def test_the_newest_run_of_the_table_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings, _ = load_settings(None, CONFIGURED)
    wanted = {"BATCH_SLEEP_CHUNK_SIZE"}
    assert slower_than_measured(None, settings, wanted) == {}
    run = measured()
    for name, created, confirms in (
        ("old", "2026-01-01T00:00:00+00:00", None),
        ("new", "2026-02-01T00:00:00+00:00", None),
        ("new/confirmation-1", "2026-03-01T00:00:00+00:00", "new"),
    ):
        info = replace(run.info, run_id=name, created=created, confirms=confirms)
        stored(tmp_path / "results" / name, replace(run, info=info))
    assert "of run new " in slower_than_measured(None, settings, wanted)["BATCH_SLEEP_CHUNK_SIZE"]
    with pytest.raises(InputError):
        slower_than_measured(tmp_path, settings, wanted)


def test_on_the_command_line(dsn18: str, tmp_path: Path) -> None:
    stored(tmp_path / "run", measured())

    def batchbench(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "batchbench", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=child_environment(CONFIGURED | {"PYTHONPATH": str(Path(__file__).parents[1])}),
        )

    shown = batchbench("recommend", "run", "--explain", "BATCH_SLEEP_CHUNK_SIZE")
    assert shown.returncode == 0, shown.stderr
    assert "0.505 (0.505 to 0.505)" in shown.stdout
    assert "beaten by nothing" in shown.stdout
    as_json = batchbench("recommend", "run", "--explain", "BATCH_DRIVER", "--json")
    assert json.loads(as_json.stdout)["value"] == "psycopg"
    checked = batchbench("check", "--dsn", dsn18, "--profile", "sleep", "--run", "run", "--json")
    assert checked.returncode == 0, checked.stderr
    assert "measurably slower" in checked.stderr
    assert "measurably slower" in json.loads(checked.stdout)[0]["measured"]
