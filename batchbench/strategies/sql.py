"""SQL that the strategies share. Every identifier is quoted."""

from __future__ import annotations

from collections.abc import Iterable

from batchbench.strategies import OnConflict, Payload, Target, Written
from batchbench.table import UniqueKey, literal, quote


def column_list(names: Iterable[str]) -> str:
    """Quoted names, with commas."""
    return ", ".join(quote(name) for name in names)


def insert_into(target: Target) -> str:
    """INSERT INTO table (columns)."""
    names = column_list(column.name for column in target.columns)
    return f"INSERT INTO {target.table.sql} ({names})"


def on_conflict(target: Target) -> str:
    """The ON CONFLICT clause; its target is always named. Empty under OnConflict.ERROR."""
    if target.key is None:
        return ""
    key = column_list(target.key.columns)
    others = [c.name for c in target.columns if c.name not in target.key.columns]
    if target.on_conflict is OnConflict.NOTHING or not others:
        return f" ON CONFLICT ({key}) DO NOTHING"
    changes = ", ".join(f"{quote(name)} = EXCLUDED.{quote(name)}" for name in others)
    return f" ON CONFLICT ({key}) DO UPDATE SET {changes}"


def select_rows(target: Target, rows: str, names: tuple[str, ...], order: str) -> str:
    """SELECT the target's columns from `rows`; where there is a key in its order, so that loads
    whose rows overlap wait for each other and never deadlock.

    rows: the FROM item. names: its columns' SQL, as the target's. order: an expression that grows
    with input order. Under UPDATE a key comes once, its last row: two in one statement would be
    refused with 21000. Under NOTHING its first row comes first, and stays.
    """
    columns = ", ".join(names)
    if target.key is None:
        return f"SELECT {columns} FROM {rows}"
    if target.on_conflict is OnConflict.NOTHING:
        key = ", ".join(key_expressions(target, target.key, names))
        return f"SELECT {columns} FROM {rows} ORDER BY {key}, {order}"
    distinct, ordered = one_of_each(target, target.key, names, f"{order} DESC")
    return f"SELECT {distinct} {columns} FROM {rows} {ordered}"


def key_expressions(target: Target, key: UniqueKey, names: tuple[str, ...]) -> list[str]:
    """The key's columns as the index compares them. names: SQL of the target's columns."""
    by_name = dict(zip((c.name for c in target.columns), names, strict=True))
    collations = key.collations or (None,) * len(key.columns)
    return [
        by_name[name] if collation is None else f"{by_name[name]} COLLATE {collation.sql}"
        for name, collation in zip(key.columns, collations, strict=True)
    ]


def one_of_each(
    target: Target, key: UniqueKey, names: tuple[str, ...], order: str
) -> tuple[str, str]:
    """DISTINCT ON and ORDER BY for one row a key: the first in `order`, which may say DESC.

    names: SQL of the target's columns.
    """
    distinct = key_expressions(target, key, names)
    if absent := absent_key(target, key, names):  # NULL keys never clash: keep them all
        distinct.append(f"CASE WHEN {absent} THEN {order.removesuffix(' DESC')} END")
    listed = ", ".join(distinct)
    return f"DISTINCT ON ({listed})", f"ORDER BY {listed}, {order}"


def absent_key(target: Target, key: UniqueKey, names: tuple[str, ...]) -> str:
    """A condition that holds for rows whose key has a NULL, so that they clash with none; ""
    where there can be no such row.
    """
    by_name = {c.name: (c, name) for c, name in zip(target.columns, names, strict=True)}
    columns = [by_name[name] for name in key.columns]
    nullable = [name for column, name in columns if not column.not_null]
    return "" if key.nulls_equal else " OR ".join(f"{name} IS NULL" for name in nullable)


def same_key(target: Target, key: UniqueKey, one: str, other: str) -> str:
    """Where two rows have the same key, as its index compares them. one, other: their FROM items'
    names.
    """
    sides = [
        key_expressions(target, key, tuple(f"{side}.{quote(c.name)}" for c in target.columns))
        for side in (one, other)
    ]
    equals = "IS NOT DISTINCT FROM" if key.nulls_equal else "="
    return " AND ".join(f"{left} {equals} {right}" for left, right in zip(*sides, strict=True))


def counted(target: Target, payload: Payload, row_count: int) -> Written:
    """What became of a chunk, where all that can be known is how many rows were written."""
    return Written(row_count, payload.row_count - row_count if target.key is not None else 0)


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
