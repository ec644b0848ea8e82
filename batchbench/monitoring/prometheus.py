"""Metrics by prometheus_client (extra `prometheus`), and an address that Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchbench.errors import ConfigError
from batchbench.events import Event
from batchbench.monitoring.metrics import CHUNK_SECONDS, METRICS, PREFIX, EventMetrics, Metric

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily

LOOPBACK = "127.0.0.1"


class PrometheusMetrics:
    """A listener, one for all loads and writers of a process.

    registry: where the metrics go; None makes one. A service whose /metrics is there already passes
    `prometheus_client.REGISTRY`.
    Raises ConfigError where prometheus_client is not installed.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise ConfigError(
                "prometheus_client is not installed: pip install 'batchbench[prometheus]'"
            ) from error
        self.registry = registry or prometheus_client.CollectorRegistry()
        self._events = EventMetrics(self)
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        for metric in METRICS:
            name, labels = metric.prometheus_name, metric.labels
            if metric.kind == "counter":
                self._counters[metric.name] = prometheus_client.Counter(
                    name, metric.text, labels, registry=self.registry
                )
            elif metric.kind == "histogram":
                self._histograms[metric.name] = prometheus_client.Histogram(
                    name, metric.text, labels, buckets=CHUNK_SECONDS, registry=self.registry
                )
        self.registry.register(_Levels(self._events))

    def listen(self, event: Event) -> None:
        """Take one event of the engine."""
        self._events.listen(event)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """See `Instruments`."""
        self._counters[metric.name].labels(*labels).inc(amount)

    def record(self, metric: Metric, value: float, *labels: str) -> None:
        """See `Instruments`."""
        self._histograms[metric.name].labels(*labels).observe(value)

    def exposition(self) -> bytes:
        """All metrics of the registry as they are now, in Prometheus's text format."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)


class _Levels:
    """Gauges that are worked out when they are asked for: a queue's age grows between events."""

    def __init__(self, events: EventMetrics) -> None:
        self._events = events

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return self._families().values()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        families = self._families()
        for metric, value, table in self._events.levels():
            families[metric.name].add_metric([table], value)
        return families.values()

    def _families(self) -> dict[str, GaugeMetricFamily]:
        from prometheus_client.core import GaugeMetricFamily

        return {
            metric.name: GaugeMetricFamily(metric.prometheus_name, metric.text, None, metric.labels)
            for metric in METRICS
            if metric.kind == "gauge"
        }


@contextmanager
def serving(metrics: PrometheusMetrics, port: int, host: str = LOOPBACK) -> Iterator[str]:
    """Answer Prometheus at http://HOST:PORT/metrics, which is given, in a thread of its own.

    port: 0 takes a free one. Anybody who reaches the address may read: loopback unless said.
    Raises ConfigError where it cannot be had.
    """
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except (OSError, OverflowError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such port"
        raise ConfigError(
            f"{PREFIX} metrics cannot be served at {host} port {port}: {why}; name another"
            " --metrics-port, or 0 for any that is free"
        ) from error
    try:
        yield f"http://{host}:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
