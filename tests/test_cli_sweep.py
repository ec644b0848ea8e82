"""`batchbench sweep` as a user runs it: plans, budgets, the page that follows it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psycopg

from batchbench.config import child_environment
from batchbench.results import load_run

ROOT = Path(__file__).parents[1]
GRID = ("--profile", "sleep", "--strategy", "copy,unnest", "--driver", "psycopg")


def sweep(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "batchbench", "sweep", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    )


def test_a_dry_run_says_what_can_be_shown(tmp_path: Path) -> None:
    done = sweep(*GRID, "--repeats", "30", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sleep/copy/psycopg" in done.stdout
    shown = re.search(r"vary by 15%: (\d+)%", done.stdout)
    assert shown is not None
    assert 5 <= int(shown[1]) <= 15
    few = sweep(*GRID, "--repeats", "3", "--dry-run", cwd=tmp_path)
    assert "six blocks are the least" in few.stdout
    assert not (tmp_path / "results").exists()


def test_rows_of_a_payload_need_a_writer_to_go_through(tmp_path: Path) -> None:
    done = sweep(*GRID, "--payload-rows", "7", "--dry-run", cwd=tmp_path)
    assert done.returncode == 2
    assert "without --max-wait-ms no row goes through a Writer" in " ".join(done.stderr.split())


def test_a_budget_without_a_number_of_repeats(dsn18: str, tmp_path: Path) -> None:
    done = sweep(
        *(*GRID, "--rows", "200", "--budget", "2s", "--dsn", dsn18, "-o", "run"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "run")
    assert len(run.trials) >= 2
    assert len(run.trials) == 2 * len(run.yardsticks)
    wrong = sweep(*GRID, "--budget", "soon", cwd=tmp_path)
    assert (wrong.returncode, "such as 90s" in wrong.stderr) == (2, True)


def test_the_report_follows_a_sweep(dsn18: str, tmp_path: Path) -> None:
    """With the gates of its folder, and how far it is."""
    (tmp_path / "gates.toml").write_text(
        "[gate]\n[[gate.rule]]\nmetric = 'rows_per_s'\nabove = 1\n"
    )
    command = [
        *(sys.executable, "-m", "batchbench", "sweep", *GRID, "--watch"),
        *("--rows", "200", "--repeats", "6", "--dsn", dsn18, "-o", "run"),
    ]
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    ) as process:
        assert process.stderr is not None
        url = next(line for line in process.stderr if line.startswith("report: "))[8:].strip()
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=30) as answer:
            assert "batchbench" in answer.read().decode()
        seen: dict[str, Any] = {"reports": []}
        while not seen["reports"] and process.poll() is None:
            with urllib.request.urlopen(f"{url}data.json", timeout=30) as answer:
                seen = json.loads(answer.read())
        assert seen["live"]["planned"] >= seen["live"]["done"] > 0
        assert "gates passed" in seen["reports"][0]["first"]["passed"]["answer"]
        process.stderr.read()
        assert process.wait(60) == 0


def test_a_resume_names_the_tables_again(dsn18: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn18, autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    words = ("--dsn", dsn18, "-o", "run")
    table = ("--table", "orders", "--strategy", "copy", "--driver", "psycopg", "--rows", "5000")
    done = sweep(*table, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    refused = sweep("--resume", *words, cwd=tmp_path)
    assert (refused.returncode, "name it by --table" in refused.stderr) == (2, True)
    assert sweep("--resume", "--table", "orders", *words, cwd=tmp_path).returncode == 0
