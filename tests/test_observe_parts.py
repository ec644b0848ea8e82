"""Parts of the observer that need no server: registry, waits, pace, processes, client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from batchbench.harness.observe import METRICS, ClientUse, document, find_metric, label, metrics_of
from batchbench.harness.observe.backends import BackendUse
from batchbench.harness.observe.procfs import cpu_s, pss_bytes
from batchbench.harness.observe.waits import Look, Pace, WaitHistogram, share_of
from batchbench.results import TrialRecord

# --- registry -------------------------------------------------------------------------------------


def test_the_registry_is_complete_and_plain() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name
        assert metric.meaning
        assert metric.source
        if name.endswith("_bytes"):
            assert metric.unit == "bytes", name
        if name.endswith("_share"):
            assert metric.unit == "share", name
        if name.endswith("_mb"):
            assert metric.unit == "MB", name
        if name.endswith("_s") and not name.endswith("_per_s"):
            assert metric.unit == "s", name
    assert json.loads(json.dumps(document()))["wal_fpi"]["better"] == "lower"


def test_metrics_of_a_load_are_the_records_own() -> None:
    engines = [metric.name for metric in metrics_of("load") if "engine" in metric.source]
    assert "rows_per_s" in engines
    assert not [name for name in engines if not hasattr(TrialRecord, name) and name not in FIELDS]


FIELDS = TrialRecord.__dataclass_fields__


def test_looking_up() -> None:
    assert label("wal_bytes") == "wal_bytes (bytes)"
    assert label("retries") == "retries"
    assert find_metric("rows_per_s").improves(1.0, 2.0) is True
    assert find_metric("wal_bytes").improves(1.0, 2.0) is False
    assert find_metric("checkpoint_buffers").improves(1.0, 2.0) is None
    assert find_metric("rows_per_s").improves(1.0, 1.0) is None
    with pytest.raises(KeyError, match="no metric"):
        find_metric("wall_bytes")


# --- waits ----------------------------------------------------------------------------------------


def test_waits_are_weighed_by_time() -> None:
    histogram = WaitHistogram()
    histogram.add([Look(1, "", "active"), Look(2, "Lock:tuple", "active")], 0.1)
    histogram.add([Look(1, "", "active"), Look(2, "Lock:tuple", "active")], 0.3)
    histogram.add([Look(1, "Client:ClientRead", "active"), Look(3, None, None)], 0.4)
    histogram.add([], 5.0)
    shares = histogram.shares()
    names = ("running", "Lock:tuple", "Client:ClientRead")
    assert shares == pytest.approx(dict.fromkeys(names, 1 / 3))
    assert share_of(shares, "Lock") == pytest.approx(1 / 3)
    assert share_of(shares, "LWLock") == 0
    assert (histogram.looks, histogram.most_backends, histogram.most_locked) == (4, 2, 1)
    assert WaitHistogram().shares() == {}


@pytest.mark.parametrize("look_s", [0.00001, 0.001, 0.004, 0.02])
def test_a_pace_keeps_to_its_share(look_s: float) -> None:
    pace = Pace(least_s=0.05, share=0.01)
    elapsed_s = spent_s = 0.0
    waits = []
    for _ in range(200):
        waits.append(pace.wait_s(elapsed_s, spent_s))
        elapsed_s += waits[-1]
        spent_s += look_s
        pace.expected_s = look_s
        if spent_s > look_s:  # the first one's cost was not known
            assert spent_s <= 0.01 * elapsed_s * 1.000_001
    assert min(waits) >= 0.025
    assert max(waits) <= 5.0
    if look_s < 0.001:  # cheap enough for the interval that was wanted
        assert sum(waits) / len(waits) == pytest.approx(0.05, rel=0.05)
        assert len({round(wait, 4) for wait in waits}) > 50  # no period to meet a load's


# --- processes ------------------------------------------------------------------------------------


def test_reading_processes() -> None:
    burning = (
        "import sys\nfor _ in range(3_000_000): pass\nprint('x', flush=True)\nsys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-S", "-c", burning], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        used = cpu_s(child.pid)
        assert used is not None
        assert 0.01 < used < 60
        assert (pss_bytes(child.pid) or 0) > 1_000_000
        use = BackendUse()
        use.start([child.pid])
        use.look([child.pid])
        use.look_at_memory(1_000.0)
        found = use.result()
        assert found.cpu_s is not None
        assert found.cpu_s < used  # what was before does not count
        assert (found.pss_mb or 0) > 1
        assert use.memory_s > 0
        child.communicate()
    assert cpu_s(child.pid) is None
    assert pss_bytes(child.pid) is None


def test_looking_at_memory_waits_for_its_share() -> None:
    use = BackendUse(expected_s=0.001)
    use.look([os.getpid()])
    use.look_at_memory(0.1)  # half a millisecond may be spent by then
    assert use.memory_s == 0
    use.look_at_memory(0.3)
    assert use.memory_s > 0


# --- client ---------------------------------------------------------------------------------------


def burn(seconds: float) -> None:
    began = time.thread_time()
    while time.thread_time() - began < seconds:
        sum(range(1_000))


def test_the_client_is_told_apart_from_the_sampler() -> None:
    with ClientUse() as use:
        sampler = threading.Thread(target=burn, args=(0.1,))
        sampler.start()
        burn(0.1)
        sampler.join()
    whole = use.figures(1_000, 2.0)
    alone = use.figures(1_000, 2.0, sampler_s=0.1)
    assert whole["cpu_s"] is not None
    assert alone["cpu_s"] is not None
    assert whole["cpu_s"] >= 0.2
    assert alone["cpu_s"] == pytest.approx(whole["cpu_s"] - 0.1)
    assert alone["cpu_s"] == pytest.approx(
        (alone["cpu_user_s"] or 0) + (alone["cpu_system_s"] or 0)
    )
    assert (alone["cpu_user_s"] or 0) > (alone["cpu_system_s"] or 0)
    assert whole["client_bytes_per_s"] == 500
    assert (whole["peak_rss_mb"] or 0) >= (whole["rss_before_mb"] or 0) > 0
    assert use.figures(None, None)["client_bytes_per_s"] is None
    assert set(whole) == {metric.name for metric in metrics_of("client")}
