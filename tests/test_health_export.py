"""The example service, in this process, against a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from batchbench.config import Settings, child_environment
from examples.health_export import dashboard, demo
from examples.health_export.payloads import payloads, tables
from examples.health_export.sending import Sent
from examples.health_export.service import create_app
from tests.fixtures.faults import skip, until
from tests.fixtures.loading import execute, query

USER = "7f3c1e34-4a55-4ca6-9a35-1b6a5dd1a001"
AT = "2025-09-09T05:06:07+00:00"
SECRET = 3_000_000_000  # no int4, and not to be repeated


@asynccontextmanager
async def service(dsn: str, **how: Any) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(dsn, Settings(), **how)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


def body(*metrics: dict[str, Any]) -> bytes:
    return json.dumps({"data": {"metrics": list(metrics)}}).encode()


def heart_rate(beats: int, at: str = AT) -> dict[str, Any]:
    return {"type": "HeartRate", "user_id": USER, "recorded_at": at, "heart_rate": beats}


async def test_every_metric_is_answered_for(dsn: str) -> None:
    execute(dsn, tables())
    later = AT.replace("05:06", "05:07")
    pressure = {
        "type": "BloodPressure", "user_id": USER, "recorded_at": AT,
        "systolic": 120, "diastolic": 80,
    }  # fmt: skip
    sent = body(
        heart_rate(60), heart_rate(SECRET), heart_rate(61), heart_rate(62, later), pressure,
        {"type": "Mood", "user_id": USER, "recorded_at": AT},
    )  # fmt: skip
    async with service(dsn) as client:
        answered = await client.post("/payloads", content=sent)
        again = await client.post("/payloads", content=sent)
        exposed = (await client.get("/metrics")).text
    assert answered.status_code == 200
    answer = answered.json()
    assert (answer["received"], answer["committed"], answer["duplicates"]) == (6, 3, 1)
    assert answer["not_loaded"] == {"Mood": 1}
    of_heart_rate = answer["metrics"]["heart_rate"]
    assert of_heart_rate["duplicate_rows"] == [3]
    (rejected,) = of_heart_rate["rejected_rows"]
    assert (rejected["row"], rejected["sqlstate"], rejected["column"]) == (2, "22003", "heart_rate")
    assert answer["metrics"]["blood_pressure"]["committed"] == 1
    assert (again.json()["committed"], again.json()["duplicates"]) == (0, 4)
    assert str(SECRET) not in answered.text + exposed
    assert query(dsn, "SELECT heart_rate FROM heart_rate_metrics ORDER BY recorded_at") == [
        *((60,), (62,))
    ]
    line = 'batchbench_rows_total{state="committed",table="public.heart_rate_metrics"} 2.0'
    assert line in exposed


async def test_an_apps_export_needs_its_user(dsn18: str) -> None:
    execute(dsn18, tables())
    samples = [{"date": "2025-09-09 05:06:07 +0000", "Avg": 64}]
    sent = body({"name": "heart_rate", "units": "count/min", "data": samples})
    async with service(dsn18) as client:
        refused = await client.post("/payloads", content=sent)
        taken = await client.post("/payloads", content=sent, params={"user_id": USER})
    assert refused.status_code == 422
    assert "user_id" in refused.json()["detail"]
    assert taken.json()["committed"] == 1


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        (b"{", 422, "cut off"),
        (b'{"a": 1}', 422, "not a health payload"),
        (b"", 422, "payload"),
        (b"x" * 2_000, 413, "1,000 bytes"),
    ],
)
async def test_what_is_no_payload_is_refused(
    dsn18: str, sent: bytes, status: int, why: str
) -> None:
    execute(dsn18, tables())
    async with service(dsn18, most_body_bytes=1_000) as client:
        refused = await client.post("/payloads", content=sent)
    assert refused.status_code == status
    assert why in refused.json()["detail"]


async def test_what_is_not_written_is_said(dsn18: str) -> None:
    """And nothing of its payload is written either; others are not harmed."""
    execute(dsn18, tables())
    sleep = {
        "type": "Sleep", "user_id": USER, "sleep_start": AT, "sleep_end": AT, "duration_minutes": 1
    }  # fmt: skip
    sent = body(heart_rate(60), sleep)
    async with service(dsn18) as client:
        execute(dsn18, "ALTER TABLE sleep_metrics RENAME TO gone")
        first = await client.post("/payloads", content=sent)
        other = await client.post("/payloads", content=body(heart_rate(61)))
        execute(dsn18, "ALTER TABLE gone RENAME TO sleep_metrics")
        second = await client.post("/payloads", content=sent)
    assert first.status_code == 503
    assert (first.json()["committed"], first.json()["unwritten"]) == (0, 2)
    assert other.json()["committed"] == 1
    assert second.status_code == 200
    assert (second.json()["committed"], second.json()["duplicates"]) == (1, 1)


async def test_the_demos_accounting_holds_and_can_fail(dsn18: str) -> None:
    execute(dsn18, tables())
    sent = []
    async with service(dsn18) as client:
        for payload in payloads(5, 200):
            answered = await client.post("/payloads", content=payload.body)
            sent.append(Sent(payload, 0.1, answered.status_code, answered.json()))
        exposed = (await client.get("/metrics")).text
    assert [one.payload.again for one in sent] == [False] * 4 + [True]
    accounts = demo.accounts_of(sent)
    demo.compare(accounts, dsn18, exposed)
    assert accounts.faults == []
    assert accounts.states["heart_rate"]["committed"] > 500
    execute(dsn18, "DELETE FROM workouts WHERE id = (SELECT min(id::text)::uuid FROM workouts)")
    demo.compare(accounts, dsn18, exposed)
    (fault,) = accounts.faults
    assert fault.startswith("public.workouts: rows")


_KILLED = """
import sys
from examples.health_export import dashboard
dashboard._until_ready = lambda *_: None  # nothing is there to be scraped
with dashboard.open_prometheus("127.0.0.1:9"):
    print(flush=True)
    sys.stdin.read()
"""


def test_prometheus_ends_with_a_demo_that_is_killed(tmp_path: Path) -> None:
    if shutil.which("prometheus") is None:
        skip(dashboard.NOT_INSTALLED)
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED],
        cwd=Path(demo.__file__).parents[2],
        env=child_environment({"TMPDIR": str(tmp_path)}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        assert _working_below(tmp_path)
        process.kill()
        until("prometheus has ended", lambda: not _working_below(tmp_path))
        until("its folder is gone", lambda: not any(tmp_path.iterdir()))


def _working_below(folder: Path) -> list[str]:
    """Processes whose working folder is below that one."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            at = (process / "cwd").readlink()
        except OSError:  # it has ended, or is not ours
            continue
        if at.is_relative_to(folder):
            found.append(process.name)
    return found
