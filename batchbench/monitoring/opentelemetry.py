"""Metrics and traces by OpenTelemetry's API (extra `opentelemetry`).

The API alone does nothing: what is exported, and where to, is set by the application's SDK.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from batchbench.errors import ConfigError
from batchbench.events import (
    ChunkRetried,
    ChunkSplit,
    ChunkWritten,
    Event,
    LoadEnded,
    LoadStarted,
    Paused,
    RowsRejected,
)
from batchbench.monitoring.metrics import (
    CHUNK_SECONDS,
    METRICS,
    PREFIX,
    EventMetrics,
    Metric,
)

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

_UNITS = {"seconds": "s", "bytes": "By", "rows": "{row}", "": "1"}
_NS = 1_000_000_000


class OpenTelemetryMetrics:
    """A listener, one for all loads and writers of a process.

    provider: None, the global one. Raises ConfigError where the API is not installed.
    """

    def __init__(self, provider: MeterProvider | None = None) -> None:
        try:
            from opentelemetry import metrics
        except ImportError as error:
            raise _missing() from error
        meter = metrics.get_meter(PREFIX, meter_provider=provider)
        self._events = EventMetrics(self)
        self._counters, self._histograms = {}, {}
        for metric in METRICS:
            about = f"{PREFIX}.{metric.name}", _UNITS[metric.unit], metric.text
            if metric.kind == "counter":
                self._counters[metric.name] = meter.create_counter(*about)
            elif metric.kind == "histogram":
                self._histograms[metric.name] = meter.create_histogram(
                    *about, explicit_bucket_boundaries_advisory=CHUNK_SECONDS
                )
            else:
                name, *unit_and_text = about
                meter.create_observable_gauge(name, [self._asked(metric)], *unit_and_text)

    def listen(self, event: Event) -> None:
        """Take one event of the engine."""
        self._events.listen(event)

    def add(self, metric: Metric, amount: float, *labels: str) -> None:
        """See `Instruments`."""
        self._counters[metric.name].add(amount, dict(zip(metric.labels, labels, strict=True)))

    def record(self, metric: Metric, value: float, *labels: str) -> None:
        """See `Instruments`."""
        self._histograms[metric.name].record(value, dict(zip(metric.labels, labels, strict=True)))

    def _asked(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        from opentelemetry.metrics import Observation

        def observe(options: CallbackOptions) -> Iterable[Observation]:
            for found, value, table in self._events.levels():
                if found is metric:
                    yield Observation(value, {"table": table})

        return observe


class OpenTelemetryTraces:
    """A listener for one load or writer: a span of it, in it one a chunk, and its troubles as the
    span's events. A span names table, source row and counts, never a value.

    provider: None, the global one. Raises ConfigError where the API is not installed.
    """

    def __init__(
        self, provider: TracerProvider | None = None, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        try:
            from opentelemetry import trace
        except ImportError as error:
            raise _missing() from error
        self._trace = trace
        self._tracer = trace.get_tracer(PREFIX, tracer_provider=provider)
        self._clock_ns = clock_ns
        self._load: Span = trace.INVALID_SPAN

    def listen(self, event: Event) -> None:
        """Take one event of the engine."""
        match event:
            case LoadStarted():
                self._load = self._tracer.start_span(
                    f"{PREFIX} load",
                    attributes={
                        "db.system.name": "postgresql",
                        "batchbench.load_id": event.load_id,
                        "batchbench.driver": event.driver,
                        "batchbench.writers": event.writers,
                    },
                    start_time=self._clock_ns(),
                )
            case ChunkWritten():
                self._chunk(event)
            case ChunkRetried():
                self._say("retry", table=event.table, sqlstate=event.sqlstate, retry=event.retry)
            case ChunkSplit():
                self._say("split", table=event.table, sqlstate=event.sqlstate, parts=event.parts)
            case RowsRejected():
                self._say(
                    "rejected",
                    table=event.table,
                    sqlstate=event.sqlstate,
                    row_count=event.row_count,
                )
            case Paused():
                self._say("paused", reason=event.reason, seconds=event.seconds)
            case LoadEnded():
                for state, row_count in event.result.total.as_dict().items():
                    self._load.set_attribute(f"{PREFIX}.{state}", row_count)
                self._load.end(self._clock_ns())

    def _chunk(self, event: ChunkWritten) -> None:
        ended_ns = self._clock_ns()
        span = self._tracer.start_span(
            f"{PREFIX} chunk",
            context=self._trace.set_span_in_context(self._load),
            kind=self._trace.SpanKind.CLIENT,
            attributes={
                "db.system.name": "postgresql",
                "db.collection.name": event.table,
                "batchbench.first_row": event.location.first_row,
                "batchbench.row_count": event.row_count,
                "batchbench.written": event.written,
                "batchbench.byte_count": event.byte_count,
            },
            start_time=ended_ns - int(event.seconds * _NS),
        )
        span.end(ended_ns)

    def _say(self, name: str, **attributes: Any) -> None:
        named = {f"{PREFIX}.{key}": value for key, value in attributes.items()}
        self._load.add_event(name, named, self._clock_ns())


def _missing() -> ConfigError:
    return ConfigError(
        "OpenTelemetry's API is not installed: pip install 'batchbench[opentelemetry]'"
    )
