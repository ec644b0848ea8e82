"""Which ways load a case: the limit, batchbench's own, and the peers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks import limit
from benchmarks.data import Data, Form
from benchmarks.duplicates import NONE, Duplicates
from benchmarks.ground import Ground
from benchmarks.ours import Boundary, OurWay
from benchmarks.peers import PEERS, Load, Peer
from benchmarks.tables import BenchTable

Kind = Literal["limit", "ours", "peer"]

LIMIT = "server's COPY FROM file"
LIMIT_STAGED = "server's COPY FROM file, staged"

# Where all goes in one transaction, as a peer's one COPY does, a chunk may be large too; with two
# writers half as large, so that the last ones end together.
_LARGE = 100_000

COPY = OurWay("copy", "psycopg", chunk_rows=_LARGE)
COPY_CHUNKS = OurWay("copy", "psycopg", per_chunk=True)
COPY_CHUNKS_LEDGER = OurWay("copy", "psycopg", per_chunk=True, exactly_once="ledger")
COPY_2 = OurWay("copy", "psycopg", writers=2, chunk_rows=_LARGE // 2)
COPY_ASYNCPG = OurWay("copy", "asyncpg", chunk_rows=_LARGE)
COPY_ASYNCPG_2 = OurWay("copy", "asyncpg", writers=2, chunk_rows=_LARGE // 2)
UNNEST = OurWay("unnest", "psycopg")
UNNEST_ASYNCPG = OurWay("unnest", "asyncpg")
VALUES = OurWay("values", "psycopg")
VALUES_ASYNCPG = OurWay("values", "asyncpg")
AUTO = OurWay("auto", "psycopg")
AUTO_CHUNKS = OurWay("auto", "psycopg", per_chunk=True)
AUTO_CHUNKS_LEDGER = OurWay("auto", "psycopg", per_chunk=True, exactly_once="ledger")


@dataclass(frozen=True, slots=True)
class Way:
    """One way to load a case.

    transaction: its boundary, in words; boundary: as what it is compared.
    rows_limit: the most rows that a load gets; None: all of the case.
    """

    name: str
    kind: Kind
    writers: int
    transaction: str
    boundary: Boundary
    rows_limit: int | None
    load: Load


@dataclass(frozen=True, slots=True)
class Skipped:
    """A way that a case should have had, and why it cannot run."""

    name: str
    reason: str


def limit_name(writers: int, *, staged: bool) -> str:
    """The limit's name for so many writers."""
    return (LIMIT_STAGED if staged else LIMIT) + (f" x{writers}" if writers > 1 else "")


def limit_way(ground: Ground, table: BenchTable, writers: int, duplicates: Duplicates) -> Way:
    """The server alone."""
    staged = duplicates is not NONE

    def load(dsn: str, table: BenchTable, data: Data) -> None:
        files = ground.server_files(table, data.row_count, writers)
        limit.load(dsn, table, files, staged=staged)

    name = limit_name(writers, staged=staged)
    return Way(name, "limit", writers, limit.TRANSACTION, "one", None, load)


def our_way(ours: OurWay) -> Way:
    """One of batchbench's."""
    return Way(ours.name, "ours", ours.writers, ours.transaction, ours.boundary, None, ours.load)


def peer_way(peer: Peer, table: BenchTable) -> Way | Skipped:
    """One of the peers; imported now, so that no load pays for it."""
    reason = peer.missing() or peer.refuses(table)
    if reason is not None:
        return Skipped(peer.name, reason)
    try:
        load: Callable[..., None] = peer.function()
    except ImportError as error:
        return Skipped(peer.name, f"cannot be imported: {error}")
    rows_limit = None
    if peer.most_values is not None:
        rows_limit = peer.most_values // len(table.columns)
    boundary: Boundary = "chunk" if peer.per_chunk else "one"
    return Way(peer.name, "peer", 1, peer.transaction, boundary, rows_limit, load)


def peers_of(table: BenchTable, form: Form, *, converting: bool) -> list[Peer]:
    """Peers that serve the table from that form; those that convert only where asked for."""
    return [
        peer
        for peer in PEERS
        if peer.serves(table) and form in (peer.forms | (peer.converts if converting else set()))
    ]
