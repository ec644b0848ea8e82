"""What pytest-benchmark measured, as a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from batchbench.compare import compare
from batchbench.config import child_environment
from batchbench.errors import InputError
from batchbench.results import SCHEMA_VERSION, load_run
from batchbench.results.imported import MOST_TRIALS, read_benchmarks
from tests.fixtures.commands import app

TESTS = """
import pytest

@pytest.mark.parametrize("size", [10, 1000])
def test_sum(benchmark, size):
    benchmark.extra_info.update(rows=size, strategy="sum", chunk_size=size, writers=2)
    benchmark.pedantic(sum, args=(range(size),), rounds=12)

def test_bare(benchmark):
    benchmark.pedantic(sum, args=([1],), rounds=8)
"""


def benchmark(
    seconds: Sequence[float] = (0.5, 0.25), name: str = "test_a.py::test_a", **noted: object
) -> dict[str, Any]:
    return {"fullname": name, "extra_info": noted, "stats": {"data": list(seconds)}}


def written(path: Path, *benchmarks: dict[str, Any]) -> Path:
    document = {"version": "5.3", "datetime": "2026-01-02T03:04:05+00:00"}
    path.write_text(json.dumps({**document, "benchmarks": benchmarks}))
    return path


def test_what_pytest_benchmark_writes_is_read(tmp_path: Path) -> None:
    """Its own file, by the version that is installed."""
    (tmp_path / "test_x.py").write_text(TESTS)
    words = ("-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--benchmark-json=b.json")
    subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--rootdir", tmp_path, "test_x.py"],
        cwd=tmp_path,
        env=child_environment({"PYTHONPATH": None}, without=("PYTEST_",)),
        capture_output=True,
        check=True,
    )
    run = CliRunner().invoke(
        app, ["import-benchmark", str(tmp_path / "b.json"), "-o", str(tmp_path / "run")]
    )
    assert run.exit_code == 0, run.output
    found = load_run(tmp_path / "run")
    assert not found.warnings
    assert found.info.schema_version == SCHEMA_VERSION
    assert [record.key.name for record in found.trials[::12]] == [
        "test_x.py sum pytest-benchmark 10 x 2",
        "test_x.py sum pytest-benchmark 1,000 x 2",
        "test_x.py test_bare pytest-benchmark 1 x 1",
    ]
    assert all(r.usable and r.rows_per_s == r.rows / r.seconds for r in found.trials if r.seconds)


def test_every_file_is_an_epoch_and_many_rounds_are_pooled(tmp_path: Path) -> None:
    one = written(tmp_path / "one.json", benchmark([1.0, 3.0] * MOST_TRIALS, rows=10))
    other = written(tmp_path / "other.json", benchmark([2.0] * 7, rows=10))
    _, records = read_benchmarks([one, other])
    assert [record.epoch for record in records] == [1] * MOST_TRIALS + [2] * 7
    assert {record.rows_per_s for record in records} == {5.0}
    assert len({record.trial_id for record in records}) == len(records)


def imported(folder: Path, name: str, speeds: Sequence[float]) -> str:
    """Of a test whose name could be taken for markup."""
    files = [
        written(
            folder / f"{name}{n}.json",
            benchmark([speed, 1.01 * speed, 0.99 * speed] * 3, "test_a.py::test_a[red]"),
        )
        for n, speed in enumerate(speeds)
    ]
    words = ["import-benchmark", *map(str, files), "-o", str(folder / name)]
    assert CliRunner().invoke(app, words).exit_code == 0
    return str(folder / name)


def test_the_commands_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    wobble = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0]
    base = imported(tmp_path, "base", [0.1 * w for w in wobble])
    slow = imported(tmp_path, "slow", [0.15 * w for w in reversed(wobble)])
    ratio = compare(load_run(Path(base)), load_run(Path(slow))).differences[0].verdict.ratio
    assert ratio.estimate == pytest.approx(1 / 1.5, rel=0.02)
    assert ratio.epochs == 6
    Path("gates.toml").write_text("[gate]\n[[gate.rule]]\nmetric = 'p95_s'\nbelow = 1\n")
    commands = {
        0: (["gate", base, "--baseline", base], ["compare", base, base], ["runs", "."]),
        1: (["gate", slow, "--baseline", base], ["compare", base, slow, "--fail-above", "5%"]),
        2: (["recommend", base],),
    }
    for code, of_code in commands.items():
        for words in of_code:
            done = CliRunner().invoke(app, words)
            assert done.exit_code == code, (words, done.output)
            assert words[0] not in ("gate", "compare") or "test_a[red]" in done.output
    assert "no BATCH_* to set" in CliRunner().invoke(app, ["recommend", base]).output
    done = CliRunner().invoke(app, ["report", base])
    assert "What to change? Nothing: benchmarks have no settings." in done.output
    assert "[ok] Did it pass? Benchmarks have no goal of their own; gates passed" in done.output


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        ("{", "no JSON of pytest-benchmark"),
        ('{"benchmarks": []}', "no JSON of pytest-benchmark"),
        (benchmark([0.5, 0.0]), "stats.data.1: Input should be greater than 0"),
        (benchmark([]), "has no single rounds"),
        (benchmark(rows="many"), "extra_info.rows"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(content: Any, says: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    if isinstance(content, dict):
        written(path, content)
    elif content is not None:
        path.write_text(content)
    done = CliRunner().invoke(app, ["import-benchmark", str(path), "-o", str(tmp_path / "run")])
    assert done.exit_code == 2
    assert says in done.output
    assert done.output.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_benchmarks_that_are_one_configuration_are_refused(tmp_path: Path) -> None:
    same = (benchmark(name=f"a.py::{name}", strategy="copy") for name in ("test_a", "test_b"))
    with pytest.raises(InputError, match="test_a and a.py::test_b are the same configuration"):
        read_benchmarks([written(tmp_path / "b.json", *same)])
