"""A load's metrics, served to Prometheus while it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from batchbench.cli.console import note
from batchbench.events import Event, Listener
from batchbench.monitoring.prometheus import PrometheusMetrics, serving


@contextmanager
def served_too(listen: Listener, port: int | None, host: str) -> Iterator[Listener]:
    """A listener that tells `listen`, and the metrics at the port where there is one.

    Raises ConfigError where the extra is not installed or the port cannot be had.
    """
    if port is None:
        yield listen
        return
    metrics = PrometheusMetrics()

    def both(event: Event) -> None:
        metrics.listen(event)
        listen(event)

    with serving(metrics, port, host) as url:
        note(f"metrics: {url}")
        yield both
