"""--newer-by: whatever the order of writers, the table is what a model says.

`make evidence-newer` runs 1,000 examples (python -m tests.newer).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings

from batchbench.servers import Cluster
from tests.fixtures.loading import execute
from tests.fixtures.servers import fresh_database
from tests.newer.model import SCHEMA, Case, Row, cases, check, newest


@pytest.fixture(scope="module", params=["server18", "server15"])
def versioned(request: pytest.FixtureRequest) -> Iterator[str]:
    cluster: Cluster = request.getfixturevalue(request.param)
    with fresh_database(cluster) as dsn:
        execute(dsn, SCHEMA)
        yield dsn


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=cases())
def test_the_table_equals_the_model(versioned: str, case: Case) -> None:
    check(versioned, case)


def test_the_model_itself() -> None:
    rows = [Row(1, 2, 10, False), Row(1, None, 11, False), Row(1, 3, 12, False)]
    rows += [Row(1, 3, 13, False), Row(2, None, 14, False), Row(2, None, 15, False)]
    assert newest(rows) == {1: (3, 12), 2: (None, 14)}
