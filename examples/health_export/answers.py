"""What the service answers: every metric of a payload is in one state, by its place in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from batchbench.writer import Outcome


@dataclass(frozen=True, slots=True)
class Rejected:
    """A metric that no table takes. row: its place among the payload's metrics of this type, from
    1. sqlstate, column, constraint, reason: why, without its values.
    """

    row: int
    sqlstate: str
    reason: str
    column: str | None
    constraint: str | None


@dataclass(frozen=True, slots=True)
class MetricAnswer:
    """What became of a payload's metrics of one type.

    received == committed + duplicates + rejected + unwritten + unknown. unwritten: not in the
    table, send them again; unknown: perhaps, send them again too.
    """

    received: int = 0
    committed: int = 0
    duplicates: int = 0
    rejected: int = 0
    unwritten: int = 0
    unknown: int = 0
    duplicate_rows: tuple[int, ...] = ()
    rejected_rows: tuple[Rejected, ...] = ()


@dataclass(frozen=True, slots=True)
class PayloadAnswer:
    """metrics: by type. not_loaded: records that no table is for, by their kind or the reason."""

    metrics: Mapping[str, MetricAnswer]
    not_loaded: Mapping[str, int]

    @property
    def total(self) -> MetricAnswer:
        """Over all types, without places."""
        counts = [f.name for f in fields(MetricAnswer) if not f.name.endswith("_rows")]
        return MetricAnswer(
            *(sum(getattr(one, name) for one in self.metrics.values()) for name in counts)
        )

    @property
    def incomplete(self) -> bool:
        """Whether something has to be sent again."""
        return self.total.unwritten + self.total.unknown > 0

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        counts = {name: n for name, n in asdict(self.total).items() if isinstance(n, int)}
        counts["received"] += sum(self.not_loaded.values())
        return {
            **counts,
            "not_loaded": dict(self.not_loaded),
            "metrics": {metric: asdict(one) for metric, one in self.metrics.items()},
        }


def answer_of(outcome: Outcome) -> MetricAnswer:
    """The outcome of a payload's metrics of one type, in its own count of them."""
    return MetricAnswer(
        received=outcome.row_count,
        committed=outcome.committed,
        duplicates=len(outcome.duplicates),
        rejected=len(outcome.rejected),
        unwritten=outcome.unwritten,
        unknown=outcome.unknown,
        duplicate_rows=tuple(row + 1 for row in outcome.duplicates),
        rejected_rows=tuple(
            Rejected(r.row + 1, r.sqlstate, r.reason, r.column, r.constraint)
            for r in outcome.rejected
        ),
    )
