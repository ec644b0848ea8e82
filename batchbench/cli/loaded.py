"""What `batchbench load` prints: the plan of a load, and what became of its rows."""

from __future__ import annotations

import resource
import sys
from collections.abc import Mapping
from dataclasses import asdict

from batchbench.accounting import LoadResult
from batchbench.casts import Cast
from batchbench.cli.console import note, out, print_json, warn
from batchbench.engine import LoadPlan, TablePlan
from batchbench.engine.plan import ShapePlan
from batchbench.memory import kernel_peak
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
        out.print(f"  {_chunk_size(table_plan, shape)}", markup=False)
        for cast in shape.casts:
            out.print(
                f"  {cast.column.name}: {came_from.get(cast.column.name, '')}{cast.source} ->"
                f" {cast.column.declared} ({_way(cast)})",
                markup=False,
            )


def _chunk_size(plan: TablePlan, shape: ShapePlan) -> str:
    use = shape.chunk_plan.use
    if plan.adapts:
        return (
            f"rows a chunk adapt to measured rows/s: {shape.chunk_rows:,} at first,"
            f" {shape.most_rows:,} at most, {use.of(shape.most_rows):,} parameters a statement then"
        )
    return (
        f"{plan.configured_rows:,} rows a chunk configured, {shape.chunk_rows:,} used,"
        f" {use.of(shape.chunk_rows):,} parameters a statement"
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
                "chunk_sizes": {name: asdict(size) for name, size in result.chunk_sizes.items()},
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
    for name, size in result.chunk_sizes.items():
        where = "settled at" if size.settled else "had come to"
        out.print(f"{name}: the chunk size {where} {size.rows:,} rows", markup=False)
    out.print(
        f"{result.total.committed:,} rows in {result.seconds:.2f} s"
        f" ({result.rows_per_s:,.0f} rows/s), peak memory {peak_rss_mb:.0f} MB,"
        f" load id {result.load_id}",
        markup=False,
    )


def _peak_rss_mb() -> float:
    """The process's own peak. getrusage counts kilobytes, bytes on macOS."""
    if found := kernel_peak():
        return found / (1 << 20)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20) if sys.platform == "darwin" else peak / (1 << 10)
