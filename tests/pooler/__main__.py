"""python -m tests.pooler --rows 100000 --out results/evidence/pooler.md"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import platform
import subprocess
import sys
from importlib.metadata import version
from itertools import product
from pathlib import Path

from batchbench.servers import Installation, embedded_installation, open_cluster
from batchbench.strategies import OnConflict
from tests.fixtures.loading import COMBINATIONS
from tests.fixtures.pgbouncer import PROGRAM, open_pgbouncer
from tests.fixtures.servers import DEBIAN_15, fresh_database, server_header
from tests.pooler.combinations import Combination, Outcome, play

_HEADER = (
    "| PostgreSQL | pool_size | strategy | driver | on conflict | committed | duplicates | in the"
    " table | prepared, temporary, locks | |\n|---|---|---|---|---|---:|---:|---:|---|---|"
)


def main() -> int:
    """Play every combination, print the table."""
    parser = argparse.ArgumentParser(prog="tests.pooler", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--out", type=Path, help="also write the table here (Markdown)")
    arguments = parser.parse_args()
    print(_HEADER)
    lines, all_good = [], True
    for name, installation in (("18", embedded_installation()), ("15", Installation(DEBIAN_15))):
        with open_cluster(installation) as cluster:
            for pool_size in (1, 3):
                settings = {"default_pool_size": str(pool_size), "server_round_robin": "1"}
                with fresh_database(cluster) as dsn, open_pgbouncer(dsn, settings) as bouncer:
                    for (strategy, driver), conflict in product(
                        COMBINATIONS, (OnConflict.ERROR, OnConflict.NOTHING)
                    ):
                        played = Combination(strategy, driver, conflict, pool_size)
                        outcome = asyncio.run(play(played, bouncer, arguments.rows))
                        all_good &= outcome.good(arguments.rows)
                        lines.append(_line(name, played, outcome, arguments.rows))
                        print(lines[-1], flush=True)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(_evidence("\n".join([_HEADER, *lines]), arguments.rows))
    return 0 if all_good else 1


def _line(server: str, played: Combination, outcome: Outcome, rows: int) -> str:
    total = outcome.result.total
    held = "; ".join(", ".join(map(str, row[:3])) for row in sorted(outcome.left_behind, key=str))
    cells = (
        *(server, played.pool_size, played.strategy, played.driver, played.on_conflict),
        *(f"{total.committed:,}", f"{total.duplicates:,}", f"{outcome.there:,}", held),
        "good" if outcome.good(rows) else "BROKEN",
    )
    return f"| {' | '.join(map(str, cells))} |"


def _evidence(table: str, rows: int) -> str:
    now = dt.datetime.now(dt.UTC)
    pooler = subprocess.run([str(PROGRAM), "--version"], capture_output=True, check=True, text=True)
    return (
        f"# Loads through PgBouncer in transaction mode, {now:%Y-%m-%d %H:%M} UTC\n\n"
        f"`make evidence-pooler` with {rows:,} rows of heart_rate a load, two writers; Python"
        f" {platform.python_version()}, asyncpg {version('asyncpg')}, psycopg {version('psycopg')};"
        f" {pooler.stdout.splitlines()[0]}; {server_header()}. Rows in the table are counted past"
        " the pooler; what is left is asked on each of its server connections: rows of"
        " pg_prepared_statements, temporary tables, advisory locks; their settings are the"
        f" server's own.\n\n{table}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
