"""What a server would store of a value's text, and whether a load did right by it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg

from batchbench.engine import load
from batchbench.table import TableName
from tests.edges.given import Given, Kind
from tests.edges.other_types import OTHER_SQL
from tests.edges.sources import KINDS, Drawn, Filled, SourceKind
from tests.edges.texts import ENUM_SQL
from tests.fixtures.loading import options

# Casts to a limited type round and cut in silence, so the result is held against the text as the
# unlimited type has it. format('%s') prints as the type's output function does: char(n) with its
# blanks.
_SETUP = f"""
CREATE TYPE mood AS ENUM ({ENUM_SQL});
CREATE DOMAIN positive AS int4 CHECK (VALUE > 0);
CREATE DOMAIN short AS varchar(3);
{OTHER_SQL}
CREATE FUNCTION what_is_stored(given text, via text, declared text, rounds bool) RETURNS text[]
LANGUAGE plpgsql AS $$
DECLARE shown text; kept bool;
BEGIN
  EXECUTE format('SELECT format(''%%s'', s), %s
      FROM (SELECT p, p::%s AS s FROM (SELECT $1::%s AS p) AS x) AS y',
    CASE WHEN rounds OR via = declared THEN 'true' ELSE format('s::%s = p', via) END, declared, via)
    INTO shown, kept USING given;
  RETURN ARRAY[shown, CASE WHEN NOT kept THEN 'altered' END];
EXCEPTION WHEN OTHERS THEN RETURN ARRAY[NULL, SQLSTATE];
END $$;
"""
_ASK = """
SELECT what_is_stored(g, v, d, r)
FROM unnest(%s::text[], %s::text[], %s::text[], %s::bool[]) WITH ORDINALITY AS q (g, v, d, r, place)
ORDER BY place
"""

Question = tuple[str, str, str, bool]


@dataclass(frozen=True, slots=True)
class Answer:
    """stored: as the server prints it; None: it refuses the text, or would alter it."""

    stored: str | None
    state: str | None


class Edges:
    """A database with one column of each kind, and a connection that asks and looks."""

    def __init__(self, dsn: str, folder: Path, kinds: Sequence[Kind] = KINDS) -> None:
        self._dsn, self._folder = dsn, folder
        self._answers: dict[Question, Answer] = {}
        self._connection = psycopg.connect(
            dsn, autocommit=True, options="-c timezone=UTC -c client_encoding=UTF8"
        )
        columns = ", ".join(f"c{number} {kind.sql}" for number, kind in enumerate(kinds))
        self._connection.execute(_SETUP.encode())
        self._connection.execute(f"CREATE TABLE t (id int4, {columns})".encode())

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def hold(self, source: SourceKind, drawn: Drawn, strategy: str, driver: str) -> None:
        """Load rows. Asserts that each is stored as it went in, or refused where that is right."""
        self._connection.execute("TRUNCATE t")
        dead_letter = self._folder / "rejects.ndjson"
        dead_letter.unlink(missing_ok=True)
        loading = load(
            source.build(drawn, self._folder),
            {None: TableName("t")},
            self._dsn,
            options(
                strategy=strategy,
                driver=driver,
                chunk_size=drawn.chunk_size,
                dead_letter=dead_letter,
                exactly_once="off",
            ),
        )
        counts = asyncio.run(loading).total
        rejects = _records(dead_letter)
        stored = self._stored(drawn)
        assert counts.read == counts.accounted == drawn.row_count
        assert (counts.committed, counts.rejected) == (len(stored), len(rejects))
        assert sorted([*stored, *rejects]) == list(range(1, drawn.row_count + 1))
        self._judge(drawn, stored, rejects)

    def _stored(self, drawn: Drawn) -> dict[int, tuple[str | None, ...]]:
        """id -> its columns as the server prints them."""
        shown = "".join(
            f", CASE WHEN {c.name} IS DISTINCT FROM NULL THEN format('%s', {c.name}) END"
            for c in drawn.columns
        )
        rows = self._connection.execute(f"SELECT id{shown} FROM t".encode()).fetchall()
        assert len({row[0] for row in rows}) == len(rows), "a row is stored twice"
        return {row[0]: row[1:] for row in rows}

    def _judge(
        self, drawn: Drawn, stored: dict[int, tuple[str | None, ...]], rejects: dict[int, Any]
    ) -> None:
        self._ask([q for c in drawn.columns for g in c.values for q in _questions(c, g)])
        wrong = list(self._wrong(drawn, stored, rejects))
        assert not wrong, "\n".join(wrong)

    def _wrong(
        self, drawn: Drawn, stored: dict[int, tuple[str | None, ...]], rejects: dict[int, Any]
    ) -> Iterator[str]:
        for row in range(1, drawn.row_count + 1):
            cells = [(column, column.values[row - 1]) for column in drawn.columns]
            if row not in rejects:
                for (column, given), found in zip(cells, stored[row], strict=True):
                    if not self._right(column, given, found):
                        yield f"{_name(column)}: {given!r:.200} is stored as {found!r:.200}"
                continue
            reject = rejects[row]
            assert len(reject["sqlstate"]) == 5
            assert reject["reason"]
            guilty = [(c, g) for c, g in cells if reject["column"] in (None, c.name)]
            if not any(g is not None and self._refusable(c, g) for c, g in guilty):
                yield from (
                    f"{_name(c)}: {g!r:.200} is refused, {reject['sqlstate']} {reject['reason']}"
                    for c, g in guilty
                    if g is not None
                )

    def _ask(self, questions: list[Question]) -> None:
        new = list(dict.fromkeys(q for q in questions if q not in self._answers))
        if not new:
            return
        columns = [list(column) for column in zip(*new, strict=True)]
        for question, (found,) in zip(
            new, self._connection.execute(_ASK, columns).fetchall(), strict=True
        ):
            shown, state = found
            self._answers[question] = Answer(shown if state is None else None, state)

    def _right(self, column: Filled, given: Given | None, found: str | None) -> bool:
        """Whether a row may stand in the table with that."""
        if given is None or given.missing:
            return found is None
        if found is None or given.fate == "refused":
            return False
        if given.check is not None:
            return given.check(found)
        for question in _questions(column, given):
            wanted = self._answers[question].stored
            if wanted is None:
                return False
            return _equal(wanted, found) if given.by_value else wanted == found
        return False

    def _refusable(self, column: Filled, given: Given) -> bool:
        """Whether a row with that may be refused."""
        if given.missing:
            return False
        if given.fate != "held":
            return True
        if given.check is not None:
            return False
        return all(self._answers[q].stored is None for q in _questions(column, given))


def _name(column: Filled) -> str:
    return f"{column.kind.sql} from {column.carrier.family} {column.carrier.name!r}"


def _questions(column: Filled, given: Given | None) -> list[Question]:
    """What to ask the server; nothing where no server could take the text."""
    if given is None or given.text is None or "\0" in given.text or not _is_utf8(given.text):
        return []
    return [(given.text, given.via or column.kind.base, column.kind.sql, given.rounds)]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _equal(wanted: str, found: str) -> bool:
    one, other = Decimal(wanted), Decimal(found)
    return one == other or (one.is_nan() and other.is_nan())


def _records(path: Path) -> dict[int, Any]:
    """Row number -> its record in the dead letter."""
    if not path.exists():
        return {}
    records = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_row = {record["row_number"]: record for record in records}
    assert len(by_row) == len(records), "a row is in the dead letter twice"
    return by_row
