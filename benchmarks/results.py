"""What was measured, and the ratios that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Sample:
    """One load. round: of the interleaved run; position: within the round; both from 0.
    client_cpu_s, server_cpu_s: CPU time that it took, where the system can tell.
    """

    round: int
    position: int
    seconds: float
    client_cpu_s: float | None = None
    server_cpu_s: float | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of ratios that were paired round by round, and their spread."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        digits = 2 if self.median >= 0.1 else 3
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


@dataclass(frozen=True, slots=True)
class WayResult:
    """One way of one case. kind: limit, ours or peer. failure: why it has no further samples.

    boundary: of its transactions: one, or one a chunk.
    """

    name: str
    kind: str
    writers: int
    transaction: str
    row_count: int
    samples: tuple[Sample, ...]
    failure: str | None = None
    boundary: str = "one"

    @property
    def usable(self) -> bool:
        """Whether it can be compared: all of its loads were right."""
        return self.failure is None and bool(self.samples)

    @property
    def rows_per_s(self) -> float:
        """The median."""
        return self.row_count / median(sample.seconds for sample in self.samples)

    @property
    def cpu_us(self) -> tuple[float, float] | None:
        """CPU time a row, client's and server's: medians; None where nothing tells."""
        client = [s.client_cpu_s for s in self.samples if s.client_cpu_s is not None]
        server = [s.server_cpu_s for s in self.samples if s.server_cpu_s is not None]
        if not client or not server:
            return None
        per_row = 1e6 / self.row_count
        return median(client) * per_row, median(server) * per_row

    def over(self, other: WayResult) -> Ratio:
        """How many times as fast as the other, in rows per second, by pairs of one round."""
        theirs = {s.round: other.row_count / s.seconds for s in other.samples}
        paired = [
            self.row_count / s.seconds / theirs[s.round] for s in self.samples if s.round in theirs
        ]
        return Ratio(median(paired), min(paired), max(paired), len(paired))


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One case. skipped: reasons, by the name of the way."""

    name: str
    title: str
    row_count: int
    column_count: int
    ways: tuple[WayResult, ...]
    skipped: Mapping[str, str]

    def way(self, name: str) -> WayResult | None:
        """A usable way by its name."""
        return next((way for way in self.ways if way.name == name and way.usable), None)

    def limit(self, writers: int) -> WayResult | None:
        """The limit of so many writers."""
        return next(
            (w for w in self.ways if w.kind == "limit" and w.writers == writers and w.usable), None
        )

    def ours_beside(self, peer: WayResult) -> WayResult | None:
        """Our way to hold against a peer: the first one with its transaction boundary, else the
        first.
        """
        ours = [way for way in self.ways if way.kind == "ours" and way.usable and way.writers == 1]
        same = [way for way in ours if way.boundary == peer.boundary]
        return next(iter(same or ours), None)

    def closest(self) -> tuple[Ratio, WayResult, WayResult] | None:
        """The peer that leaves us the smallest ratio: the ratio, our way, the peer."""
        found = [
            (ours.over(peer), ours, peer)
            for peer in self.ways
            if peer.kind == "peer" and peer.usable
            if (ours := self.ours_beside(peer)) is not None
        ]
        return min(found, key=lambda one: one[0].median, default=None)

    @property
    def failures(self) -> dict[str, str]:
        """Reasons, by the name of the way."""
        return {way.name: way.failure for way in self.ways if way.failure is not None}
