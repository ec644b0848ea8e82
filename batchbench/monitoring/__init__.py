"""Events -> logs, Prometheus, OpenTelemetry. No row values, no addresses, bounded labels.

`monitoring.prometheus` and `monitoring.opentelemetry` need the extra of their name, and look for it
when they are used.
"""

from pathlib import Path

from batchbench.monitoring.metrics import METRICS, EventMetrics, Metric
from batchbench.monitoring.records import event_record

__all__ = ["DASHBOARD", "METRICS", "EventMetrics", "Metric", "event_record"]

DASHBOARD = Path(__file__).with_name("dashboard.json")
"""A Grafana dashboard of these metrics, to be imported there."""
