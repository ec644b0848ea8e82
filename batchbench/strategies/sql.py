"""SQL that the strategies share. Every identifier is quoted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from batchbench.strategies import OnConflict, Target
from batchbench.table import TEXT, Column, KeyPart, UniqueKey, literal, quote

_THERE = "batchbench_there"
"""The row that is in the table, in the condition of an upsert."""


def column_list(names: Iterable[str]) -> str:
    """Quoted names, with commas."""
    return ", ".join(quote(name) for name in names)


def read(column: Column, sent: str) -> str:
    """A column's value of the SQL of what was sent for it. The cast bears no length, which would
    cut in silence; storing the value holds it against the column's own.
    """
    return f"{sent}::{TEXT.sql}::{column.type.sql}" if column.type.by_input else sent


def read_rows(target: Target, rows: str, names: Sequence[str], order: str) -> str:
    """A FROM item without an alias, whose columns are read. rows: with an alias, as they were sent.
    names: of its columns, as the target's. order: of the column that grows with input order.
    """
    columns = ", ".join(
        f"{read(column, name)} AS {name}"
        for column, name in zip(target.columns, names, strict=True)
    )
    return f"(SELECT {columns}, {order} FROM {rows})"


def insert_into(target: Target) -> str:
    """INSERT INTO table (columns)."""
    names = column_list(column.name for column in target.columns)
    alias = f" AS {_THERE}" if target.key is not None and target.upsert.conditional else ""
    return f"INSERT INTO {target.table.sql}{alias} ({names})"


def on_conflict(target: Target) -> str:
    """The ON CONFLICT clause; its target is always named. Empty under OnConflict.ERROR."""
    if target.key is None:
        return ""
    changed = changed_columns(target)
    if target.on_conflict is OnConflict.NOTHING or not changed:
        return f" ON CONFLICT {target.key.sql} DO NOTHING"
    changes = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in changed)
    return f" ON CONFLICT {target.key.sql} DO UPDATE SET {changes}{_condition(target, changed)}"


def changed_columns(target: Target) -> list[str]:
    """The columns that an upsert sets. That of `newer_by` is among them: a row that kept its old
    one would take older rows for newer ones later.
    """
    if target.key is None:
        return []
    wanted = target.upsert.columns
    in_key = target.key.columns
    return [
        column.name
        for column in target.columns
        if (column.name in wanted if wanted else column.name not in in_key)
        or column.name == target.upsert.newer_by
    ]


def kept_columns(target: Target) -> frozenset[str]:
    """The columns that `upsert.columns` leaves out: once a row is there, they stay as they are. So
    of several rows of a new key in one statement, theirs are those of the first, as in several.
    """
    if target.on_conflict is not OnConflict.UPDATE or not target.upsert.columns:
        return frozenset()
    return frozenset(column.name for column in target.columns) - set(changed_columns(target))


def _condition(target: Target, changed: list[str]) -> str:
    """The WHERE of DO UPDATE. Unchanged means equal as stored, by `*<>`: the types' own equality
    would lose changes (citext, box), or is missing (json).
    """
    conditions = []
    if target.upsert.newer_by is not None:
        name = quote(target.upsert.newer_by)
        there, new = f"{_THERE}.{name}", f"EXCLUDED.{name}"
        conditions.append(f"({there} < {new} OR {there} IS NULL AND {new} IS NOT NULL)")
    if target.upsert.skip_unchanged:
        there, new = (
            ", ".join(f"{row}.{quote(name)}" for name in changed) for row in (_THERE, "EXCLUDED")
        )
        conditions.append(
            f"ROW({there})::record OPERATOR(pg_catalog.*<>) ROW({new})::record",
        )
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def select_rows(target: Target, rows: str, names: tuple[str, ...], order: str) -> str:
    """SELECT the target's columns from `rows`; where there is a key in its order, so that loads
    whose rows overlap wait for each other and never deadlock.

    rows: the FROM item. names: its columns' SQL, as the target's. order: an expression that grows
    with input order. Under UPDATE a key comes once: two in one statement would be refused with
    21000. Under NOTHING its first row comes first, and stays.
    """
    columns = ", ".join(names)
    if target.key is None:
        return f"SELECT {columns} FROM {rows}"
    if target.on_conflict is OnConflict.NOTHING:
        key = ", ".join(key_expressions(target, target.key, names))
        return f"SELECT {columns} FROM {rows} ORDER BY {key}, {order}"
    ranked, window = best_first(target, names, order), ""
    distinct, ordered = one_of_each(target, target.key, names, ranked, order)
    if kept := kept_columns(target):
        columns = ", ".join(
            f"first_value({name}) OVER batchbench_first" if column.name in kept else name
            for column, name in zip(target.columns, names, strict=True)
        )
        same = _told_apart(target, target.key, names, order)
        window = f"WINDOW batchbench_first AS (PARTITION BY {same} ORDER BY {order}) "
    return f"SELECT {distinct} {columns} FROM {rows} {window}{ordered}"


def best_first(target: Target, names: tuple[str, ...], order: str) -> str:
    """ORDER BY terms by which the row of a key that stays comes first: the first one under
    NOTHING, else the newest, else the last. names, order: as for `select_rows`.
    """
    if target.on_conflict is OnConflict.NOTHING:
        return order
    for column, name in zip(target.columns, names, strict=True):
        if column.name == target.upsert.newer_by:
            collation = f" COLLATE {column.collation.sql}" if column.collation else ""
            return f"{name}{collation} DESC NULLS LAST, {order}"
    return f"{order} DESC"


def key_expressions(target: Target, key: UniqueKey, names: tuple[str, ...]) -> list[str]:
    """The key's parts as the index compares them. names: SQL of the target's columns."""
    return [with_collation(_part(target, key, part, names), part) for part in key.parts]


def with_collation(sql: str, part: KeyPart) -> str:
    """An expression, compared as a part of an index is."""
    return sql if part.collation is None else f"{sql} COLLATE {part.collation.sql}"


def _part(target: Target, key: UniqueKey, part: KeyPart, names: tuple[str, ...]) -> str:
    if part.column is None:
        return _of_row(target, key, part.sql, names)
    return dict(zip((c.name for c in target.columns), names, strict=True))[part.column]


def _of_row(target: Target, key: UniqueKey, expression: str, names: tuple[str, ...]) -> str:
    """What an index's expression or predicate is for a row. Columns that the rows do not bring
    have their defaults, which are constants (see `engine.upserts`).
    """
    brought = dict(zip((c.name for c in target.columns), names, strict=True))
    values = []
    for name in key.uses:
        column = target.table.column(name)
        default = f"({column.default or 'NULL'})::{column.type.sql}"
        values.append(f"{brought.get(name, default)} AS {quote(name)}")
    return f"(SELECT {expression} FROM (SELECT {', '.join(values)}) AS batchbench_row)"


def one_of_each(
    target: Target, key: UniqueKey, names: tuple[str, ...], ranked: str, order: str
) -> tuple[str, str]:
    """DISTINCT ON and ORDER BY for one row a key: the first by the ORDER BY terms `ranked`.

    names: SQL of the target's columns. order: an expression that tells all rows apart.
    """
    listed = _told_apart(target, key, names, order)
    return f"DISTINCT ON ({listed})", f"ORDER BY {listed}, {ranked}"


def _told_apart(target: Target, key: UniqueKey, names: tuple[str, ...], order: str) -> str:
    """Terms that are equal in rows that clash."""
    terms = key_expressions(target, key, names)
    if absent := absent_key(target, key, names):  # they never clash: keep them all
        terms.append(f"CASE WHEN {absent} THEN {order} END")
    return ", ".join(terms)


def absent_key(target: Target, key: UniqueKey, names: tuple[str, ...]) -> str:
    """A condition that holds for rows that clash with none, because their key has a NULL or is
    outside a partial index; "" where there can be no such row.
    """
    conditions = []
    if key.predicate:
        conditions.append(f"{_of_row(target, key, key.predicate, names)} IS NOT TRUE")
    conditions += [
        f"{_part(target, key, part, names)} IS NULL"
        for part in key.parts
        if part.column is None or not target.table.column(part.column).not_null
        if not key.nulls_equal
    ]
    return " OR ".join(conditions)


def same_key(target: Target, key: UniqueKey, inner: str, other: str) -> str:
    """Where two rows have the same key, as its index compares them. inner: the only FROM item of
    a subquery, with all columns of the key; other: one outside, with the target's columns.
    """
    names = tuple(f"{other}.{quote(column.name)}" for column in target.columns)
    equals = "IS NOT DISTINCT FROM" if key.nulls_equal else "="
    terms = [
        f"{with_collation(own, part)} {equals} {theirs}"
        for part, theirs in zip(key.parts, key_expressions(target, key, names), strict=True)
        for own in [f"{inner}.{quote(part.column)}" if part.column else f"({part.sql})"]
    ]
    return " AND ".join([*terms, f"({key.predicate})"] if key.predicate else terms)


def table_guard(target: Target) -> str:
    """A statement that fails with 42704 where the table's columns are no longer what they were.

    COPY would read our bytes as whatever the columns are by then (int4 as real), and INSERT would
    cast them, both without an error. The table is locked by then, so the answer holds.
    """
    table = target.table
    columns = ",".join(f"{c.name}:{c.type_oid}:{c.declared_typmod}" for c in table.columns)
    return (
        "SELECT CASE WHEN (SELECT pg_catalog.string_agg(pg_catalog.concat(attname, ':', atttypid,"
        " ':', atttypmod), ',' ORDER BY attnum) FROM pg_catalog.pg_attribute"
        f" WHERE attrelid = {literal(table.sql)}::pg_catalog.regclass AND attnum > 0"
        f" AND NOT attisdropped) = {literal(columns)} THEN ''"
        " ELSE pg_catalog.current_setting('batchbench.table_changed') END"
    )
