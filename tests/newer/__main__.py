"""python -m tests.newer: many examples of --newer-by against the model, on both servers."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings

from batchbench.servers import Installation, embedded_installation, open_cluster
from tests.fixtures.loading import execute, query
from tests.fixtures.servers import DEBIAN_15, UNSAFE_BUT_FAST, fast_folder, fresh_database
from tests.newer.model import SCHEMA, WRITERS, Case, cases, check


def run(dsn: str, examples: int) -> Counter[str]:
    """So many examples; what they loaded, counted. Raises AssertionError at the first wrong one."""
    execute(dsn, SCHEMA)
    counts: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases())
    def example(case: Case) -> None:
        results = check(dsn, case)
        counts.update({"examples": 1, f"by {case.strategy}": 1, "loads": len(results)})
        counts["of two loads side by side"] += len(case.first) > 1
        for result in results:
            total = result.total
            counts.update(rows=total.read, committed=total.committed, retries=result.retries)
            counts["rejected"] += total.rejected
            counts["duplicates"] += total.duplicates

    held: Callable[[], None] = example
    held()
    return counts


def report(examples: int) -> Iterator[str]:
    """The evidence, line by line: so many examples on 18, a quarter of them on 15."""
    yield "# --newer-by against its model"
    yield ""
    yield (
        "Each example: few keys and versions (NULL among them), rows shuffled and doubled,"
        f" {WRITERS} writers of one load, or of two loads side by side, chunks of 1 to 9 rows of"
        " which some fail and are written again and some are split around a bad row, then a chunk"
        " that comes late. After it the table equalled the model."
    )
    for installation, share in ((embedded_installation(), 1), (Installation(DEBIAN_15), 4)):
        with (
            open_cluster(
                installation, settings=UNSAFE_BUT_FAST, temporary_in=fast_folder()
            ) as cluster,
            fresh_database(cluster) as dsn,
        ):
            started = time.monotonic()
            counts = run(dsn, max(1, examples // share))
            version = query(dsn, "SHOW server_version")[0][0]
            yield ""
            yield f"## PostgreSQL {version}: {time.monotonic() - started:.0f} s"
            yield ""
            yield from (f"- {what}: {count:,}" for what, count in sorted(counts.items()))


def main() -> None:
    """Print the evidence as it comes and, with --out, keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=1_000)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        kept = stack.enter_context(arguments.out.open("w")) if arguments.out is not None else None
        for line in report(arguments.examples):
            print(line, flush=True)
            if kept is not None:
                print(line, file=kept, flush=True)


if __name__ == "__main__":
    main()
