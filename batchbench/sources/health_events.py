"""JSON events of a health payload -> records. Holds one record at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

Event = tuple[str, Any]


@dataclass(frozen=True, slots=True)
class Heading:
    """What an app export says once for all samples of a metric."""

    name: str | None
    units: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a payload.

    kind: its metric type as the payload writes it ("HeartRate", "step_count"), None where it has
        none. flat: its keys are column names, or nearly; else it is a sample of an app export.
    units: of an export's samples, where the payload gives them.
    """

    kind: str | None
    flat: bool
    body: dict[str, Any]
    units: str | None = None


class PayloadReader:
    """Walks once over the events of one payload.

    headings: gives all metrics' headings in order; called only where an export puts a metric's
        samples before its name.
    found: after the walk, whether there was a metrics or workouts array.
    """

    def __init__(self, events: Iterator[Event], headings: Callable[[], list[Heading]]) -> None:
        self._events = events
        self._headings = headings
        self.found = False

    def records(self) -> Iterator[Record]:
        """All records, in the payload's order."""
        for section in self._sections():
            yield from self._workouts() if section == "workouts" else self._metrics()

    def all_headings(self) -> list[Heading]:
        """Each metric's heading, samples passed over."""
        found = []
        for section in self._sections():
            for event, _ in self._elements():
                if section == "metrics" and event == "start_map":
                    found.append(self._heading())
                else:
                    self._skip(event)
        return found

    def _heading(self) -> Heading:
        texts: dict[str, Any] = {}
        for key, (event, value) in self._members():
            if event == "string" and key in ("name", "units"):
                texts[key] = value
            else:
                self._skip(event)
        return Heading(texts.get("name"), texts.get("units"))

    def _sections(self) -> Iterator[str]:
        """Stop inside each array under data.metrics and data.workouts."""
        if next(self._events, ("", None))[0] != "start_map":
            return
        for key, (event, _) in self._members():
            if key != "data" or event != "start_map":
                self._skip(event)
                continue
            for section, (inner, _) in self._members():
                if section in ("metrics", "workouts") and inner == "start_array":
                    self.found = True
                    yield section
                else:
                    self._skip(inner)

    def _workouts(self) -> Iterator[Record]:
        for event, value in self._elements():
            body = self._value(event, value)
            if isinstance(body, dict):
                yield Record("workout", "started_at" in body or "start" not in body, body)
            else:
                yield Record(None, True, {})

    def _metrics(self) -> Iterator[Record]:
        for position, (event, value) in enumerate(self._elements()):
            if event != "start_map":
                self._value(event, value)
                yield Record(None, True, {})
                continue
            yield from self._metric(position)

    def _metric(self, position: int) -> Iterator[Record]:
        body: dict[str, Any] = {}
        samples = False
        for key, (event, value) in self._members():
            if key == "data" and event == "start_array":
                samples = True
                heading = Heading(body.get("name"), body.get("units"))
                if heading.name is None or heading.units is None:
                    heading = self._headings()[position]
                yield from self._samples(heading)
            else:
                body[key] = self._value(event, value)
        if not samples:
            kind = body.pop("type", None)
            yield Record(kind if isinstance(kind, str) else None, True, body)

    def _samples(self, heading: Heading) -> Iterator[Record]:
        for event, value in self._elements():
            sample = self._value(event, value)
            body = sample if isinstance(sample, dict) else {}
            yield Record(heading.name, False, body, heading.units)

    def _members(self) -> Iterator[tuple[str, Event]]:
        """Key and first event of each value of the map that was just entered."""
        for event, key in self._events:
            if event == "end_map":
                return
            yield key, next(self._events)

    def _elements(self) -> Iterator[Event]:
        for event in self._events:
            if event[0] == "end_array":
                return
            yield event

    def _value(self, event: str, value: Any) -> Any:
        if event == "start_map":
            return {key: self._value(*first) for key, first in self._members()}
        if event == "start_array":
            return [self._value(*first) for first in self._elements()]
        return value

    def _skip(self, event: str) -> None:
        depth = int(event.startswith("start_"))
        while depth:
            inner = next(self._events)[0]
            depth += inner.startswith("start_") - inner.startswith("end_")
