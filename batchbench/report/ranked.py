"""One table's part of a report: its ranking, and what is to be read from it in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from batchbench.recommend import ENOUGH, RankingRow
from batchbench.report.cost import cost_charts
from batchbench.report.figures import (
    UNKNOWN,
    milliseconds,
    number,
    plural,
    ratio_text,
    with_spread,
)
from batchbench.report.first import Evidence
from batchbench.report.groups import Group, group_of
from batchbench.report.model import RankRow, TableReport
from batchbench.report.observed import wal_per_row
from batchbench.report.pairs import Difference, difference
from batchbench.report.speed import speed_charts
from batchbench.report.walls import Wall, walls
from batchbench.results import GOAL_PEAK_RSS_MB

_VERDICTS = {"+": "faster", "-": "slower"}


def table_report(evidence: Evidence, table: str) -> TableReport:
    """All of one table."""
    rows = [row for row in evidence.ranking if row.table == table]
    chosen = evidence.chosen(table)
    return TableReport(
        table=table,
        shape=tuple(_shape(evidence, table)),
        subject="" if chosen is None else chosen.name,
        cost=() if chosen is None else tuple(_cost(chosen)),
        ranking=tuple(_rank_row(evidence, row, rows[0]) for row in rows),
        speed_charts=speed_charts(evidence, table),
        cost_charts=cost_charts(evidence, table),
    )


# --- the ranking ------------------------------------------------------------------------------


def _rank_row(evidence: Evidence, row: RankingRow, best: RankingRow) -> RankRow:
    group, top = group_of(evidence.groups, row), group_of(evidence.groups, best)
    against = difference(group, top) if group.usable and row is not best else None
    p99 = group.spread(lambda record: record.p99_s)
    return RankRow(
        cells=(
            *row.way.plug,
            str(row.way.parallelism),
            f"{row.chunk_rows:,}" if row.chunk_rows else "?",
            group.speed_text,
            _against(row, against),
            _verdict(row, against, is_best=row is best),
            milliseconds(row.p50_s),
            milliseconds(row.p95_s),
            milliseconds(p99.middle if p99 else None),
            milliseconds(row.slowest_chunk_s),
            number(row.peak_rss_mb) if row.peak_rss_mb else "",
            f"{row.trials - row.failed} of {row.trials}" if row.failed else str(row.trials),
        ),
        chosen=group == evidence.chosen(row.table),
        current=group == evidence.current(row.table),
        failed=row.ratio is None,
    )


def _against(row: RankingRow, against: Difference | None) -> str:
    if row.ratio is None:
        return row.reason or ""
    if against is None:
        return f"{row.ratio:.2f}"
    return ratio_text(against.ratio, against.low, against.high)


def _verdict(row: RankingRow, against: Difference | None, *, is_best: bool) -> str:
    if row.ratio is None:
        return "failed"
    if is_best:
        return "fastest"
    if row.stopped is not None:
        return "stopped"
    symbol = UNKNOWN if against is None else against.symbol
    return _VERDICTS.get(symbol, symbol)


# --- sentences --------------------------------------------------------------------------------


def _shape(evidence: Evidence, table: str) -> list[str]:
    """Where the knee is, and where the walls are."""
    groups = evidence.of_table(table)
    chosen = evidence.chosen(table)
    told = [] if chosen is None else [_knee(chosen, groups)]
    found = walls(evidence.run.info, groups)
    told += [_wall(wall) for wall in found]
    if not found:
        told.append("No statement met the parameter limit.")
    return told


def _knee(chosen: Group, groups: Sequence[Group]) -> str:
    same = [g for g in groups if g.way == chosen.way and g.usable and g.speed and g.chunk_rows]
    sizes = sorted(group.chunk_rows or 0 for group in same)
    if len(sizes) < 2:
        return f"{chosen.way} was measured with one chunk size only, so there is no knee to see."
    middles = {group.chunk_rows: s.middle for group in same if (s := group.speed)}
    worst = min(middles.values())
    return (
        f"{chosen.way}: {chosen.chunk_rows:,} rows is the smallest chunk within {1 - ENOUGH:.0%}"
        f" of the best by estimate; over {sizes[0]:,} to {sizes[-1]:,} rows the medians range"
        f" from {number(worst)} to {number(max(middles.values()))} rows/s."
    )


def _wall(wall: Wall) -> str:
    seen = "trials met it" if wall.seen else "computed, no trial met it"
    return f"{wall.text} a statement ({seen})."


def _cost(chosen: Group) -> list[str]:
    """Of what is recommended."""
    told = [_memory(chosen), _latency(chosen)]
    cpu = chosen.spread(lambda r: None if r.cpu_s is None or not r.rows else r.cpu_s / r.rows * 1e6)
    if cpu is not None:
        told.append(f"CPU of the client: {number(cpu.middle)} s a million rows.")
    wal = wal_per_row(chosen)
    told.append(
        "WAL: not recorded." if wal is None else f"WAL: {number(wal)} bytes a row on average."
    )
    told.append(f"Connections: {plural(chosen.way.parallelism, 'writer')}, one each.")
    return told


def _memory(group: Group) -> str:
    peak = group.spread(lambda record: record.peak_rss_mb)
    if peak is None:
        return "Memory: not recorded."
    spread = (peak.high - peak.low) / 2 if peak.count > 1 else None
    return f"Peak memory: {with_spread(peak.middle, spread)} MB of {GOAL_PEAK_RSS_MB:,.0f}."


def _latency(group: Group) -> str:
    tail = group.tail
    if tail is None:
        return "Latency: not recorded."
    if tail[0] == "p99":
        return f"p99 of a chunk: {milliseconds(tail[1])} ms, median of the trials."
    return f"Slowest chunk: {milliseconds(tail[1])} ms (too few chunks a trial for a p99)."
