"""Ctrl-C, SIGTERM and kill -9, as a user does them to a running command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from batchbench.config import child_environment
from tests.fixtures.loading import execute, query

ROWS = 400_000
# Slow enough to be caught in the middle, on any machine: each chunk waits 20 ms in the server.
SLOW = """
CREATE TABLE t (id int4, note text);
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN PERFORM pg_sleep(0.02); RETURN NULL; END $$;
CREATE TRIGGER slow AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION slow()
"""


def start(dsn: str, folder: Path, *options: str) -> subprocess.Popen[str]:
    path = folder / "rows.csv"
    if not path.exists():
        path.write_text("id,note\n" + "".join(f"{i},row\n" for i in range(ROWS)))
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "batchbench",
            "load",
            str(path),
            "--table",
            "t",
            "--dsn",
            dsn,
            "--chunk-size",
            "1000",
            "--json",
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
    )


def until_some_are_there(dsn: str) -> None:
    for _ in range(600):
        if query(dsn, "SELECT count(*) FROM t")[0][0]:
            return
        time.sleep(0.05)
    pytest.fail("no row arrived")


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_reports_and_leaves_whole_chunks(
    dsn18: str, tmp_path: Path, how: signal.Signals
) -> None:
    execute(dsn18, SLOW)
    process = start(dsn18, tmp_path)
    until_some_are_there(dsn18)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    result = json.loads(out)
    ((count,),) = query(dsn18, "SELECT count(*) FROM t")
    assert 0 < result["committed"] == count < ROWS
    assert count % 1_000 == 0
    assert result["read"] == result["committed"] + result["unwritten"]


def test_a_killed_load_goes_on(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, SLOW)
    process = start(dsn18, tmp_path)
    until_some_are_there(dsn18)
    process.kill()
    _, err = process.communicate(timeout=60)
    ((count,),) = query(dsn18, "SELECT count(*) FROM t")
    assert 0 < count < ROWS
    assert count % 1_000 == 0
    (load_id,) = (line.split()[2] for line in err.splitlines() if line.startswith("load id:"))
    execute(dsn18, "DROP TRIGGER slow ON t")
    again = start(dsn18, tmp_path, "--resume", load_id)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert json.loads(out)["committed"] == ROWS
    assert query(dsn18, "SELECT count(*), count(DISTINCT id) FROM t") == [(ROWS, ROWS)]


@pytest.mark.parametrize("through", ["pipe", "stdin"])
def test_a_source_that_blocks_is_not_waited_for(dsn18: str, tmp_path: Path, through: str) -> None:
    """A named pipe whose writer stays: what was committed is said, and that is the end."""
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    pipe, ended = tmp_path / "pipe.csv", threading.Event()
    os.mkfifo(pipe)

    def write() -> None:
        with pipe.open("w") as file:
            file.write("id,note\n" + "".join(f"{i},row\n" for i in range(ROWS)))
            file.flush()
            ended.wait(60)

    writing = threading.Thread(target=write)
    writing.start()
    how = [*(sys.executable, "-m", "batchbench", "load", "--table", "t", "--dsn", dsn18, "--json")]
    by_name = through == "pipe"
    given = (Path(os.devnull) if by_name else pipe).open("rb")
    process = subprocess.Popen(
        [*how, "--chunk-size", "1000", "--format", "csv", str(pipe) if by_name else "-"],
        stdin=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=child_environment({"PYTHONPATH": str(Path(__file__).parents[1])}),
    )
    try:
        until_some_are_there(dsn18)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert not ended.is_set()
    finally:
        given.close()
        process.kill()
        ended.set()
        writing.join(30)
    assert process.returncode == 130, err
    assert "interrupted" in err
    assert "Fatal" not in err
    ((count, first),) = query(dsn18, "SELECT count(*), min(id) FROM t")
    assert 0 < json.loads(out)["committed"] == count
    assert first == 0, "a look at the format has taken what it saw"
