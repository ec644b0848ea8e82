"""The servers that runs happen on: opened when first needed, shared by all runs of a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from batchbench.servers import Cluster
from tests.fixtures.faults import open_own_cluster, until_ready
from tests.fixtures.servers import fresh_database


class Arena:
    """Durable clusters. Those that runs kill or reconfigure are apart from the others'."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._clusters: dict[tuple[str, bool], Cluster] = {}

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def cluster(self, version: str, *, own: bool) -> Cluster:
        """A running cluster of "pg18" or "pg15". own: one that may be killed."""
        key = version, own
        if key not in self._clusters:
            self._clusters[key] = self._stack.enter_context(open_own_cluster(version))
        cluster = self._clusters[key]
        if not cluster.running:
            cluster.start()
        until_ready(cluster.dsn)
        return cluster


@contextmanager
def database(cluster: Cluster) -> Iterator[str]:
    """A fresh database; on leaving, a cluster that a run left dead is started first."""
    with fresh_database(cluster) as dsn:
        try:
            yield dsn
        finally:
            if not cluster.running:
                cluster.start()
            until_ready(cluster.dsn)
