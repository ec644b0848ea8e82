"""What is seen of a trial besides its clock, and the network that it is given."""

from batchbench.harness.observe.client import ClientUse, CpuTime, cpu_time
from batchbench.harness.observe.observer import OBSERVED, Observed, Observer, Sight, open_observer
from batchbench.harness.observe.registry import (
    METRICS,
    Metric,
    document,
    find_metric,
    label,
    metrics_of,
)
from batchbench.harness.observe.rtt import delayed, round_trip_ms
from batchbench.harness.observe.sampler import Sampled

__all__ = [
    "METRICS",
    "OBSERVED",
    "ClientUse",
    "CpuTime",
    "Metric",
    "Observed",
    "Observer",
    "Sampled",
    "Sight",
    "cpu_time",
    "delayed",
    "document",
    "find_metric",
    "label",
    "metrics_of",
    "open_observer",
    "round_trip_ms",
]
