"""What `batchbench load` prints: the plan of a load, and what became of its rows."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping

from batchbench.accounting import LoadResult
from batchbench.casts import Cast
from batchbench.cli.console import note, out, print_json, warn
from batchbench.engine import LoadPlan
from batchbench.sources import Source


def show_plan(plan: LoadPlan, source: Source, columns: Mapping[str, str]) -> None:
    """Casts, limits and plan, on standard output; notices on standard error. columns: as
    `SourceOptions.columns`.
    """
    came_from = {column: f"{name}, " for name, column in columns.items()}
    for text in plan.notices:
        note(text)
    for metric, table_plan in plan.tables.items():
        schema = source.schema() if metric is None else source.targets[metric]
        shape = table_plan.shape(schema, source.name) if schema is not None else None
        out.print(
            f"table {table_plan.table.name}: strategy {table_plan.strategy} ({table_plan.reason}),"
            f" driver {plan.options.driver_name}, writers {plan.options.writers}",
            markup=False,
        )
        if shape is None:
            continue
        out.print(
            f"  {table_plan.configured_rows:,} rows a chunk configured, {shape.chunk_rows:,} used,"
            f" {shape.chunk_plan.use.of(shape.chunk_rows):,} parameters a statement",
            markup=False,
        )
        for cast in shape.casts:
            out.print(
                f"  {cast.column.name}: {came_from.get(cast.column.name, '')}{cast.source} ->"
                f" {cast.column.declared} ({_way(cast)})",
                markup=False,
            )


def _way(cast: Cast) -> str:
    by_input = cast.column.type.by_input
    return f"{cast.exactness}: sent as text, read by the server" if by_input else cast.exactness


def show_result(result: LoadResult, *, as_json: bool) -> None:
    """Every row accounted for, on standard output; what to look at on standard error."""
    peak_rss_mb = _peak_rss_mb()
    if as_json:
        print_json(
            {
                "load_id": result.load_id,
                **result.total.as_dict(),
                "rows_per_s": round(result.rows_per_s, 1),
                "seconds": round(result.seconds, 6),
                "peak_rss_mb": round(peak_rss_mb, 1),
                "chunks": len(result.chunk_seconds),
                "bytes_sent": result.byte_count,
                "retries": result.retries,
                "altered": dict(result.altered),
                "dead_letter": str(result.dead_letter) if result.dead_letter else None,
                "unknown_rows": result.unknown_rows,
                "tables": {name: counts.as_dict() for name, counts in result.tables.items()},
            }
        )
        return
    for what, count in result.altered.items():
        warn(f"{what}: {count:,}")
    for place in result.unknown_rows:
        warn(f"{place}: whether these rows are committed, the server cannot tell")
    if result.dead_letter is not None:
        warn(f"rejected rows, with their reasons, are in {result.dead_letter}")
    for name, counts in result.tables.items():
        states = [f"{n:,} {state.replace('_', ' ')}" for state, n in counts.as_dict().items() if n]
        out.print(f"{name}: {', '.join(states) or '0 read'}", markup=False)
    out.print(
        f"{result.total.committed:,} rows in {result.seconds:.2f} s"
        f" ({result.rows_per_s:,.0f} rows/s), peak memory {peak_rss_mb:.0f} MB,"
        f" load id {result.load_id}",
        markup=False,
    )


def _peak_rss_mb() -> float:
    """The process's own peak. getrusage counts kilobytes on Linux, bytes on macOS."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
