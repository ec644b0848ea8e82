"""One table of failures: what classifies, what the README shows."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from batchbench.errors import FAILURE_CLASSES, Failure, WriteError, classify, failure_table

README = Path(__file__).parents[1] / "README.md"

WANTED = {
    Failure.TRANSIENT: (
        "40001 40P01 55P03 57P01 57P02 57P03 57P05 25P03 25P04 53300 08000 08001 08003 08006 25006"
    ),
    Failure.TOO_BIG: "57014 53200 54000",
    Failure.STALE: "26000 42P05 0A000 42P10",
    Failure.ROW: "22003 22P02 22001 23502 23503 23505 23514 23P01 44000 P0001",
    Failure.PROTOCOL: "08P01",
    Failure.FATAL: "42P01 42703 42501 28P01 28000 3D000 53100 58030 XX000 XX001 0B000 25P02 99999",
}


@pytest.mark.parametrize(
    ("sqlstate", "failure"),
    [(sqlstate, failure) for failure, text in WANTED.items() for sqlstate in text.split()],
)
def test_classes(sqlstate: str, failure: Failure) -> None:
    assert classify(sqlstate) is failure
    assert WriteError("no", sqlstate=sqlstate).failure is failure


def test_a_connection_that_broke_has_no_sqlstate() -> None:
    assert WriteError("it broke").failure is Failure.TRANSIENT


def test_each_sqlstate_has_one_class() -> None:
    listed = [sqlstate for row in FAILURE_CLASSES for sqlstate in row.sqlstates]
    assert len(listed) == len(set(listed))
    assert [row.failure for row in FAILURE_CLASSES] == list(Failure)


def test_whole_sqlstates_are_postgresqls_own() -> None:
    for row in FAILURE_CLASSES:
        for sqlstate in row.sqlstates:
            if len(sqlstate) == 5:
                assert psycopg.errors.lookup(sqlstate)


def test_the_readme_shows_the_same_table() -> None:
    header = "| class | SQLSTATEs and others | what a load does |"
    rows = [f"| {' | '.join(row)} |" for row in failure_table()]
    assert "\n".join([header, "|---|---|---|", *rows]) in README.read_text()
