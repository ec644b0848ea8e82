"""What a chunk takes of its writer, so that chunks of different sizes can be compared."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ChunkTimes:
    """Of one writer. Times are the clock's, in seconds.

    disturbed: whether a failure is in the chunk under way. seconds: of the last chunk, from the end
    of the one before, waits included, with an even share of a COMMIT that several chunks have
    together; None where it was disturbed.
    """

    disturbed: bool = False
    seconds: float | None = None
    _ended_s: float | None = None
    _commit_s: float = 0.0

    def take(
        self, started_s: float, written_s: float, committed_s: float, chunks_together: float
    ) -> None:
        """A chunk is done with. committed_s: as `written_s` where there was no COMMIT."""
        if committed_s > written_s:
            self._commit_s = committed_s - written_s
        since_s = started_s if self._ended_s is None else self._ended_s
        seconds = written_s - since_s + self._commit_s / chunks_together
        self.seconds = None if self.disturbed else seconds
        self._ended_s, self.disturbed = committed_s, False
