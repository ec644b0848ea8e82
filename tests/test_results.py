"""Runs on disk: what is appended is read back, what is broken is named, nothing secret is kept."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from batchbench.errors import ConfigError, InputError
from batchbench.results import (
    SCHEMA_VERSION,
    Environment,
    Migration,
    Run,
    RunInfo,
    ServerInfo,
    TrialRecord,
    load_run,
    meets_goal,
    open_run,
    reading,
    safe_command,
)

SERVER = ServerInfo(kind="dsn", version="18.6", version_number=180006, settings={"fsync": "on"})
CLIENT = Environment(
    python="CPython 3.11", platform="Linux", cpu_count=2, memory_mb=8_000, packages={}
)
INFO = RunInfo(
    run_id="20260101_000000_abcdef",
    created="2026-01-01T00:00:00+00:00",
    command=("batchbench", "sweep"),
    plan={"rows": 100, "configurations": ({"table": "sleep"},)},
    seed=1,
    settings={"BATCH_PARALLELISM": 2},
    environment=CLIENT,
    server=SERVER,
    batchbench_version="0.1.0",
)


def record(repeat: int = 1, **changes: Any) -> TrialRecord:
    given = TrialRecord(
        kind="trial",
        trial_id=f"sleep/copy/psycopg/50/1#{repeat}",
        table="sleep",
        strategy="copy",
        driver="psycopg",
        chunk_size=50,
        chunk_rows=50,
        parallelism=1,
        writers=1,
        repeat=repeat,
        block=repeat,
        position=1,
        started_at="2026-01-01T00:00:01.000+00:00",
        status="ok",
        reason=None,
        rows=100,
        rows_verified=100,
        checksum_ok=True,
        seconds=0.01,
        rows_per_s=10_000.0,
        mb_per_s=1.0,
        chunks=2,
        chunk_seconds=(0.004, 0.006),
        cpu_s=0.002,
        peak_rss_mb=90.0,
        rss_before_mb=80.0,
        retries=0,
        goal_met=True,
    )
    return replace(given, **changes)


def stored(folder: Path, *records: TrialRecord) -> Path:
    with open_run(folder, INFO) as writer:
        for one in records:
            writer.append(one)
    return folder


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    failed = record(
        2, status="failed", reason="no", seconds=None, rows_per_s=None, chunks=0, chunk_seconds=()
    )
    run = load_run(stored(tmp_path / "run", record(1), failed))
    assert run.records == (record(1), failed)
    assert run.warnings == ()
    assert run.info.run_id == INFO.run_id
    assert run.info.server == SERVER
    assert [one.usable for one in run.records] == [True, False]


def test_each_record_is_on_disk_when_append_returns(tmp_path: Path) -> None:
    with open_run(tmp_path, INFO) as writer:
        writer.append(record(1))
        assert load_run(tmp_path).records == (record(1),)
        with pytest.raises(ValueError, match="stored already"):
            writer.append(record(1))


def test_warmups_are_no_trials(tmp_path: Path) -> None:
    run = load_run(stored(tmp_path, record(1, kind="warmup", trial_id="warmup:x#1"), record(2)))
    assert len(run.records) == 2
    assert run.trials == (record(2),)


@pytest.mark.parametrize(
    "change",
    [{"rows_verified": 99}, {"checksum_ok": False}, {"checksum_ok": None}, {"rows_per_s": None}],
)
def test_rows_that_were_not_found_make_a_trial_unusable(change: dict[str, Any]) -> None:
    assert not record(**change).usable


def test_percentiles_are_derived_and_p99_needs_500_chunks() -> None:
    seconds = tuple(n / 1_000 for n in range(1, 500))
    few = record(chunks=499, chunk_seconds=seconds)
    assert few.p50_s == pytest.approx(0.25)
    assert few.p95_s == pytest.approx(0.4741)
    assert few.p99_s is None
    assert few.max_s == 0.499
    many = record(chunks=500, chunk_seconds=(*seconds, 0.5))
    assert many.p99_s == pytest.approx(0.49501)
    none = record(chunks=0, chunk_seconds=())
    assert (none.p50_s, none.max_s) == (None, None)


def test_the_goal_is_10_000_rows_in_under_5_s_and_500_mb() -> None:
    assert meets_goal(2_000.1, 499.9)
    assert not meets_goal(2_000.0, 10.0)
    assert not meets_goal(9_999.0, 500.0)


def test_a_run_is_read_by_round_trip() -> None:
    near, far = record(1), record(2, rtt_ms=5.0)
    yardstick = record(3, kind="yardstick", trial_id="yardstick:sleep#1.1")
    run = Run(Path("run"), INFO, (near, yardstick, far))
    assert run.rtts_ms == (0.0, 5.0)
    assert run.at(5.0).records == (yardstick, far)
    assert run.at(0.0).trials == (near,)
    assert Run(Path("run"), INFO, ()).rtts_ms == (0.0,)


@pytest.mark.parametrize(
    "change", [{"table_state": "full"}, {"table_state": "filled:0"}, {"regime": "calm"}]
)
def test_conditions_that_no_sweep_has_are_left_out(tmp_path: Path, change: dict[str, str]) -> None:
    stored(tmp_path, record(1, table_state="filled:10", regime="sustained"), record(2, **change))
    run = load_run(tmp_path)
    assert [one.repeat for one in run.records] == [1]
    assert next(iter(change)) in run.warnings[0]


# --- what is broken -----------------------------------------------------------------------------


def test_broken_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    stored(tmp_path, record(1), record(2), record(3))
    path = tmp_path / "trials.ndjson"
    first, second, third = path.read_bytes().splitlines()
    wrong = json.dumps({**json.loads(second), "seconds": "soon"}).encode()
    unknown = json.dumps({**json.loads(second), "colour": 1}).encode()
    lines = [first, wrong, b"\xff{", unknown, b"", first, third]
    path.write_bytes(b"\n".join(lines) + b"\n" + second[:40])
    run = load_run(tmp_path)
    assert run.records == (record(1), record(3))
    assert [warning.split(":")[0] for warning in run.warnings] == [
        f"trials.ndjson, line {number}" for number in (2, 3, 4, 5, 6, 8)
    ]
    assert "seconds" in run.warnings[0]
    assert "colour" in run.warnings[2]
    assert "again" in run.warnings[4]
    assert "cut off" in run.warnings[5]


def test_a_run_without_trials_says_so(tmp_path: Path) -> None:
    stored(tmp_path)
    (tmp_path / "trials.ndjson").unlink()
    assert "no trials" in load_run(tmp_path).warnings[0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is no run"),
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": "1"}', "schema version '1'"),
        ("{}", "schema version None"),
        ('{"schema_version": 1}', "run_id"),
    ],
)
def test_what_is_no_run_is_one_sentence(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(InputError, match=says):
        load_run(tmp_path)


def test_an_older_version_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path, record(1), record(2))
    (tmp_path / "trials.ndjson").write_text(
        (tmp_path / "trials.ndjson").read_text().replace('"retries"', '"attempts"')
    )
    renamed = Migration(
        run=lambda raw: {**raw, "seed": raw["seed"] + 1},
        record=lambda raw: {("retries" if k == "attempts" else k): v for k, v in raw.items()},
    )
    monkeypatch.setattr(reading, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(reading, "MIGRATIONS", {**reading.MIGRATIONS, SCHEMA_VERSION: renamed})
    run = load_run(tmp_path)
    assert run.records == (record(1), record(2))
    assert (run.info.schema_version, run.info.seed) == (SCHEMA_VERSION + 1, INFO.seed + 1)


def test_a_run_of_version_1_is_read() -> None:
    """Written by batchbench as it was on 24 November 2026, and never touched since."""
    run = load_run(Path(__file__).parent / "samples" / "run-v1")
    assert run.warnings == ()
    assert len(run.records) == 10
    assert {record.epoch for record in run.records} == {1}
    assert all(record.usable for record in run.trials)


def test_a_run_of_version_1_survives_a_made_up_version_3(monkeypatch: pytest.MonkeyPatch) -> None:
    doubled = Migration(run=lambda raw: raw, record=lambda raw: {**raw, "rows": raw["rows"] * 2})
    monkeypatch.setattr(reading, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setattr(reading, "MIGRATIONS", {**reading.MIGRATIONS, SCHEMA_VERSION: doubled})
    run = load_run(Path(__file__).parent / "samples" / "run-v1")
    assert {record.rows for record in run.records} == {40_000}


# --- resuming -----------------------------------------------------------------------------------


def test_a_folder_with_a_run_needs_resume(tmp_path: Path) -> None:
    stored(tmp_path, record(1))
    with pytest.raises(ConfigError, match="--resume"):
        open_run(tmp_path, INFO)


def test_a_folder_with_something_else_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(ConfigError, match="not empty"):
            open_run(tmp_path, INFO, resume=resume)
    with pytest.raises(ConfigError, match="is a file"):
        open_run(tmp_path / "notes.txt", INFO)


def test_resume_drops_a_torn_line_and_goes_on(tmp_path: Path) -> None:
    stored(tmp_path, record(1), record(2))
    path = tmp_path / "trials.ndjson"
    path.write_bytes(path.read_bytes()[:-30])
    later = replace(INFO, run_id="another", server=replace(SERVER, version="18.7"))
    with open_run(tmp_path, later, resume=True) as writer:
        assert record(1).trial_id in writer
        assert record(2).trial_id not in writer
        writer.append(record(2))
    run = load_run(tmp_path)
    assert run.records == (record(1), record(2))
    assert run.info.run_id == INFO.run_id
    assert run.info.resumed[0].server.version == "18.7"
    assert run.warnings == ("start 2 of the run had another server, or other settings of it",)


def test_resume_refuses_another_plan_and_changes_nothing(tmp_path: Path) -> None:
    stored(tmp_path, record(1))
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="another plan .other rows"):
        open_run(tmp_path, replace(INFO, plan={**INFO.plan, "rows": 7}), resume=True)
    assert (tmp_path / "run.json").read_bytes() == before


def test_resume_takes_a_run_of_a_plan_that_lacked_what_is_not_used(tmp_path: Path) -> None:
    stored(tmp_path, record(1))
    newer = {**INFO.plan, "arrival_rows_per_s": None, "sources": {}}
    open_run(tmp_path, replace(INFO, plan=newer), resume=True).close()
    with pytest.raises(ConfigError, match="other arrival_rows_per_s"):
        open_run(tmp_path, replace(INFO, plan={**newer, "arrival_rows_per_s": 5.0}), resume=True)


def test_resume_without_a_run_starts_one(tmp_path: Path) -> None:
    with open_run(tmp_path / "new" / "run", INFO, resume=True) as writer:
        assert writer.records == []
    assert load_run(tmp_path / "new" / "run").info.resumed == ()


def test_two_writers_cannot_share_a_run(tmp_path: Path) -> None:
    with (
        open_run(tmp_path, INFO),
        pytest.raises(ConfigError, match="another sweep is writing"),
    ):
        open_run(tmp_path, INFO, resume=True)
    open_run(tmp_path, INFO, resume=True).close()


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["sweep", "--dsn", "postgresql://u:p@h/d", "--rows", "5"], "sweep --dsn *** --rows 5"),
        (["sweep", "--dsn=host=h password=p"], "sweep --dsn=***"),
        (["sweep", "postgres://u:p@h"], "sweep ***"),
        (["sweep", "host=h", "PASSWORD = p"], "sweep *** ***"),
        (["sweep", "--dsn"], "sweep --dsn"),
        (["sweep", "--output", "results/x"], "sweep --output results/x"),
    ],
)
def test_addresses_are_cut_from_the_command_line(given: list[str], kept: str) -> None:
    assert " ".join(safe_command(given)) == kept


def test_no_start_of_a_run_stores_an_address(tmp_path: Path) -> None:
    secret = replace(INFO, command=("sweep", "--dsn", "postgresql://me:hidden@secret-host/db"))
    open_run(tmp_path, secret).close()
    open_run(tmp_path, secret, resume=True).close()
    text = (tmp_path / "run.json").read_text()
    assert "hidden" not in text
    assert "secret-host" not in text


# --- the published schema -----------------------------------------------------------------------


@pytest.mark.parametrize(("name", "kind"), [("trial", TrialRecord), ("run", RunInfo)])
def test_the_published_schema_is_that_of_the_records(name: str, kind: type[Any]) -> None:
    published = files("batchbench.results") / "schema" / f"{name}-v{SCHEMA_VERSION}.json"
    assert json.loads(published.read_text()) == TypeAdapter(kind).json_schema()
