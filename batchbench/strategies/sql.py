"""SQL that the strategies share. Every identifier is quoted."""

from __future__ import annotations

from collections.abc import Iterable

from batchbench.strategies import OnConflict, Target
from batchbench.table import literal, quote


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
    """SELECT the target's columns from `rows`; under UPDATE one row a key, the last in input order.

    rows: the FROM item. names: its columns' SQL, as the target's. order: an expression that grows
    with input order. Two rows of one key in one statement would be refused with 21000.
    """
    columns = ", ".join(names)
    if target.on_conflict is not OnConflict.UPDATE or target.key is None:
        return f"SELECT {columns} FROM {rows}"
    by_name = {
        column.name: (column, name) for column, name in zip(target.columns, names, strict=True)
    }
    key = [by_name[name] for name in target.key.columns]
    distinct = [name for _, name in key]
    nullable = [name for column, name in key if not column.not_null]
    if nullable and not target.key.nulls_equal:  # NULL keys never clash: keep them all
        absent = " OR ".join(f"{name} IS NULL" for name in nullable)
        distinct.append(f"CASE WHEN {absent} THEN {order} END")
    listed = ", ".join(distinct)
    return f"SELECT DISTINCT ON ({listed}) {columns} FROM {rows} ORDER BY {listed}, {order} DESC"


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
