"""Events -> structured records, for logs that programs read. No row values, no addresses."""

from __future__ import annotations

import re
from dataclasses import asdict, is_dataclass
from datetime import UTC, datetime
from typing import Any

from batchbench.accounting import LoadResult
from batchbench.batch import Location
from batchbench.events import Event

_WORD_START = re.compile(r"(?<=[a-z])(?=[A-Z])")


def event_record(event: Event, at: datetime | None = None) -> dict[str, Any]:
    """An event as a flat object: `event` is its name ("chunk_written"), `at` the time in UTC.

    Locations become source, first_row and row_count; a result becomes its counts.
    """
    record: dict[str, Any] = {
        "at": (at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "event": _WORD_START.sub("_", type(event).__name__).lower(),
    }
    for name in event.__dataclass_fields__:
        value = getattr(event, name)
        if isinstance(value, LoadResult):
            record |= {"load_id": value.load_id, "seconds": round(value.seconds, 6)}
            record |= value.total.as_dict()
        elif isinstance(value, Location):
            record |= {"source": value.source, "first_row": value.first_row}
            record.setdefault("row_count", value.row_count)
        elif is_dataclass(value) and not isinstance(value, type):
            record |= asdict(value)
        else:
            record[name] = value
    return record
