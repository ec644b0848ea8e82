"""What a sweep loads: a table to copy, and the rows to load into the copy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from batchbench.errors import ConfigError, InputError
from batchbench.harness.synthetic import random_rows
from batchbench.profile import PROFILES, synthetic
from batchbench.sources import Source
from batchbench.table import Table, TableName

_READ_BYTES = 64 << 20
_READ_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Subject:
    """One table of a sweep.

    label: as in the plan's configurations. original: the table on the server whose shape is
    copied; None: the table of the profile's metric `label`. source: where its rows come from;
    None: synthetic ones. ignore_columns: of the source, not loaded.
    """

    label: str
    original: TableName | None = None
    source: Source | None = None
    ignore_columns: frozenset[str] = field(default_factory=frozenset)


def profile_subject(metric: str) -> Subject:
    """One of the five health tables. Raises ConfigError on an unknown metric."""
    if metric not in PROFILES:
        raise ConfigError(f"{metric!r} is no metric; there are {', '.join(PROFILES)}")
    return Subject(metric)


def table_subjects(names: Sequence[TableName], source: Source | None = None) -> tuple[Subject, ...]:
    """Tables of the user's own; labelled by their bare name where that tells them apart.

    source: rows for the only table. Raises ConfigError where a table or a source comes twice.
    """
    if len(set(names)) != len(names):
        raise ConfigError("a table is named twice; name each table once")
    if source is not None and len(names) != 1:
        raise ConfigError("rows of a source go into one table; name one table, or leave it out")
    bare = [name.table for name in names]
    return tuple(
        Subject(name.table if bare.count(name.table) == 1 else str(name), name, source)
        for name in names
    )


def rows_of(
    subject: Subject, table: Table, row_count: int, seed: int, notice: Callable[[str], None]
) -> pa.Table:
    """`row_count` rows for trials of a subject; fewer where a unique key forbids that a source's
    rows are repeated, which `notice` is told. Blocking.

    table: the scratch copy. Raises InputError where the source has none, or cannot be read;
    TableError where synthetic rows cannot be made for the table.
    """
    if subject.source is not None:
        rows = _read(subject.source, row_count)
        rows = rows.drop_columns([n for n in rows.schema.names if n in subject.ignore_columns])
        return _repeated(rows, table, row_count, subject, notice)
    if subject.original is None:
        return _read(synthetic(subject.label, row_count, seed=seed), row_count)
    return random_rows(table, row_count, seed)


def _repeated(
    rows: pa.Table, table: Table, row_count: int, subject: Subject, notice: Callable[[str], None]
) -> pa.Table:
    """The rows again and again, in their order, where no unique key would meet them twice."""
    missing = row_count - rows.num_rows
    if missing <= 0:
        return rows
    brought = set(rows.schema.names)
    if any(brought.issuperset(key.columns) for key in table.keys):
        notice(
            f"{subject.label}: the source has {rows.num_rows:,} rows, fewer than {row_count:,};"
            " they cannot be repeated, since the table has a unique key, so loads are of those"
        )
        return rows
    notice(
        f"{subject.label}: the source's {rows.num_rows:,} rows are repeated to make {row_count:,}"
    )
    times = -(-row_count // rows.num_rows)
    return pa.concat_tables([rows] * times).slice(0, row_count).combine_chunks()


def _read(source: Source, row_count: int) -> pa.Table:
    if source.targets:
        raise InputError(f"{source.name} feeds several tables; a sweep takes rows of one table")
    batches: list[pa.RecordBatch] = []
    missing = row_count
    for batch in source.batches(min(row_count, _READ_ROWS), _READ_BYTES):
        batches.append(batch.part(0, min(missing, batch.row_count)).columns)
        missing -= batches[-1].num_rows
        if missing == 0:
            break
    if not batches:
        raise InputError(f"{source.name} has no rows; a sweep needs some to load")
    tables = [pa.Table.from_batches([batch]) for batch in batches]
    try:
        return pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(
            f"{source.name}: a column changes its type on the way, from numbers to text, say; a"
            " sweep needs one type a column"
        ) from error
