"""At the edges of every type: what comes back from the server is what went in, or was refused.

Each source x strategy x driver, loaded into a table with a column of each type. The server itself
says what is right: the value's text, read by a plain connection (`tests/edges/oracle.py`).

A deep run: EDGE_EXAMPLES=500 pytest tests/test_edges.py (that many loads a combination, with a
new seed each time, which is printed), with EDGE_SERVER=server15 on PostgreSQL 15.
"""

from __future__ import annotations

import os
import random
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from batchbench.servers import Cluster
from batchbench.sources import ndjson
from batchbench.sources import rows as row_sources
from tests.edges.oracle import Edges
from tests.edges.sources import SOURCES, Drawn, loads
from tests.fixtures.loading import COMBINATIONS
from tests.fixtures.servers import fresh_database

_QUICK_EXAMPLES = 14
_DEEP_EXAMPLES = int(os.environ.get("EDGE_EXAMPLES", "0"))
_SEED = random.randrange(2**32) if _DEEP_EXAMPLES else 0
_SERVER = os.environ.get("EDGE_SERVER", "server18")


@pytest.fixture(scope="module")
def edges(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Edges]:
    cluster: Cluster = request.getfixturevalue(_SERVER)
    with fresh_database(cluster) as dsn:
        held = Edges(dsn, tmp_path_factory.mktemp("edges"))
        yield held
        held.close()


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few rows are several blocks, so that what earlier rows looked like matters."""
    monkeypatch.setattr(ndjson, "BLOCK_BYTES", 600)
    monkeypatch.setattr(row_sources, "CONVERT_ROWS", 9)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.timeout(0 if _DEEP_EXAMPLES else 120)
def test_stored_as_it_went_in_or_refused(
    edges: Edges, source: str, strategy: str, driver: str
) -> None:
    kind = SOURCES[source]
    print(f"seed {_SEED}")

    @seed(zlib.crc32(f"{source} {strategy} {driver} {_SEED}".encode()))
    @settings(
        max_examples=_DEEP_EXAMPLES or _QUICK_EXAMPLES,
        database=None,
        phases=[Phase.generate],  # what is wrong is said cell by cell; shrinking takes minutes
        suppress_health_check=list(HealthCheck),
    )
    @given(loads(kind))
    def hold(drawn: Drawn) -> None:
        edges.hold(kind, drawn, strategy, driver)

    hold()
