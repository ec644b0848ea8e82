"""A server, the tables and the rows for the benchmarks of one session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from batchbench.servers import open_server
from benchmarks.data import Inputs
from benchmarks.ground import Ground, input_folder


@pytest.fixture(scope="session")
def ground() -> Iterator[Ground]:
    """An embedded server, as durable as production."""
    with open_server("embedded") as server:
        assert server.cluster is not None
        with closing(Ground(server.cluster)) as made:
            yield made


@pytest.fixture(scope="session")
def inputs(ground: Ground) -> Inputs:
    """Rows, made once."""
    return Inputs(input_folder(ground.cluster))
