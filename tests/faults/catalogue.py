"""All faults."""

from __future__ import annotations

from tests.faults import killed, locks, places, servers, tables, wire
from tests.faults.cases import Case

CATALOGUE: tuple[Case, ...] = (
    *wire.CASES,
    *servers.CASES,
    *tables.CASES,
    *locks.CASES,
    *places.CASES,
    *killed.CASES,
)
