"""What the samplers saw on the server while trials ran: write-ahead log and waits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from batchbench.report.figures import graphic, number, plural
from batchbench.report.groups import Group
from batchbench.report.model import Bar, BarChart, BarView, Chart
from batchbench.results import TrialRecord

WAL_BYTES = "wal_bytes"

_SHARES = {
    "running_share": "running",
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
    first = sorted(totals, key=lambda event: (event == _REST, -totals[event]))
    events = [event for event in first if totals[event] > 0][:_MOST_EVENTS]
    if not events:
        return None
    bars = tuple(_bar(name, waits, events) for name, waits in means.items() if waits)
    return BarChart(
        "waits",
        "What the writers waited for",
        "How the writers' connections on the server spent their time, by looking at them again and"
        " again; fastest configuration first. In a short trial there were few looks.",
        (BarView("", tuple(events), bars, "% of the time"),),
    )


def _bar(name: str, waits: Mapping[str, float], events: Sequence[str]) -> Bar:
    shares = [100 * waits.get(event, 0.0) for event in events]
    texts = (f"{event}: {number(v)} %" for event, v in zip(events, shares, strict=True))
    return Bar(name, tuple(graphic(share) for share in shares), tuple(texts))


def _mean_waits(group: Group) -> dict[str, float]:
    """Of the trials in which a backend was seen. An event that one of them has not is 0 there."""
    seen = [spent for record in group.good if (spent := _spent(record))]
    names = dict.fromkeys(name for spent in seen for name in spent)
    return {name: fmean(spent.get(name, 0.0) for spent in seen) for name in names}


def _spent(record: TrialRecord) -> Mapping[str, float]:
    """Shares of the time by "Type:Event" where they were kept, else what is known of them."""
    if record.waits:
        return record.waits
    known = {name: record.observed.get(name) for name in _SHARES}
    shares = {_SHARES[name]: share for name, share in known.items() if share is not None}
    if len(shares) == len(_SHARES):
        shares[_REST] = max(0.0, 1 - sum(shares.values()))
    return shares
