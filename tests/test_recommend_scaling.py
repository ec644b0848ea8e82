"""Speed over writers: the law, its bounds, and what limits, from records alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batchbench.recommend import env_text, ladders, recommend
from batchbench.recommend.scaling import limit_of
from batchbench.results import Run, TrialRecord, open_run
from tests.fixtures.commands import app
from tests.test_recommend import copying, run_of
from tests.test_results import INFO, record

LEVELS = (1, 2, 3, 4, 6, 8)


def law(n: int) -> float:
    return 10_000 * n / (1 + 0.1 * (n - 1) + 0.01 * n * (n - 1))


def scaled(levels: tuple[int, ...] = LEVELS) -> Run:
    wobble = (1.0, 1.02, 0.98, 1.01, 0.99, 1.0)
    return run_of({copying(50, writers=n): [law(n) * w for w in wobble] for n in levels})


def test_the_law_is_found_with_its_intervals_and_says_nothing_far_away() -> None:
    (ladder,) = ladders(scaled())
    assert ladder.fit is not None
    for found, true in ((ladder.fit.contention, 0.1), (ladder.fit.crosstalk, 0.01)):
        assert found.low <= true <= found.high
        assert found.value == pytest.approx(true, abs=0.02)
    assert ladder.fit.rows_per_s(16) > 0
    with pytest.raises(ValueError, match="past 16"):
        ladder.fit.rows_per_s(17)
    assert "8 writers write 3.5" in ladder.sentence
    assert "peak near 9" in ladder.sentence


@pytest.mark.parametrize(
    ("levels", "says"),
    [
        ((1,), None),
        ((1, 2), ""),
        ((1, 2, 3, 4), "4 numbers of writers were measured, a fit needs 6"),
    ],
)
def test_under_six_levels_nothing_is_fitted(levels: tuple[int, ...], says: str | None) -> None:
    found = ladders(scaled(levels))
    assert [ladder.fit for ladder in found] == [None] * len(found)
    assert (found[0].sentence if found else None) == says


def test_a_level_that_failed_is_no_level() -> None:
    run = scaled()
    broken = tuple(
        replace(r, status="failed", reason="no") if (r.parallelism, r.block) == (8, 2) else r
        for r in run.records
    )
    (ladder,) = ladders(replace(run, records=broken))
    assert tuple(ladder.rows_per_s) == LEVELS[:-1]
    assert ladder.fit is None


def test_a_second_writer_that_only_harms_peaks_at_one() -> None:
    speeds = {copying(50, writers=n): [1e5 / n**1.5] * 6 for n in LEVELS}
    (ladder,) = ladders(run_of(speeds))
    assert ladder.fit is not None
    assert ladder.fit.peak == 1.0


def seen(
    waits: Mapping[str, float], cpu_s: float = 0.1, samples: float = 30, **observed: float
) -> list[TrialRecord]:
    one = replace(
        record(1), seconds=1.0, cpu_s=cpu_s, waits=waits, observed={"samples": samples, **observed}
    )
    return [one]


@pytest.mark.parametrize(
    ("records", "by"),
    [
        (seen({"running": 0.2}, 0.3, server_cpu_s=1.5), "server CPU"),
        (seen({"running": 0.2}, 1.2, server_cpu_s=0.7), "client"),
        (seen({"LWLock:WALWrite": 1.0}, 0.95), "client"),
        (seen({"running": 0.6, "Client:ClientRead": 0.4}), "server CPU"),
        (seen({"running": 0.4, "LWLock:WALWrite": 0.3, "IO:WalSync": 0.3}), "WAL"),
        (seen({"running": 0.4, "Lock:extend": 0.3, "LWLock:BufferContent": 0.3}), "locks"),
        (seen({"running": 0.4, "IO:DataFileExtend": 0.6}), "data files"),
        (seen({"Client:ClientRead": 0.7, "running": 0.3}, server_cpu_s=0.2), "client"),
        (seen({"Client:ClientRead": 1.0}, samples=3), None),
        (seen({}), None),
    ],
)
def test_what_limits_is_read_from_what_the_samplers_saw(
    records: list[TrialRecord], by: str | None
) -> None:
    assert limit_of(records, cores=2).by == by


def test_what_may_not_be_seen_is_unknown_with_the_reason() -> None:
    unseen = replace(
        record(1), cpu_s=None, observed={}, unobserved={"running_share": "this role may not"}
    )
    limit = limit_of([unseen], cores=2)
    assert (limit.by, limit.text) == (None, "this role may not")


def test_the_env_text_and_the_json_have_it(tmp_path: Path) -> None:
    run = scaled()
    (line,) = [line for line in env_text(recommend(run)).splitlines() if "scaling" in line]
    assert line.startswith("# scaling of sleep, copy over psycopg, chunks of 50: contention 0.1")
    with open_run(tmp_path / "run", INFO) as writer:
        for one in run.records:
            writer.append(one)
    printed = CliRunner().invoke(app, ["recommend", str(tmp_path / "run"), "--json"]).stdout
    (told,) = json.loads(printed)["scaling"]
    assert told["fit"]["holds_up_to_writers"] == 16
    assert told["fit"]["contention"]["low"] < told["fit"]["contention"]["high"]
    assert told["rows_per_s"]["1"] == law(1)
