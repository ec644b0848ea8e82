"""Client processes: fresh ones in each epoch; what kills one is a record, and the sweep goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from batchbench.config import Settings, child_environment
from batchbench.errors import ServerError
from batchbench.harness import SweepEvent, SweepNotice, SweepPlan, full_grid, run_sweep
from batchbench.results import Run, load_run
from batchbench.servers import Cluster

SETTINGS = Settings()
ROOT = Path(__file__).parents[1]
_PLUGIN = '''
"""COPY that first does what the file `deed` says, and leaves its process id in `pids`."""
import os, signal, time
from pathlib import Path
from types import SimpleNamespace
from batchbench.limits import COPY_USE
from batchbench.strategies import find_strategy

HERE = Path(__file__).parent

class Odd:
    name = "odd"

    def use(self, column_count):
        return COPY_USE

    def plan(self, target):
        plan = find_strategy("copy").plan(target)

        async def write(session, payload, *, full, alone):
            with (HERE / "pids").open("a") as stream:
                stream.write(f"{os.getpid()}\\n")
            deed = (HERE / "deed").read_text()
            if deed == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if deed == "hang":
                time.sleep(600)
            if deed == "eat":
                raise MemoryError
            if deed == "crash the server":
                found = await session.fetch("SELECT pg_backend_pid()::text")
                (HERE / "deed").write_text("behave")
                os.kill(int(found[0][0]), signal.SIGKILL)
            return await plan.write(session, payload, full=full, alone=alone)

        return SimpleNamespace(
            use=plan.use, guard="", prepare=plan.prepare, encode=plan.encode, write=write
        )
'''


@pytest.fixture
def deed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file that tells the strategy `odd` what to do. It is installed for this process and for
    those that it starts.
    """
    folder = tmp_path / "plugin"
    info = folder / "odd-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[batchbench.strategies]\nodd = oddplugin:Odd\n")
    (folder / "oddplugin.py").write_text(_PLUGIN)
    (folder / "deed").write_text("behave")
    monkeypatch.syspath_prepend(folder)
    yield folder / "deed"
    sys.modules.pop("oddplugin", None)


def plan_of(*strategies: str, **changes: Any) -> SweepPlan:
    grid = full_grid(["heart_rate"], strategies, ["psycopg"], [200], [1])
    options: dict[str, Any] = {"rows": 400, "repeats": 2, "warmups": 0, **changes}
    return SweepPlan(configurations=grid, **options)


def reasons(run: Run, strategy: str) -> list[str | None]:
    return [record.reason for record in run.trials if record.strategy == strategy]


async def test_each_epoch_has_a_process_of_its_own(dsn18: str, tmp_path: Path, deed: Path) -> None:
    plan = plan_of("odd", repeats=3, epochs=3, warmups=1)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path / "run")
    assert reasons(run, "odd") == [None] * 3
    assert [record.epoch for record in run.trials] == [1, 2, 3]
    assert [record.epoch for record in run.records if record.kind == "warmup"] == [1, 2, 3]
    pids = dict.fromkeys((deed.parent / "pids").read_text().split())
    assert len(pids) == 3
    assert str(os.getpid()) not in pids
    for pid in pids:
        assert not psutil.pid_exists(int(pid))


async def test_a_client_that_dies_is_a_record(dsn18: str, tmp_path: Path, deed: Path) -> None:
    deed.write_text("die")
    events: list[SweepEvent] = []
    plan = plan_of("copy", "odd", repeats=4)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path / "run", on_progress=events.append)
    assert reasons(run, "copy") == [None] * 4
    lost = reasons(run, "odd")
    assert len(lost) == 2, "after that it is left out"
    assert all("SIGKILL" in str(reason) for reason in lost)
    odd = next(record for record in run.trials if record.strategy == "odd")
    assert (odd.status, odd.seconds, odd.rows_verified, odd.usable) == ("failed", None, None, False)
    assert max(record.epoch for record in run.records) == 3
    told = [event.text for event in events if isinstance(event, SweepNotice)]
    assert sum("left out from now on" in text for text in told) == 1
    deed.write_text("behave")
    again = await run_sweep(plan, dsn18, SETTINGS, tmp_path / "run", resume=True)
    assert reasons(again, "odd") == [*lost, None, None], "another start tries again"
    assert len({record.trial_id for record in again.records}) == len(again.records) == 12


@pytest.mark.parametrize(("does", "says"), [("hang", "did not answer"), ("eat", "out of memory")])
async def test_a_client_that_hangs_or_lacks_memory_is_a_record(
    dsn18: str, tmp_path: Path, deed: Path, monkeypatch: pytest.MonkeyPatch, does: str, says: str
) -> None:
    monkeypatch.setattr("batchbench.harness.client.STOP_LIMIT_S", 1.0)
    deed.write_text(does)
    run = await run_sweep(
        plan_of("odd", "copy", repeats=1), dsn18, SETTINGS, tmp_path / "run", trial_timeout_s=1.0
    )
    assert says in str(reasons(run, "odd")[0])
    assert reasons(run, "copy") == [None]


@pytest.mark.parametrize("own_cluster", ["pg18", "pg15"], indirect=True)
@pytest.mark.parametrize("apart", [True, False])
async def test_a_server_that_crashes_is_a_record(
    own_cluster: Cluster, tmp_path: Path, deed: Path, apart: bool
) -> None:
    deed.write_text("crash the server")
    plan = plan_of("copy", "odd")
    run = await run_sweep(plan, own_cluster.dsn, SETTINGS, tmp_path / "run", apart=apart)
    assert reasons(run, "copy") == [None] * 2
    lost, good = reasons(run, "odd")
    assert lost is not None
    assert good is None
    assert max(record.epoch for record in run.records) == 2


async def test_a_server_that_stays_away_ends_the_sweep(
    own_cluster: Cluster, tmp_path: Path
) -> None:
    stopped: list[SweepEvent] = []

    def stop(event: SweepEvent) -> None:
        if not stopped and type(event).__name__ == "TrialEnded":
            stopped.append(event)
            own_cluster.stop("immediate")

    with pytest.raises(ServerError):
        await run_sweep(
            plan_of("copy", repeats=5),
            own_cluster.dsn,
            Settings(reconnect_timeout_s=1.0),
            tmp_path / "run",
            on_progress=stop,
        )
    records = load_run(tmp_path / "run").records
    assert [record.status for record in records] == ["ok", "failed"]


async def test_a_client_that_cannot_read_what_is_asked_ends() -> None:
    """It would be waited for, else: its answer never comes."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchbench.harness.child"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    )
    assert process.stdin is not None
    process.stdin.write((2).to_bytes(8, "big") + b"\x80{")
    await process.stdin.drain()
    async with asyncio.timeout(30):
        await process.wait()


async def test_a_client_that_never_starts_ends_the_sweep(
    dsn18: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batchbench.harness.client.sys.executable", "/bin/false")
    with pytest.raises(ServerError, match="exit code 1"):
        await run_sweep(plan_of("copy"), dsn18, Settings(reconnect_timeout_s=0.1), tmp_path / "run")


async def test_an_interrupted_sweep_takes_its_client_along(dsn18: str, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "batchbench", "sweep", "--profile", "sleep", "--rows", "500")
    options = ("--strategy", "copy", "--repeats", "500", "--dsn", dsn18, "-o", "run")
    parent = await asyncio.create_subprocess_exec(
        *(*command, *options),
        cwd=tmp_path,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    )
    trials = tmp_path / "run" / "trials.ndjson"
    deadline = time.monotonic() + 30
    while not (trials.exists() and trials.read_bytes().count(b"\n") >= 5):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    clients = psutil.Process(parent.pid).children(recursive=True)
    parent.send_signal(signal.SIGINT)
    _, errors = await asyncio.wait_for(parent.communicate(), 30)
    assert parent.returncode == 130
    assert "Traceback" not in errors.decode()
    assert psutil.wait_procs(clients, timeout=15)[1] == []
    with psycopg.connect(dsn18) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'batchbench%'"
        )
        assert found.fetchone() == (0,)


_PARENT = """
import asyncio, sys
from pathlib import Path
from batchbench.config import Settings
from batchbench.harness import run_sweep
from tests.test_harness_apart import plan_of
plan = plan_of("copy", "values", repeats=8, epochs=4)
asyncio.run(run_sweep(plan, sys.argv[1], Settings(), Path(sys.argv[2])))
"""


@pytest.mark.parametrize("after", [5, 6], ids=["in a block", "between epochs"])
async def test_killed_and_resumed(dsn18: str, tmp_path: Path, after: int) -> None:
    """An epoch has two blocks of three loads; the next one begins with a process that starts."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PARENT, dsn18, tmp_path / "run"),
        env=child_environment({"PYTHONPATH": str(ROOT)}),
    )
    trials = tmp_path / "run" / "trials.ndjson"
    deadline = time.monotonic() + 30
    while not (trials.exists() and trials.read_bytes().count(b"\n") >= after):
        assert time.monotonic() < deadline
        assert parent.returncode is None
        await asyncio.sleep(0.01)
    clients = psutil.Process(parent.pid).children(recursive=True)
    os.kill(parent.pid, signal.SIGKILL)
    await parent.wait()
    stored = load_run(tmp_path / "run")
    assert len(stored.records) < 24
    plan = plan_of("copy", "values", repeats=8, epochs=4)
    run = await run_sweep(plan, dsn18, SETTINGS, tmp_path / "run", resume=True)
    assert len(run.trials) == len({record.trial_id for record in run.trials}) == 16
    assert run.records[: len(stored.records)] == stored.records
    assert [record.reason for record in run.records if not record.usable] == []
    epochs = [record.epoch for record in run.records]
    assert epochs == sorted(epochs)
    assert epochs[len(stored.records)] == max(r.epoch for r in stored.records) + 1
    assert len(clients) <= 2
    assert psutil.wait_procs(clients, timeout=15)[1] == []
