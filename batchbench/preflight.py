"""What will bite, said before the first row."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from batchbench.config import ChunkSetting, Settings
from batchbench.drivers import CAPABILITIES, Session
from batchbench.limits import PROTOCOL_PARAMETERS, ParameterUse, values_use
from batchbench.table import Table, UniqueKey

UNSET_STRATEGY = "values"
"""What a chunk size is held against where no strategy is configured: the narrowest."""


@dataclass(frozen=True, slots=True)
class ChunkVerdict:
    """A configured chunk size against a table's width.

    strategy, driver: as configured, None where not. parameters: of one configured chunk as
    VALUES. limits: parameters a statement, by driver. largest: rows a VALUES chunk, by driver.
    over: whether the configured strategy and driver could not send it.
    """

    table: str
    column_count: int
    setting: ChunkSetting
    strategy: str | None
    driver: str | None
    parameters: int
    limits: Mapping[str, int]
    largest: Mapping[str, int]
    over: bool

    @property
    def splits(self) -> tuple[str, ...]:
        """Drivers over which VALUES would be split."""
        return tuple(d for d, rows in self.largest.items() if rows < self.setting.value)

    @property
    def sentence(self) -> str:
        """The verdict in words, with what to do."""
        if self.setting.adapts:
            return f"adapts while a load runs, from {self.setting.value:,} rows, within every limit"
        what = f"{self.setting.value:,} rows x {self.column_count} columns"
        if self.over:
            limits = ", ".join(f"{d} takes {n:,}" for d, n in self.limits.items())
            largest = ", ".join(f"{rows:,} over {d}" for d, rows in self.largest.items())
            return (
                f"{what} make {self.parameters:,} parameters a statement; {limits}."
                f" Set {self.setting.variable} to {largest} at most, or BATCH_STRATEGY to copy or"
                " unnest"
            )
        if self.splits:
            split = " and ".join(f"{d} ({self.largest[d]:,} rows)" for d in self.splits)
            return f"fine as configured; values would be split over {split}"
        return "fine over every strategy and driver"


def chunk_verdict(
    table: str,
    column_count: int,
    setting: ChunkSetting,
    settings: Settings,
    use_of: Callable[[str], ParameterUse],
) -> ChunkVerdict:
    """Hold a chunk size against a table of `column_count` inserted columns.

    use_of: what a strategy spends on so many columns. Raises ValueError where not even one row
    fits a VALUES statement.
    """
    strategy, driver = settings.strategy, settings.driver
    use = use_of(strategy or UNSET_STRATEGY)
    limit = CAPABILITIES[driver].parameter_limit if driver else PROTOCOL_PARAMETERS
    values = values_use(column_count)
    limits = {name: driver.parameter_limit for name, driver in CAPABILITIES.items()}
    largest = {name: values.largest_chunk(most) or 0 for name, most in limits.items()}
    return ChunkVerdict(
        table=table,
        column_count=column_count,
        setting=setting,
        strategy=strategy,
        driver=driver,
        parameters=values.of(setting.value),
        limits=limits,
        largest=largest,
        over=not setting.adapts and use.of(setting.value) > limit,
    )


def table_notices(table: Table) -> list[str]:
    """What a person should know of a table before rows go into it, a sentence each."""
    name, notices = f"table {table.name}", []
    if table.before_triggers:
        notices.append(
            f"{name} has BEFORE triggers ({', '.join(table.before_triggers)}): rows that they drop"
            " are counted as skipped_by_server, but with on_conflict by values and unnest as"
            " duplicates"
        )
    if table.row_security:
        notices.append(f"{name} has row security: COPY refuses it, and rows may be rejected by it")
    if table.partitioned:
        notices.append(f"{name} is partitioned: a row that no partition takes is rejected (23514)")
    if table.unlogged:
        notices.append(f"{name} is UNLOGGED: a crash of the server empties it")
    filled = [c.name for c in table.columns if c.generated or c.identity == "a"]
    if filled:
        notices.append(f"{name}: the server fills {', '.join(filled)} itself; leave them out")
    notices += [
        f"{name}: the unique index {key.name} {why}" for key in table.keys for why in _unusable(key)
    ]
    return notices


def _unusable(key: UniqueKey) -> list[str]:
    by_name = f"only --conflict-target {key.name} can name it"
    reasons = {
        "is checked at COMMIT only, so ON CONFLICT cannot name it": key.deferrable,
        f"is partial: {by_name}": bool(key.predicate),
        f"is over an expression: {by_name}": key.expressions,
    }
    return [reason for reason, holds in reasons.items() if holds][:1]


_SEQUENCES_SQL = """
SELECT a.attname::text, v.used::text, v.remaining::text
FROM pg_catalog.pg_attribute a
LEFT JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
JOIN pg_catalog.pg_depend d ON (d.classid, d.refclassid) = (
    'pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass)
    AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
  OR (d.classid, d.refclassid) = (
    'pg_catalog.pg_attrdef'::pg_catalog.regclass, 'pg_catalog.pg_class'::pg_catalog.regclass)
    AND d.objid = f.oid
JOIN pg_catalog.pg_sequence s
  ON s.seqrelid = CASE d.deptype WHEN 'n' THEN d.refobjid ELSE d.objid END
CROSS JOIN LATERAL (SELECT
  CASE WHEN pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
    THEN coalesce(pg_catalog.pg_sequence_last_value(s.seqrelid), s.seqstart - s.seqincrement) END,
  least(s.seqmax, CASE a.atttypid WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE s.seqmax END)
) AS n (last, most)
CROSS JOIN LATERAL (SELECT (n.last - s.seqstart) / s.seqincrement + 1,
  greatest(0, (n.most - n.last) / s.seqincrement)) AS v (used, remaining)
WHERE a.attrelid = pg_catalog.to_regclass($1::text) AND a.attnum > 0 AND n.last IS NOT NULL
  AND s.seqincrement > 0 AND NOT s.seqcycle
GROUP BY a.attname, a.attnum, v.used, v.remaining ORDER BY a.attnum
"""

_LOW_SHARE = 0.2
_PLENTY = 1 << 40  # a bigint's: no load will live to see the end


@dataclass(frozen=True, slots=True)
class SequenceLeft:
    """Numbers that a column's sequence has given out, and how many more the column can take."""

    column: str
    used: int
    left: int

    @property
    def low(self) -> bool:
        """Whether the end is near."""
        return self.left < _LOW_SHARE * (self.used + self.left)

    def __str__(self) -> str:
        whole = self.used + self.left
        return (
            f"column {self.column}: {self.left:,} of the {whole:,} numbers of its sequence"
            f" ({self.left / whole:.0%}) are left"
        )


async def sequences_left(session: Session, table: Table) -> list[SequenceLeft]:
    """Of the columns that a sequence fills, those that could come to its end: int4 and smaller, or
    with a maximum of their own. Not of sequences that count down or begin again, nor of those that
    this role may not read.
    """
    if not any(column.numbered for column in table.columns):
        return []
    rows = await session.fetch(_SEQUENCES_SQL, table.sql)
    found = [
        SequenceLeft(column or "", int(used or 0), int(left or 0)) for column, used, left in rows
    ]
    return [sequence for sequence in found if sequence.left < _PLENTY]


def sequence_notices(table: Table, sequences: list[SequenceLeft]) -> list[str]:
    """Of those that are near their end, a sentence each."""
    return [
        f"table {table.name}, {sequence}, and a row that ON CONFLICT leaves out takes one too;"
        " make column and sequence a bigint before it ends"
        for sequence in sequences
        if sequence.low
    ]
