"""What must be true after any load: read from the table, never taken from the client's word."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchbench.accounting import STATES, LoadResult
from tests.faults.setup import BAD_KINDS, SERVERS_KINDS, Setup
from tests.fixtures.loading import query

SQLSTATES = {**BAD_KINDS, **SERVERS_KINDS}
_RANGE = re.compile(r"rows? ([\d,]+)(?:-([\d,]+))?$")


@dataclass(slots=True)
class Verdict:
    """lost: counted as committed (or, of a load that ended well, sent) and not in the table.
    doubled: copies over one. problems: every other broken promise, in words.
    """

    lost: int = 0
    doubled: int = 0
    problems: list[str] = field(default_factory=list)

    def claim(self, holds: bool, problem: str) -> None:
        """Note a problem where a claim does not hold."""
        if not holds:
            self.problems.append(problem)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a load's rows should come to. skipped: row numbers that a trigger drops."""

    rows: Mapping[int, tuple[int, int, int | None, str | None]]
    bad: Mapping[int, str]
    skipped: frozenset[int] = frozenset()
    duplicates: frozenset[int] = frozenset()

    @classmethod
    def of(cls, setup: Setup, **changes: Any) -> Expected:
        """Of a setup's own rows."""
        return cls(setup.rows(), setup.bad, **changes)

    @property
    def good(self) -> set[int]:
        """Rows that have to be in the table in the end; of twins either."""
        return set(self.rows) - set(self.bad) - self.skipped - self.duplicates

    def elder(self, number: int) -> int | None:
        """The row that a twin has its key from."""
        return number - 1 if self.bad.get(number) == "twin" else None


def stored_rows(dsn: str, table: str = "t") -> list[tuple[Any, ...]]:
    """All rows of the load in the table, by a connection of our own."""
    return query(dsn, f"SELECT row_id, key, amount, note FROM {table} WHERE row_id > 0")


def dead_rows(path: Path) -> list[dict[str, Any]]:
    """The records of the dead letter, none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]


def check(
    expected: Expected,
    result: LoadResult,
    stored: list[tuple[Any, ...]],
    dead: list[dict[str, Any]],
    *,
    finished: bool,
    unknown_allowed: bool,
) -> Verdict:
    """Hold a load's result against the table and the dead letter.

    finished: the load ended without an error, so nothing may be left unwritten.
    """
    verdict = Verdict()
    _check_sums(result, verdict)
    copies = Counter(row[0] for row in stored)
    verdict.doubled = sum(copies.values()) - len(copies)
    strange = sorted(set(copies) - set(expected.rows))
    verdict.claim(not strange, f"rows that nobody sent: {strange[:5]}")
    altered = [r[0] for r in stored if r[0] in expected.rows and r != expected.rows[r[0]]]
    verdict.claim(not altered, f"altered rows: {altered[:5]} ({len(altered)})")
    total, there = result.total, set(copies)
    verdict.claim(total.unknown == 0 or unknown_allowed, f"unknown: {total.unknown}")
    # Rows of unknown fate that are there must not make up for others that are not.
    sure = len(there - unknown_rows(result))
    verdict.lost = max(0, total.committed - sure)
    verdict.claim(sure <= total.committed, f"in the table {sure}, committed {total.committed}")
    rejected = _check_dead(expected, result, dead, there, verdict, finished=finished)
    if finished:
        _check_finished(expected, result, there, rejected, verdict)
    return verdict


def _check_sums(result: LoadResult, verdict: Verdict) -> None:
    for name, counts in [*result.tables.items(), ("all", result.total)]:
        verdict.claim(counts.read == counts.accounted, f"{name}: read {counts.read} != accounted")
        negative = {state: n for state in STATES if (n := getattr(counts, state)) < 0}
        verdict.claim(not negative, f"{name}: {negative}")


def _check_dead(
    expected: Expected,
    result: LoadResult,
    dead: list[dict[str, Any]],
    there: set[int],
    verdict: Verdict,
    *,
    finished: bool,
) -> set[int]:
    """Each rejected row once, for the right reason, and not in the table."""
    numbers = [record["row_number"] for record in dead]
    rejected = set(numbers)
    verdict.claim(len(numbers) == len(rejected), "a row is twice in the dead letter")
    verdict.claim(
        len(rejected) == result.total.rejected,
        f"dead letter has {len(rejected)} rows, rejected are {result.total.rejected}",
    )
    both = sorted(rejected & there)
    verdict.claim(not both, f"in the dead letter and in the table: {both[:5]}")
    twins = {elder for number in expected.bad if (elder := expected.elder(number)) is not None}
    for record in dead:
        number = record["row_number"]
        wanted = SQLSTATES.get(expected.bad.get(number, "twin" if number in twins else ""), "")
        verdict.claim(
            record["sqlstate"] == wanted,
            f"row {number} rejected with {record['sqlstate']}, not {wanted or 'at all'}",
        )
    if finished:
        missing = [n for n in expected.bad if not {n, expected.elder(n)} & rejected]
        verdict.claim(not missing, f"bad rows that are not in the dead letter: {missing[:5]}")
    return rejected


def _check_finished(
    expected: Expected, result: LoadResult, there: set[int], rejected: set[int], verdict: Verdict
) -> None:
    total = result.total
    verdict.claim(total.read == len(expected.rows), f"read {total.read} of {len(expected.rows)}")
    verdict.claim(total.unwritten == 0, f"finished, but {total.unwritten} rows unwritten")
    verdict.claim(
        total.skipped_by_server == len(expected.skipped),
        f"skipped {total.skipped_by_server}, not {len(expected.skipped)}",
    )
    verdict.claim(
        total.duplicates == len(expected.duplicates),
        f"duplicates {total.duplicates}, not {len(expected.duplicates)}",
    )
    everyone = set(expected.rows) - expected.skipped - expected.duplicates
    missing = everyone - there - rejected - unknown_rows(result)
    verdict.lost = max(verdict.lost, len(missing))


def unknown_rows(result: LoadResult) -> set[int]:
    """The row numbers that the result names as unknown."""
    numbers: set[int] = set()
    for place in result.unknown_rows:
        found = _RANGE.search(place)
        assert found is not None, place
        first, last = (int(text.replace(",", "")) for text in (found[1], found[2] or found[1]))
        numbers.update(range(first, last + 1))
    return numbers


def ledger_rows(dsn: str, load_id: str, schema: str = "batchbench") -> set[int]:
    """Row numbers that the ledger says are settled (rejected ones between others included)."""
    spans = query(
        dsn, f"SELECT first_row, row_count FROM {schema}.parts WHERE load_id = '{load_id}'"
    )
    return set(_numbers(spans))


def _numbers(spans: Iterable[tuple[Any, ...]]) -> Iterable[int]:
    for first, count in spans:
        yield from range(first, first + count)
