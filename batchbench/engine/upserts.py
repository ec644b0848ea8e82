"""What an upsert asks for, held against itself and against the table, before the first row."""

from __future__ import annotations

from collections.abc import Sequence

from batchbench.errors import ConfigError, InputError, TableError
from batchbench.strategies import OnConflict, Returning, Upsert
from batchbench.table import Column, Table, UniqueKey

_WITHOUT_ORDER = frozenset(
    ("json", "xml", "point", "line", "lseg", "box", "path", "polygon", "circle", "xid", "array")
)


def implied_conflict(on_conflict: OnConflict, upsert: Upsert, dedup: str | None) -> OnConflict:
    """What ON CONFLICT does: `newer_by` implies update. Raises ConfigError where it cannot."""
    if upsert.newer_by is not None:
        if on_conflict is OnConflict.NOTHING:
            raise ConfigError(
                "newer_by cannot work under on_conflict=nothing, where a row that is there stays"
                " as it is; leave on_conflict out, or use update"
            )
        if dedup is not None:
            raise ConfigError(
                "newer_by says which row of a key stays, the newest, so dedup cannot: leave it out"
            )
        return OnConflict.UPDATE
    if on_conflict is not OnConflict.UPDATE and upsert != Upsert():
        option = "update_columns" if upsert.columns else "skip_unchanged"
        raise ConfigError(
            f"{option} says how a row that is there is updated, and on_conflict={on_conflict}"
            " updates none; use on_conflict=update"
        )
    return on_conflict


def check_upsert(table: Table, key: UniqueKey, columns: Sequence[Column], upsert: Upsert) -> None:
    """Hold it against the columns that the rows bring. Raises TableError, InputError."""
    brought = {column.name for column in columns}
    for name in upsert.columns:
        _check_brought(table, name, brought, "update_columns")
    if upsert.newer_by is None:
        return
    column = table.column(upsert.newer_by)
    _check_brought(table, column.name, brought, "newer_by")
    if column.name in key.columns:
        raise TableError(
            f"table {table.name}: newer_by names column {column.name!r} of key {key.name}, which is"
            " the same in all rows that meet; name the column that says when a row was changed"
        )
    if column.type.kind in _WITHOUT_ORDER:
        raise TableError(
            f"table {table.name}: values of column {column.name!r} ({column.declared}) have no"
            " order of which newer_by could go by; name a time or a number"
        )


def _check_brought(table: Table, name: str, brought: set[str], option: str) -> None:
    table.column(name)
    if name not in brought:
        raise InputError(
            f"the data have no column {name!r}, which {option} names for table {table.name}"
        )


def check_key(table: Table, key: UniqueKey, columns: Sequence[Column], why: str) -> None:
    """Whether the key of a row is known before the server has it. Raises InputError."""
    brought = {column.name for column in columns}
    absent = [name for name in key.columns if name not in brought]
    absent += [
        name for name in key.uses if name not in brought and table.column(name).server_filled
    ]
    if absent:
        raise InputError(
            f"the data have no column {', '.join(map(repr, absent))}, which key {key.name}"
            f" of table {table.name} needs for {why}"
        )


def returning_of(table: Table, key: UniqueKey, columns: Sequence[str]) -> Returning:
    """What is answered of each written row. Raises TableError where its key could not tell it."""
    for name in columns:
        table.column(name)
    nullable = [name for name in key.columns if not table.column(name).not_null]
    if not key.plain or (nullable and not key.nulls_equal):
        raise TableError(
            f"table {table.name}: returning tells rows apart by a unique key of columns that are"
            f" NOT NULL, and {key} is none; name another with conflict_target"
        )
    return Returning(tuple(columns), key)
