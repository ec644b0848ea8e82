"""A sample of the fault catalogue: one seeded run of each case. `make test-faults` runs it all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.arena import Arena
from tests.faults.cases import Case
from tests.faults.catalogue import CATALOGUE
from tests.faults.report import broken
from tests.faults.runner import run_case

SEED = 1


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    """The servers of all cases."""
    with Arena() as opened:
        yield opened


@pytest.mark.parametrize("case", [c for c in CATALOGUE if c.sample], ids=lambda c: c.name)
def test_every_row_is_accounted_for(arena: Arena, case: Case) -> None:
    run = run_case(arena, case, SEED, 0)
    verdict = run.tally.verdict
    assert not broken(run), "\n".join(
        [
            f"{run.name}: {run.setup.words}",
            f"lost {verdict.lost}, doubled {verdict.doubled}",
            *verdict.problems,
        ]
    )


def test_the_catalogue_is_as_large_as_promised() -> None:
    """Of five seeds: 300 loads, 60 lost COMMITs without a unique key, 20 under a kill -9."""
    assert 5 * sum(case.runs for case in CATALOGUE) >= 300
    killed = [case for case in CATALOGUE if case.killed and case.fixed["keyed"] is False]
    assert 5 * sum(case.runs for case in killed) >= 20
    for exactly_once in ("ledger", "status"):
        of_it = [case for case in killed if case.fixed["exactly_once"] == exactly_once]
        assert 2 * sum(c.runs for c in of_it) == sum(c.runs for c in killed)
