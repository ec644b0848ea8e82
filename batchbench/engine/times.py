"""What a chunk takes of its writer, so that chunks of different sizes can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ChunkTimes:
    """Of one writer. Times are the clock's, in seconds.

    seconds: of the last chunk, from the end of the one before, waits included, with an even share
    of a COMMIT that several chunks have together; None where a failure disturbed it. That rows are
    refused disturbs one chunk; where the one before had such rows too, finding them is a part of
    what chunks take.
    """

    seconds: float | None = None
    _disturbed: bool = False
    _refused: bool = False
    _refused_before: bool = False
    _ended_s: float | None = None
    _commit_s: float = 0.0

    def failed(self, *, by_row: bool) -> None:
        """Something failed in the chunk under way. by_row: for what stands in a row."""
        self._refused |= by_row
        self._disturbed |= not (by_row and self._refused_before)

    def take(
        self, started_s: float, written_s: float, committed_s: float, chunks_together: float
    ) -> None:
        """A chunk is done with. committed_s: as `written_s` where there was no COMMIT."""
        if committed_s > written_s:
            self._commit_s = committed_s - written_s
        since_s = started_s if self._ended_s is None else self._ended_s
        seconds = written_s - since_s + self._commit_s / chunks_together
        self.seconds = None if self._disturbed else seconds
        self._refused_before, self._refused = self._refused, False
        self._ended_s, self._disturbed = committed_s, False
