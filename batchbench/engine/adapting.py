"""How many rows the next chunk gets: a fixed number, or one that adapts to measured rows/s.

The adaptive size is a search over a ladder of sizes, start x 2^n within the limits, so that few
different statements are ever prepared. Most chunks have the *base* size; now and then a few chunks
in a row *probe* another rung, four or two times as large or small. The ratio of speeds, the probe's
to that of the base chunks before it, is a pair, as in `batchbench.stats`: the slow noise of a
machine hits both. A rung whose pairs say that it is faster becomes the base. Factors of four get
past local dips.

What a search may cost is bounded. While it climbs, a probe waits until as many rows as it has were
handed out, so that sizes grow with the load as in TCP's slow start, or longer where less is to be
hoped for. Each probe that brings nothing doubles the rows that must pass before the next. Once no
rung near the base was found to be faster, the size is settled: others are probed rarely, until
chunks take twice or half as long as they did, when the search begins anew.

tests/test_adapting.py holds it against simulated servers.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Protocol

MOST_ROWS = 1_000_000
"""Of an adaptive chunk, where no limit is tighter and it did not start with more."""

_FEWEST_ROWS = 64
_STEPS = (2, 1, -1, -2)
"""Rungs from the base, in the order in which they are tried."""

_GAIN = math.log(1.03)
"""A rung must be faster by so much to become the base: less is not worth a move."""

_CAUTION = 0.05
"""And by so much more where a single pair says it, in logarithms; the spread of one was measured
as 0.11-0.17. More would be surer of each move, and later: simulated loads lose by either."""

_PLAINLY_SLOWER = -0.15
"""One pair is enough to say so."""

_COLD_COST = 4
"""How many chunks' time one takes whose statement is prepared; seen: 2 over psycopg, 4 over asyncpg
(4,000 rows x 6 columns)."""

_PROBE_COST = 0.2
"""What a probe that fails may cost, as a share of its rows: it waits until what it may bring, in as
many rows as were handed out so far, is worth that."""

_CLIMBING_WAIT = 1.0, 8.0
"""How many times its rows, at least and at most."""

_SEARCHING_SPACING, _SETTLED_SPACING = (1, 8), (16, 64)
"""How many times the rows of a probe pass before it, at least and at most."""

_PAIRS_KEPT = 4

_LOST_AFTER = 256
"""So many chunks are never in flight."""

_CHANGED = math.log(2)
"""Base chunks whose median time moved so far say that the server or the network changed."""


class Sizing(Protocol):
    """Decides the rows of the chunks of one table. Used by two threads: one cuts, one writes."""

    @property
    def row_count(self) -> int:
        """Rows of most chunks at present."""

    @property
    def settled(self) -> bool:
        """Whether nothing near it was found to be faster."""

    def cut(self) -> int:
        """Rows of the next chunk; to be called once for each."""

    def bound(self, row_count: int) -> None:
        """No later chunk may have more rows: they would not fit a statement, or memory."""

    def wrote(self, row_count: int, seconds: float | None) -> None:
        """A chunk came to its end. row_count: what `cut` gave for it.

        seconds: of its writer, since the end of its chunk before; None where they say nothing
        about the size: the chunk was cut short, or was disturbed by a failure.
        """


@dataclass(slots=True)
class FixedSize:
    """As configured. See `Sizing`."""

    row_count: int

    @property
    def settled(self) -> bool:
        return True

    def cut(self) -> int:
        return self.row_count

    def bound(self, row_count: int) -> None:
        """Nothing: limits were seen to when it was planned, and memory cuts single chunks."""

    def wrote(self, row_count: int, seconds: float | None) -> None:
        """Nothing to learn."""


@dataclass(slots=True)
class _Probe:
    """Chunks of another rung under way: so many are still to be cut, to be written, and of those
    not to be timed.
    """

    rung: int
    row_count: int
    uncut: int
    unwritten: int
    cold: int
    seconds: list[float] = field(default_factory=list)


class AdaptiveSize:
    """Searches for the fastest size. See `Sizing`, and the module for how.

    start: rows of the first chunks. most: rows of any. probe_chunks: timed chunks of a probe.
    cold_chunks: how many first chunks of a size are not timed, because a statement is prepared
    for them. Pure: it reads no clock.
    """

    def __init__(
        self, start: int, most: int, *, probe_chunks: int = 2, cold_chunks: int = 0
    ) -> None:
        self._start = min(start, most)
        self._most = min(most, max(start, MOST_ROWS))
        self._probe_chunks, self._cold_chunks = probe_chunks, cold_chunks
        self._lock = threading.Lock()
        self._base = 0
        self._base_seconds: deque[float] = deque(maxlen=2 * probe_chunks)
        self._usual_s: float | None = None  # the median of the first of them
        self._uncold = cold_chunks  # chunks of the first size that are not timed
        self._warm = {self._start}  # sizes that were cut before
        self._pairs: dict[int, deque[float]] = {}  # rung -> logarithms of its speed to the base's
        self._probe: _Probe | None = None
        self._cut_rows = 0
        self._rows_since = 0  # the last probe
        self._wait = _CLIMBING_WAIT[0]
        self._spacing = 0  # probes' rows between two of them; 0 while climbing

    @property
    def row_count(self) -> int:
        return self._rows(self._base)

    @property
    def settled(self) -> bool:
        return not any(map(self._in_doubt, self._near()))

    def cut(self) -> int:
        with self._lock:
            if self._probe is None or self._is_lost(self._probe):
                self._probe = self._next_probe()
            probe, rows = self._probe, self.row_count
            self._rows_since += rows
            if probe is not None and probe.uncut:
                probe.uncut -= 1
                rows, self._rows_since = probe.row_count, 0
            self._cut_rows += rows
            return rows

    def bound(self, row_count: int) -> None:
        with self._lock:
            if row_count >= self._most:
                return
            # Down to a rung, so that rows of uneven width do not bring new statements.
            self._most = self._rows(math.floor(math.log2(max(1, row_count) / self._start)))
            top = self._top
            self._pairs = {rung: of for rung, of in self._pairs.items() if rung < top}
            if self._probe is not None and self._probe.rung >= top:
                self._probe = None
            if self._base >= top:
                self._base = top
                self._begin_base()

    def wrote(self, row_count: int, seconds: float | None) -> None:
        with self._lock:
            probe = self._probe
            if probe is not None and row_count == probe.row_count:
                self._probed(probe, seconds)
            elif row_count == self.row_count and self._uncold:
                self._uncold -= 1
            elif row_count == self.row_count and seconds is not None:
                self._base_seconds.append(seconds)
                if len(self._base_seconds) == self._base_seconds.maxlen:
                    self._look_for_change(median(self._base_seconds))

    def _look_for_change(self, now_s: float) -> None:
        """Forget what is no longer so."""
        if self._usual_s is not None and abs(math.log(now_s / self._usual_s)) > _CHANGED:
            self._pairs.clear()
            self._spacing, self._usual_s = 1, None
        self._usual_s = self._usual_s or now_s

    # --- probes -----------------------------------------------------------------------------

    def _next_probe(self) -> _Probe | None:
        """A near rung that is in doubt, else any; once enough rows have passed."""
        near = self._near()
        if not near or len(self._base_seconds) < self._probe_chunks:
            return None
        rung = min(near, key=self._interest)
        rows = self._rows(rung)
        cold = 0 if rows in self._warm else self._cold_chunks
        chunks = self._probe_chunks + cold
        if not self._may_cost((self._probe_chunks + _COLD_COST * cold) * rows):
            return None
        self._warm.add(rows)
        return _Probe(rung, rows, chunks, chunks, cold)

    def _is_lost(self, probe: _Probe) -> bool:
        """Whether its rows wait for others of their shape, which may never come."""
        largest = max(probe.row_count, self.row_count)
        return not probe.uncut and self._rows_since > _LOST_AFTER * largest

    def _interest(self, rung: int) -> tuple[bool, int, float]:
        """Orders rungs: in doubt, with fewer pairs, faster come first."""
        pairs = self._pairs.get(rung)
        return not self._in_doubt(rung), len(pairs or ()), -fmean(pairs) if pairs else 0.0

    def _may_cost(self, rows: int) -> bool:
        """Whether so many rows may go into a probe now."""
        if not self._spacing:
            return self._cut_rows >= self._wait * rows
        least, most = _SETTLED_SPACING if self.settled else _SEARCHING_SPACING
        return self._rows_since >= min(max(self._spacing, least), most) * rows

    def _probed(self, probe: _Probe, seconds: float | None) -> None:
        probe.unwritten -= 1
        if probe.cold:
            probe.cold -= 1
        elif seconds is not None:
            probe.seconds.append(seconds)
        if not probe.unwritten:
            self._probe = None
            if probe.seconds and self._base_seconds:
                self._judge(probe)

    def _judge(self, probe: _Probe) -> None:
        """Take the pair; move where the rung's pairs say that it is faster."""
        base_s, probe_s = fmean(self._base_seconds), fmean(probe.seconds)
        pairs = self._pairs.setdefault(probe.rung, deque(maxlen=_PAIRS_KEPT))
        pairs.append(math.log(probe.row_count / probe_s) - math.log(self.row_count / base_s))
        if fmean(pairs) > _GAIN + _CAUTION / math.sqrt(len(pairs)):
            self._move(probe)
        else:
            self._spacing = min(max(1, 2 * self._spacing), _SETTLED_SPACING[1])

    def _move(self, probe: _Probe) -> None:
        """Make the rung the base; what the other rungs were to the old base, they now are to it."""
        gain = fmean(self._pairs.pop(probe.rung))
        known = {**self._pairs, self._base: (0.0,)}
        self._pairs = {
            rung: deque((pair - gain for pair in pairs), _PAIRS_KEPT)
            for rung, pairs in known.items()
        }
        least, most = _CLIMBING_WAIT
        promise = _promise(gain, probe.row_count / self.row_count)
        self._wait = min(max(least, _PROBE_COST / promise), most)
        self._base = probe.rung
        self._spacing = min(self._spacing, 1)
        self._begin_base(probe.seconds)

    def _begin_base(self, seconds: Sequence[float] = ()) -> None:
        """Forget the chunks of another size. seconds: those of this one so far."""
        self._base_seconds.clear()
        self._base_seconds.extend(seconds)
        self._usual_s = None

    # --- the ladder -------------------------------------------------------------------------

    @property
    def _top(self) -> int:
        """The rung where `_rows` reaches the most."""
        return math.ceil(math.log2(self._most / self._start))

    def _rows(self, rung: int) -> int:
        return max(1, min(self._most, int(self._start * 2.0**rung)))

    def _near(self) -> list[int]:
        """Rungs to be probed, each once."""
        bottom = min(0, self._base, math.ceil(math.log2(_FEWEST_ROWS / self._start)))
        rungs = (min(self._top, max(bottom, self._base + step)) for step in _STEPS)
        return [rung for rung in dict.fromkeys(rungs) if rung != self._base]

    def _in_doubt(self, rung: int) -> bool:
        """Whether so little is known of a rung that it may yet be faster than the base."""
        pairs = self._pairs.get(rung, ())
        return not pairs or (len(pairs) == 1 and pairs[0] > _PLAINLY_SLOWER)


def _promise(gain: float, factor: float) -> float:
    """By how much still larger chunks could be faster, as a share; `factor` times the rows brought
    `gain`, a logarithm.

    As if a chunk cost a fixed time and one for each row: what is left is the part of the fixed one.
    """
    grown = math.exp(gain)
    if factor <= 1 or grown >= factor:
        return 1.0
    return (grown - 1) / (1 - grown / factor) / factor
