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
        over=use.of(setting.value) > limit,
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
SELECT a.attname::text, v.last::text, v.most::text
FROM pg_catalog.pg_depend d
JOIN pg_catalog.pg_sequence s ON s.seqrelid = d.objid
JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
CROSS JOIN LATERAL (SELECT
  CASE WHEN pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT, USAGE')
    THEN pg_catalog.pg_sequence_last_value(s.seqrelid) END,
  least(s.seqmax, CASE a.atttypid WHEN 21 THEN 32767 WHEN 23 THEN 2147483647 ELSE s.seqmax END)
) AS v (last, most)
WHERE d.refobjid = pg_catalog.to_regclass($1::text)
  AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')
"""

_SEQUENCE_SHARE = 0.8


async def sequence_notices(session: Session, table: Table) -> list[str]:
    """Sequences of a table that are near their end. A conflicting row takes a number too."""
    if not any(c.identity or "nextval(" in (c.default or "") for c in table.columns):
        return []
    rows = await session.fetch(_SEQUENCES_SQL, table.sql)
    return [
        f"table {table.name}: the sequence of {column} is at {int(last):,} of {int(most):,};"
        " make the column a bigint before it ends"
        for column, last, most in rows
        if last is not None and most is not None and int(last) > _SEQUENCE_SHARE * int(most)
    ]
