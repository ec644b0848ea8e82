"""Events become metrics and traces: their sums are the accounts', and no row value is in them."""

from __future__ import annotations

import builtins
import json
import re
import socket
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from batchbench.accounting import STATES, LoadResult
from batchbench.batch import Location
from batchbench.config import Settings
from batchbench.engine import LoadError, load
from batchbench.errors import ConfigError
from batchbench.events import (
    ChunkRetried,
    ChunkSplit,
    ChunkWritten,
    Event,
    InFlight,
    LoadEnded,
    LoadStarted,
    Paused,
    RowsRejected,
    RowsSettled,
)
from batchbench.monitoring import DASHBOARD, METRICS, EventMetrics, Metric
from batchbench.monitoring.metrics import QUEUE_AGE, sqlstate_class
from batchbench.monitoring.opentelemetry import OpenTelemetryMetrics, OpenTelemetryTraces
from batchbench.monitoring.prometheus import PrometheusMetrics, serving
from batchbench.sources import open_source
from batchbench.table import TableName
from batchbench.writer import UnwrittenError, Writer
from examples.health_export.dashboard import dashboard_queries, open_prometheus
from tests.fixtures.commands import Commands
from tests.fixtures.faults import skip, until
from tests.fixtures.loading import execute, options, query

TABLE = "CREATE TABLE t (id int4 PRIMARY KEY, v int4 CHECK (v >= 0), note varchar(5))"
PLACE = Location("rows", 1, 10)
SECRET = "s3cr3"

ALL_EVENTS: list[Event] = [
    LoadStarted("one", "psycopg", 2),
    InFlight("one", "public.t", 70, 100, 5.0, 1, 2),
    InFlight("two", "public.t", 30, 100, None, 1, 2),
    ChunkWritten("public.t", PLACE, 10, 10, 1_000, 0.2, 10),
    ChunkRetried("public.t", PLACE, "40001", 1, 0.1),
    ChunkRetried("public.t", PLACE, "", 2, 0.1),
    ChunkSplit("public.t", PLACE, "23514", 10, 8),
    RowsRejected("public.t", 2, "23514"),
    RowsSettled("public.t", "committed", 8),
    Paused("rows", 0.5),
]
"""One of every kind of event, and the end apart."""


def samples(exposition: bytes) -> dict[tuple[str, frozenset[str]], float]:
    """(name, label values) -> value."""
    return {
        (sample.name, frozenset(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(exposition.decode())
        for sample in family.samples
    }


def told(listener: Any, events: Iterable[Event] = ALL_EVENTS) -> None:
    for event in events:
        listener.listen(event)


def test_every_metric_is_exposed() -> None:
    metrics = PrometheusMetrics()
    told(metrics)
    found = samples(metrics.exposition())
    table = "public.t"
    for name, labels, value in (
        ("rows_total", (table, "committed"), 8),
        ("rows_total", (table, "rejected"), 2),
        ("rejected_rows_total", (table, "23"), 2),
        ("sent_bytes_total", (table,), 1_000),
        ("chunk_seconds_sum", (table,), 0.2),
        ("chunk_seconds_bucket", (table, "0.25"), 1),
        ("chunk_seconds_bucket", (table, "0.1"), 0),
        ("chunk_size_rows", (table,), 10),
        ("retries_total", (table, "40001"), 1),
        ("retries_total", (table, "connection"), 1),
        ("splits_total", (table, "23"), 1),
        ("paused_seconds_total", ("rows",), 0.5),
        ("in_flight_bytes", (table,), 100),
        ("in_flight_limit_bytes", (table,), 200),
        ("writers_busy", (table,), 2),
        ("writers", (table,), 4),
    ):
        assert found[f"batchbench_{name}", frozenset(labels)] == value, name
    names = {name for name, _ in found}
    for metric in METRICS:
        assert any(name.startswith(metric.prometheus_name) for name in names), metric.name


def test_what_is_over_is_no_longer_in_flight() -> None:
    metrics = PrometheusMetrics()
    told(metrics, [*ALL_EVENTS, LoadEnded(LoadResult("one"))])
    found = samples(metrics.exposition())
    assert found["batchbench_in_flight_bytes", frozenset({"public.t"})] == 30
    told(metrics, [LoadEnded(LoadResult("two"))])
    assert "batchbench_in_flight_bytes" not in {name for name, _ in samples(metrics.exposition())}


def test_a_queue_ages_between_events() -> None:
    class Nothing:
        def add(self, metric: Metric, amount: float, *labels: str) -> None: ...
        def record(self, metric: Metric, value: float, *labels: str) -> None: ...

    times_s = iter((7.0, 9.5))
    metrics = EventMetrics(Nothing(), clock=lambda: next(times_s))
    told(metrics)
    ages = [value for _ in range(2) for metric, value, _ in metrics.levels() if metric is QUEUE_AGE]
    assert ages == [2.0, 4.5]


def test_labels_stay_bounded() -> None:
    """A trigger may raise any SQLSTATE."""
    given = {"23505": "23", "P0001": "P0", "": "connection", "ZZ123": "other", "99999": "other"}
    assert {sqlstate: sqlstate_class(sqlstate) for sqlstate in given} == given


def test_names_follow_the_conventions() -> None:
    for metric in METRICS:
        assert re.fullmatch(r"batchbench(_[a-z]+)+", metric.prometheus_name)
        assert metric.prometheus_name.endswith("_total") == (metric.kind == "counter")
        assert set(metric.labels) <= {"table", "state", "sqlstate", "sqlstate_class", "reason"}


def test_opentelemetry_has_the_same_figures() -> None:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    told(OpenTelemetryMetrics(provider))
    data = reader.get_metrics_data()
    assert data is not None
    made = {
        metric.name: metric
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert set(made) == {f"batchbench.{metric.name}" for metric in METRICS}
    rows = {
        tuple(point.attributes.values()): point.value
        for point in made["batchbench.rows"].data.data_points
    }
    assert rows == {("public.t", "committed"): 8, ("public.t", "rejected"): 2}
    (held,) = made["batchbench.in_flight"].data.data_points
    assert (held.value, dict(held.attributes)) == (100, {"table": "public.t"})
    (chunk,) = made["batchbench.chunk"].data.data_points
    assert (chunk.sum, chunk.count, made["batchbench.chunk"].unit) == (0.2, 1, "s")
    provider.shutdown()


def test_a_trace_has_a_span_a_chunk() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    traces = OpenTelemetryTraces(provider, clock_ns=lambda: 10_000_000_000)
    told(traces, [*ALL_EVENTS, LoadEnded(LoadResult("one"))])
    chunk, load = exporter.get_finished_spans()
    assert chunk.parent is not None
    assert chunk.parent.span_id == load.context.span_id
    assert (chunk.end_time or 0) - (chunk.start_time or 0) == 200_000_000
    assert chunk.attributes is not None
    assert chunk.attributes["db.collection.name"] == "public.t"
    assert [event.name for event in load.events] == [
        *("retry", "retry", "split", "rejected", "paused")
    ]
    provider.shutdown()


@pytest.mark.parametrize(
    ("make", "package", "extra"),
    [
        (PrometheusMetrics, "prometheus_client", "prometheus"),
        (OpenTelemetryMetrics, "opentelemetry", "opentelemetry"),
        (OpenTelemetryTraces, "opentelemetry", "opentelemetry"),
    ],
)
def test_a_missing_extra_is_said(
    monkeypatch: pytest.MonkeyPatch, make: Any, package: str, extra: str
) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=rf"pip install 'batchbench\[{extra}\]'"):
        make()


def settled(events: Iterable[Event]) -> Counter[str]:
    """Rows by state, as events told."""
    counted: Counter[str] = Counter()
    for event in events:
        if isinstance(event, RowsSettled):
            counted[event.state] += event.row_count
        elif isinstance(event, RowsRejected):
            counted["rejected"] += event.row_count
    return counted


def by_state(result: LoadResult) -> Counter[str]:
    return Counter({s: n for s, n in result.total.as_dict().items() if s in STATES and n})


async def test_events_of_a_load_add_up_to_its_accounts(dsn: str) -> None:
    execute(
        dsn,
        f"{TABLE}; INSERT INTO t VALUES (3, 0);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN IF NEW.id = 5 THEN RETURN NULL; END IF; RETURN NEW; END';"
        "CREATE TRIGGER f BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
    )
    events: list[Event] = []
    rows = pa.table({"id": range(100), "v": [-1] * 2 + [0] * 98, "note": [SECRET] * 100})
    how = options(chunk_size=10, on_conflict="nothing")
    result = await load(open_source(rows), {None: TableName("t")}, dsn, how, on_event=events.append)
    assert by_state(result) == settled(events)
    assert settled(events) == {
        "committed": 96, "rejected": 2, "duplicates": 1, "skipped_by_server": 1
    }  # fmt: skip
    assert SECRET not in repr(events)
    levels = [event for event in events if isinstance(event, InFlight)]
    assert (levels[-1].held_bytes, levels[-1].busy, levels[-1].waiting_since_s) == (0, 0, None)
    assert max(level.held_bytes for level in levels) > 0
    assert max(level.busy for level in levels) in (1, 2)


async def test_a_stopped_load_tells_what_is_unwritten(dsn18: str) -> None:
    execute(dsn18, TABLE)
    events: list[Event] = []
    rows = pa.table({"id": range(100), "v": [0] * 50 + [-1] + [0] * 49})
    how = options(chunk_size=10, on_reject="stop", parallelism=1)
    with pytest.raises(LoadError) as stopped:
        await load(open_source(rows), {None: TableName("t")}, dsn18, how, on_event=events.append)
    assert by_state(stopped.value.result) == settled(events)
    assert settled(events)["unwritten"] > 0


async def test_a_resumed_load_tells_of_its_earlier_start(dsn18: str, tmp_path: Path) -> None:
    execute(dsn18, TABLE)
    path = tmp_path / "rows.csv"
    lines = [f"{i},{-1 if i in (5, 55) else 0},n" for i in range(100)]
    path.write_text("\n".join(["id,v,note", *lines]))
    how = {"chunk_size": 10, "parallelism": 1, "dead_letter": tmp_path / "rejects"}
    target = {None: TableName("t")}
    with pytest.raises(LoadError) as stopped:
        await load(open_source(path), target, dsn18, options(max_rejects=1, **how))
    assert stopped.value.result.total.rejected == 2
    events: list[Event] = []
    result = await load(
        open_source(path),
        target,
        dsn18,
        options(**how),
        resume=stopped.value.result.load_id,
        on_event=events.append,
    )
    assert by_state(result) == settled(events) == {"committed": 98, "rejected": 2}


async def test_a_chunk_that_is_written_again_is_told_once(dsn18: str) -> None:
    """Its first COMMIT fails, by a constraint that waits for it."""
    execute(
        dsn18,
        f"{TABLE}; CREATE SEQUENCE s; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF nextval('s') = 15 THEN RAISE SQLSTATE '40001'; END IF; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER f AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION f()",
    )
    events: list[Event] = []
    rows = pa.table({"id": range(30), "v": [0] * 30})
    how = options(chunk_size=10, parallelism=1, settings=Settings(initial_backoff_ms=1))
    result = await load(
        open_source(rows), {None: TableName("t")}, dsn18, how, on_event=events.append
    )
    assert (result.total.committed, result.retries) == (30, 1)
    assert [e.written for e in events if isinstance(e, ChunkWritten)] == [10, 10, 10]


async def test_a_writer_tells_the_same(dsn18: str) -> None:
    execute(dsn18, f"{TABLE}; INSERT INTO t VALUES (7, 0)")
    events: list[Event] = []
    how = options(on_conflict="nothing")
    async with Writer(dsn18, "t", how, on_event=events.append) as writer:
        row = {"v": 0, "note": SECRET}
        await (await writer.add([{"id": 7, **row}, {"id": 8, **row}, {"id": 9, **row, "v": -1}]))
        execute(dsn18, "ALTER TABLE t RENAME TO gone")
        with pytest.raises(UnwrittenError):
            await (await writer.add([{"id": 10, **row}]))
        execute(dsn18, "ALTER TABLE gone RENAME TO t")
    assert isinstance(events[0], LoadStarted)
    assert isinstance(events[-1], LoadEnded)
    result = events[-1].result
    assert settled(events) == by_state(result)
    assert settled(events) == {"duplicates": 1, "committed": 1, "rejected": 1, "unwritten": 1}
    assert result.total.read == result.total.accounted == 4
    assert SECRET not in repr(events)


def test_a_load_serves_its_metrics(dsn18: str, commands: Commands, tmp_path: Any) -> None:
    execute(dsn18, "CREATE TABLE t (id int4)")
    path = tmp_path / "rows.csv"
    path.write_text("id\n1\n")
    told = commands(
        "load", path, "--table", "t", "--dsn", dsn18, "--metrics-port", 0
    )  # fmt: skip
    assert told.code == 0
    assert re.search(r"metrics: http://127\.0\.0\.1:\d+/metrics", told.err)


def test_a_taken_port_is_said(dsn18: str, commands: Commands, tmp_path: Any) -> None:
    execute(dsn18, "CREATE TABLE t (id int4)")
    path = tmp_path / "rows.csv"
    path.write_text("id\n1\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = commands("load", path, "--table", "t", "--dsn", dsn18, "--metrics-port", port)
    assert refused.code == 2
    assert f"127.0.0.1 port {port}: Address already in use" in refused.error
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


# --- the dashboard --------------------------------------------------------------------------


def test_the_dashboard_asks_for_what_is_exposed() -> None:
    metrics = PrometheusMetrics(CollectorRegistry())
    told(metrics)
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.exposition().decode())
        for sample in family.samples
    }
    asked = dashboard_queries("10s")
    assert len(asked) >= len(json.loads(DASHBOARD.read_text())["panels"]) > 8
    for expression in asked:
        names = set(re.findall(r"\bbatchbench_\w+", expression))
        assert names <= set(labels), expression
        used = set(re.findall(r"(\w+)\s*(?:=~|!=|=)\s*\"", expression))
        for grouped in re.findall(r"by \(([^)]*)\)", expression):
            used |= {name.strip() for name in grouped.split(",")}
        for name in names:
            assert used <= labels[name], expression
    seen = {name for expression in asked for name in re.findall(r"\bbatchbench_\w+", expression)}
    for metric in METRICS:
        assert any(name.startswith(metric.prometheus_name) for name in seen), metric.name


def test_prometheus_answers_the_dashboards_queries() -> None:
    """Each finds series with labels, of a counter that grows between two scrapes."""
    metrics = PrometheusMetrics()
    with serving(metrics, 0) as url:
        target = url.removeprefix("http://").removesuffix("/metrics")
        told(metrics)
        try:
            with open_prometheus(target, scrape_ms=200) as prometheus:

                def all_found() -> bool:
                    told(metrics)
                    return all(
                        any(series["metric"] for series in prometheus.series(expression))
                        for expression in dashboard_queries("10s")
                    )

                until("every query of the dashboard finds series", all_found)
        except FileNotFoundError as error:
            skip(str(error))
