"""What must be reached, held against what was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks import ways
from benchmarks.duplicates import DUPLICATES
from benchmarks.long import LongResult
from benchmarks.results import CaseResult, Ratio

_EQUIVALENT = 0.95
_GOAL_S = 5.0
_LONG_ROWS = 10_000_000
_CONFLICTS = {
    "none": 1.8,
    "chunks": 1.4,
    "scattered1": 1.0,
    "scattered50": 1.0,
    "scattered100": 1.0,
}

_TEN_THOUSAND = "10,000 metrics, connection open: how many times faster than 5 s"
_LONG = (
    ("client memory, 10 million rows of Parquet, MB", 150.0, True),
    ("client memory, growth from 1 to 10 million rows, MB", 15.0, True),
    ("cost per row from 10,000 to 10 million rows, largest over smallest", 1.15, True),
    ("batchbench load as a whole process, against the library", 0.8, False),
)
"""What, wanted, and whether smaller is better."""

_Cases = Mapping[str, CaseResult]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of the goal. reached: None where this run did not measure it.

    at_most: whether smaller is better. detail: what was compared.
    """

    what: str
    wanted: float
    reached: float | None
    shown: str
    detail: str = ""
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """None: not measured."""
        if self.reached is None:
            return None
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


def held_against(
    cases: Sequence[CaseResult], ten_thousand_s: float | None, long: LongResult | None
) -> list[Wanted]:
    """Every line of the goal, in its order."""
    by_name = {case.name: case for case in cases}
    return [
        *_copies(by_name),
        *_pairs(by_name),
        *_conflicts(by_name),
        _every_peer(cases),
        _ten_thousand(ten_thousand_s),
        *_long(long),
    ]


def _copies(cases: _Cases) -> Iterator[Wanted]:
    for form, label in (("arrow", "Arrow"), ("parquet", "Parquet")):
        for writers, ours, least in ((1, ways.COPY, 0.90), (2, ways.COPY_2, 0.85)):
            what = f"{label} -> copy, no index, {writers} writer(s), against the server alone"
            limit = ways.limit_name(writers, staged=False)
            yield _against_limit(cases, f"heart_rate/{form}", what, least, ours.name, limit)
    what = "Python tuples -> copy, one writer, against the server alone"
    ours = ways.COPY.name
    yield _against_limit(cases, "heart_rate/tuples", what, 0.85, ours, ways.LIMIT)


def _against_limit(
    cases: _Cases, case_name: str, what: str, least: float, ours: str, limit: str
) -> Wanted:
    """With the CPU time that both take: where all cores are busy, it is what decides."""
    detail = ""
    if (case := cases.get(case_name)) is not None:
        spent = [way.cpu_us if (way := case.way(name)) else None for name in (ours, limit)]
        if spent[0] is not None and spent[1] is not None:
            detail = (
                f"CPU {spent[0][0]:.2f} + {spent[0][1]:.2f} us a row, client + server;"
                f" the limit {sum(spent[1]):.2f}"
            )
    return _wanted(what, least, _pair(cases, case_name, ours, limit), detail)


def _pairs(cases: _Cases) -> Iterator[Wanted]:
    rows = (
        ("CSV file -> copy, against psql \\copy", "csv", ways.COPY, "psql \\copy", 1.2),
        ("Arrow -> UNNEST on psycopg, against asyncpg's UNNEST of lists", "arrow", ways.UNNEST,
         "asyncpg UNNEST of lists", 2.5),
        ("VALUES on psycopg, against VALUES through its %s cursor", "tuples", ways.VALUES,
         "psycopg VALUES, %s cursor", 8.0),
    )  # fmt: skip
    for what, form, ours, peer, least in rows:
        yield _wanted(what, least, _pair(cases, f"heart_rate/{form}", ours.name, peer))


def _conflicts(cases: _Cases) -> Iterator[Wanted]:
    for name, least in _CONFLICTS.items():
        what = f"ON CONFLICT nothing, {DUPLICATES[name].label}, against the best peer"
        case = cases.get(f"heart_rate_keyed/arrow/{name}")
        closest = case.closest() if case else None
        if closest is None:
            yield _wanted(what, least, None)
            continue
        over, ours, peer = closest
        yield _wanted(what, least, over, f"{ours.name} against {peer.name}")


def _every_peer(cases: Sequence[CaseResult]) -> Wanted:
    """The peer that comes closest, or is ahead."""
    what = "every peer, every table and source: ahead, or equivalent within 5 %"
    found = [
        (ours.over(peer), case, peer)
        for case in cases
        for peer in case.ways
        if peer.kind == "peer" and peer.usable
        if (ours := case.ours_beside(peer)) is not None
    ]
    if not found:
        return _wanted(what, _EQUIVALENT, None)
    ratio, case, peer = min(found, key=lambda one: one[0].median)
    behind = sum(one[0].median < _EQUIVALENT for one in found)
    detail = f"closest: {peer.name}, {case.name}; behind {behind} of {len(found)}"
    return _wanted(what, _EQUIVALENT, ratio, detail)


def _ten_thousand(seconds: float | None) -> Wanted:
    if seconds is None:
        return Wanted(_TEN_THOUSAND, 50.0, None, "")
    factor = _GOAL_S / seconds
    return Wanted(_TEN_THOUSAND, 50.0, factor, f"{factor:.3g}", f"{seconds * 1e3:.1f} ms")


def _long(long: LongResult | None) -> Iterator[Wanted]:
    """Memory may grow by a tenth of its bound and still count as flat."""
    if long is None:
        for what, wanted, at_most in _LONG:
            yield Wanted(what, wanted, None, "", at_most=at_most)
        return
    least, most = min(long.peak_mb), max(long.peak_mb)
    costs = long.us_per_row.values()
    reached = (
        long.peak_mb[most],
        long.peak_mb[most] - long.peak_mb[least],
        max(costs) / min(costs),
        long.process_over_library.median,
    )
    details = (
        f"{most:,} rows",
        f"{least:,} to {most:,} rows",
        ", ".join(f"{rows:,}: {cost:.2f} us" for rows, cost in long.us_per_row.items()),
        f"{long.process_over_library}, {most:,} rows",
    )
    for (what, wanted, at_most), value, detail in zip(_LONG, reached, details, strict=True):
        # a try with fewer rows says nothing about 10 million
        judged = value if most >= _LONG_ROWS else None
        yield Wanted(what, wanted, judged, f"{value:.3g}", detail, at_most)


def _pair(cases: _Cases, case_name: str, ours: str, other: str) -> Ratio | None:
    """One way of a case over another; None where this run has not both."""
    case = cases.get(case_name)
    first, second = (case.way(ours), case.way(other)) if case else (None, None)
    return first.over(second) if first and second else None


def _wanted(what: str, least: float, over: Ratio | None, detail: str = "") -> Wanted:
    return Wanted(what, least, over.median if over else None, str(over) if over else "", detail)
