"""What the samplers saw on the server while trials ran: write-ahead log and waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from batchbench.report.figures import graphic, number, plural
from batchbench.report.groups import Group
from batchbench.report.model import Bar, BarChart, BarView, Chart

WAL_BYTES = "wal_bytes"

_RUNNING = "running"
_SHARES = {
    "running_share": _RUNNING,
    "client_wait_share": "waiting for the client",
    "lock_wait_share": "waiting for locks",
}
_REST = "waiting for anything else"
_MOST_BARS = 10
_MOST_EVENTS = 8


def wal_per_row(group: Group) -> float | None:
    """Bytes of write-ahead log that a row cost; None where that was not recorded."""
    shares = [
        value / record.rows
        for record in group.good
        if (value := record.observed.get(WAL_BYTES)) is not None and record.rows
    ]
    return fmean(shares) if shares else None


def server_charts(groups: Sequence[Group]) -> tuple[Chart, ...]:
    """Write-ahead log a row, and what the writers waited for; none where it was not recorded."""
    ordered = sorted(groups, key=lambda g: g.speed.middle if g.speed else 0.0, reverse=True)
    return tuple(
        chart for chart in (_wal(ordered[:_MOST_BARS]), _waits(ordered[:_MOST_BARS])) if chart
    )


def _name(group: Group) -> str:
    rows = f"{group.chunk_rows:,} rows" if group.chunk_rows else "chunk size unknown"
    return f"{' / '.join(group.plug)}, {plural(group.way.parallelism, 'writer')}, {rows}"


def _wal(groups: Sequence[Group]) -> BarChart | None:
    bars = tuple(
        Bar(_name(group), (graphic(share),), (f"{number(share)} bytes a row",))
        for group in groups
        if (share := wal_per_row(group)) is not None
    )
    if not bars:
        return None
    return BarChart(
        "wal",
        "Write-ahead log",
        "Bytes of write-ahead log that one row cost, fastest configuration first. Full-page images"
        " after a checkpoint count, so short trials vary.",
        (BarView("", ("WAL",), bars, "bytes a row"),),
    )


def _waits(groups: Sequence[Group]) -> BarChart | None:
    means = {_name(group): _mean_waits(group) for group in groups}
    totals: dict[str, float] = {}
    for waits in means.values():
        for event, share in waits.items():
            totals[event] = totals.get(event, 0.0) + share
    shares = not any(":" in event for event in totals)
    events = sorted(totals, key=lambda event: -totals[event])[:_MOST_EVENTS]
    if not events:
        return None
    bars = tuple(
        Bar(
            name,
            tuple(graphic(waits.get(event, 0.0)) for event in events),
            tuple(f"{event}: {number(waits.get(event, 0.0))}" for event in events),
        )
        for name, waits in means.items()
        if waits
    )
    return BarChart(
        "waits",
        "What the writers waited for",
        "How the writers' connections on the server spent their time, by looking at them again and"
        " again; fastest configuration first.",
        (BarView("", tuple(events), bars, "of the time" if shares else "backend s a trial"),),
    )


def _mean_waits(group: Group) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for record in group.good:
        for name, value in _spent(record.observed).items():
            found.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in found.items() if any(values)}


def _spent(observed: Mapping[str, float | None]) -> dict[str, float]:
    """Seconds by "Type:Event" where they were kept, else shares of the time."""
    known = {name: value for name, value in observed.items() if value is not None}
    events = {name: value for name, value in known.items() if ":" in name}
    if events:
        return events | ({_RUNNING: known[_RUNNING]} if _RUNNING in known else {})
    shares = {words: known[name] for name, words in _SHARES.items() if name in known}
    if len(shares) == len(_SHARES):
        shares[_REST] = max(0.0, 1 - sum(shares.values()))
    return shares
