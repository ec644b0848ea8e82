"""Waits of backends over time as a histogram, and the pace at which to look at them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

RUNNING = "running"
"""Where a backend waits for nothing: it has the CPU, or wants it."""

INTERVAL_S = 0.05
COST_SHARE = 0.01
"""Of one core, that looking at waits and at CPU may take; memory is looked at for less again."""

UNSEEN_COST_S = 0.0005
"""CPU of a backend for a look, where it cannot be seen: so much was measured on 15 and 18, after
a pause; 0.2 ms without one."""

_LONGEST_INTERVAL_S = 5.0
_GOLDEN = 0.618_033_988_749_895


@dataclass(frozen=True, slots=True)
class Look:
    """One backend at one moment. wait: "Type:Event", "" for none; None: not ours to read."""

    pid: int
    wait: str | None
    state: str | None


@dataclass(slots=True)
class WaitHistogram:
    """Backend-seconds by what was waited for. Each look stands for the time since the last."""

    seconds: dict[str, float] = field(default_factory=dict)
    looks: int = 0
    most_backends: int = 0
    most_locked: int = 0

    def add(self, backends: Sequence[Look], weight_s: float) -> None:
        """Count a look at all backends of the load."""
        self.looks += 1
        self.most_backends = max(self.most_backends, len(backends))
        locked = sum((look.wait or "").startswith("Lock:") for look in backends)
        self.most_locked = max(self.most_locked, locked)
        for look in backends:
            if look.wait is not None and look.state is not None:
                name = look.wait or RUNNING
                self.seconds[name] = self.seconds.get(name, 0.0) + weight_s

    def shares(self) -> dict[str, float]:
        """Share of all backend-seconds by event, the largest first; they add up to 1."""
        whole = sum(self.seconds.values())
        ordered = sorted(self.seconds.items(), key=itemgetter(1), reverse=True)
        return {name: spent / whole for name, spent in ordered} if whole else {}


def share_of(shares: Mapping[str, float], event_type: str) -> float:
    """The share of all events of a type: "Lock", "Client"."""
    return sum(share for name, share in shares.items() if name.startswith(f"{event_type}:"))


@dataclass(slots=True)
class Pace:
    """When to look again, so that all looks together take at most `share` of one core.

    expected_s: CPU seconds that the next look will take, as the last one did. Intervals vary
    between half and one and a half times their mean, along a sequence without a period: a load
    whose chunks take as long as an interval must not be met at the same point each time.
    """

    least_s: float = INTERVAL_S
    share: float = COST_SHARE
    expected_s: float = UNSEEN_COST_S
    _turn: float = 0.0

    def wait_s(self, elapsed_s: float, spent_s: float) -> float:
        """Seconds until the next look. spent_s: CPU seconds of looking in `elapsed_s`."""
        self._turn = (self._turn + _GOLDEN) % 1.0
        affordable_s = (spent_s + self.expected_s) / self.share - elapsed_s
        return min(max(self.least_s * (0.5 + self._turn), affordable_s), _LONGEST_INTERVAL_S)
