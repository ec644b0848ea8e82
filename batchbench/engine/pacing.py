"""When the next chunk may be sent, so that a load stays within what its user allows. Pure: times
and what the server showed are handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Literal

from batchbench.errors import ConfigError

Reason = Literal["rows", "wal", "replica lag", "locks"]

_MIB = 1 << 20
_CHUNKS_A_SECOND = 4  # at least: a rate is kept within the second, not only over the load
_CHUNKS_A_LAG = 16  # at least, of what a replica may lag behind
_ROW_BYTES = 50  # that a row has besides its values: header, index entry, WAL record
_WAL_A_BYTE = 2.0  # before anything was seen: WAL that each of all these bytes makes
_KEPT_S = 1.0  # of a rate that was not used
_ASK_AGAIN_S = 0.05
_NOTHING_S = 1e-4  # clocks and floats are not finer


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceLimits:
    """How a load spares a server that others use too. None: no limit.

    max_rows_per_s: rows that are sent. max_wal_mb_per_s: WAL of the whole server, of which the load
    takes what others leave. max_replica_lag_mb: WAL that a connected replica has not replayed.
    pause_when_locks_wait: while another session waits for a lock that the load holds. MB are 2**20.
    """

    max_rows_per_s: float | None = None
    max_wal_mb_per_s: float | None = None
    max_replica_lag_mb: float | None = None
    pause_when_locks_wait: bool = False

    def __post_init__(self) -> None:
        for name in ("max_rows_per_s", "max_wal_mb_per_s", "max_replica_lag_mb"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} {value} cannot work: it must be a number over 0")

    @property
    def any(self) -> bool:
        """Whether there is a limit at all."""
        return self.max_rows_per_s is not None or self.asks_server

    @property
    def asks_server(self) -> bool:
        """Whether the server has to be asked how it is."""
        asked = (f.name for f in fields(self) if f.name != "max_rows_per_s")
        return any(getattr(self, name) for name in asked)

    @property
    def most_chunk_rows(self) -> float:
        """Rows a chunk, so that pauses are short; 1 or more."""
        by_rate = (self.max_rows_per_s or math.inf) / _CHUNKS_A_SECOND
        return max(1.0, min(by_rate, self.most_chunk_bytes / _ROW_BYTES))

    @property
    def most_chunk_bytes(self) -> float:
        """Bytes of a chunk's values, so that one chunk's WAL is a small part of what may be."""
        wal_mb = [
            (self.max_wal_mb_per_s or math.inf) / _CHUNKS_A_SECOND,
            (self.max_replica_lag_mb or math.inf) / _CHUNKS_A_LAG,
        ]
        return min(wal_mb) * _MIB / _WAL_A_BYTE


@dataclass(frozen=True, slots=True)
class Reading:
    """What the server showed; None: it was not asked, or could not say.

    wal_bytes: position in its WAL. lag_bytes: of the replica that is furthest behind; 0 without
    one; None with a reason where this role may not see it. waiters: sessions that wait for a lock
    of ours.
    """

    wal_bytes: int | None = None
    lag_bytes: int | None = None
    why_no_lag: str = ""
    waiters: int | None = None


@dataclass(frozen=True, slots=True)
class Chunks:
    """One or several: the WAL that is expected of them, and the size of their rows in bytes."""

    wal_bytes: float = 0.0
    size: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """What was sent before the server was asked: the chunks that had ended, how many had begun."""

    ended: Chunks
    begun: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a chunk has to wait, and after how long to ask again."""

    reason: Reason
    seconds: float


@dataclass(slots=True)
class Rate:
    """Something that grows by `per_s`, and is spent.

    Starts empty, so that at no time more was spent than had come by then; what is not used within
    a second is lost.
    """

    per_s: float
    _credit: float = 0.0
    _at_s: float | None = None

    def wait_s(self, amount: float, now_s: float) -> float:
        """How long until `amount` can be spent; 0 where that is nothing to speak of."""
        passed_s = now_s - (now_s if self._at_s is None else self._at_s)
        self._at_s = now_s
        most = max(self.per_s * _KEPT_S, amount)
        self._credit = min(self._credit + self.per_s * passed_s, most)
        wait_s = (amount - self._credit) / self.per_s
        return wait_s if wait_s > _NOTHING_S else 0.0

    def spend(self, amount: float) -> None:
        """It is gone; more than there was has to be waited for the next time."""
        self._credit -= amount


@dataclass(slots=True)
class Pace:
    """Decides for each chunk whether it may go now; see `hold`."""

    limits: PaceLimits
    _rows: Rate | None = None
    _wal: Rate | None = None
    _lag_bytes: int | None = None
    _waiters: int = 0
    _position: int | None = None  # in the WAL, as last seen
    _own: bool = False  # whether a chunk was in flight since the last look
    _own_wal: int = 0  # what was made between two looks that had one between them
    _begun: int = 0
    _in_flight: float = 0.0  # WAL that chunks in flight will make
    _ended: Chunks = field(default_factory=Chunks)
    _ended_seen: Chunks = field(default_factory=Chunks)  # as of the last look
    _expected: dict[int, Chunks] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.limits.max_rows_per_s is not None:
            self._rows = Rate(self.limits.max_rows_per_s)
        if self.limits.max_wal_mb_per_s is not None:
            self._wal = Rate(self.limits.max_wal_mb_per_s * _MIB)

    def asks(self) -> Asked:
        """The server is about to be asked how it is."""
        return Asked(self._ended, self._begun)

    def seen(self, asked: Asked, reading: Reading) -> None:
        """It has answered; chunks may have begun and ended meanwhile."""
        self._waiters = reading.waiters or 0
        self._lag_bytes = reading.lag_bytes
        if reading.wal_bytes is None:
            return
        if self._position is not None:
            made = max(0, reading.wal_bytes - self._position)  # a failover may set it back
            self._own_wal += made if self._own else 0
            if self._wal is not None:
                self._wal.spend(made)
        self._position, self._ended_seen = reading.wal_bytes, asked.ended
        self._own = bool(self._expected) or self._begun > asked.begun

    def hold(self, row_count: int, byte_count: int, now_s: float) -> Hold | None:
        """What keeps a chunk back for longest; None: it may go."""
        not_seen = self._ended.wal_bytes - self._ended_seen.wal_bytes
        coming, own = self._in_flight + not_seen, self._wal_of(_size(row_count, byte_count))
        holds = []
        if self._rows is not None:
            holds.append(Hold("rows", self._rows.wait_s(row_count, now_s)))
        if self._wal is not None:
            holds.append(Hold("wal", self._wal.wait_s(coming + own, now_s)))
        if self._lags(coming, own):
            holds.append(Hold("replica lag", _ASK_AGAIN_S))
        if self._waiters:
            holds.append(Hold("locks", _ASK_AGAIN_S))
        longest = max(holds, key=lambda hold: hold.seconds, default=None)
        return longest if longest is not None and longest.seconds > 0 else None

    def _lags(self, coming: float, own: float) -> bool:
        if self.limits.max_replica_lag_mb is None or self._lag_bytes is None:
            return False
        most = self.limits.max_replica_lag_mb * _MIB
        # A row of more than half of it has to go some time.
        return self._lag_bytes + coming + min(own, most / 2) > most

    def _wal_of(self, size: int) -> float:
        """What a chunk will make, by what others made."""
        known = self._ended_seen.size
        return size * (self._own_wal / known if known else _WAL_A_BYTE)

    def begin(self, number: int, row_count: int, byte_count: int) -> None:
        """A chunk is sent; the number tells it apart."""
        if self._rows is not None:
            self._rows.spend(row_count)
        size = _size(row_count, byte_count)
        self._expected[number] = Chunks(self._wal_of(size), size)
        self._in_flight += self._expected[number].wal_bytes
        self._begun += 1
        self._own = True

    def end(self, number: int) -> None:
        """It is settled, well or not."""
        chunk = self._expected.pop(number)
        self._in_flight -= chunk.wal_bytes
        self._ended = Chunks(self._ended.wal_bytes + chunk.wal_bytes, self._ended.size + chunk.size)


def _size(row_count: int, byte_count: int) -> int:
    return byte_count + _ROW_BYTES * row_count
