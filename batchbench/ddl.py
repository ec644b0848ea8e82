"""CREATE TABLE for a table that is missing, from a source's Arrow schema. Pure."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from batchbench.errors import TableError
from batchbench.limits import MAX_COLUMNS
from batchbench.table import TableName, quote

NAME_BYTES = 63
"""Longest SQL name; PostgreSQL cuts longer ones without an error. Source: NAMEDATALEN."""


def table_ddl(name: TableName, schema: pa.Schema) -> str:
    """The statement that makes a table with the schema's columns, all nullable, without keys.

    Every name is quoted as it stands. Raises TableError where a name is empty, doubled or longer
    than PostgreSQL keeps, where there are no or too many columns, and on a type without a
    PostgreSQL counterpart.
    """
    for part in (name.schema, name.table):
        if part is not None:
            _fitting(part, f"table {name}")
    if not 1 <= len(schema) <= MAX_COLUMNS:
        raise TableError(
            f"table {name}: the source has {len(schema)} columns; a table has 1 to {MAX_COLUMNS:,}"
        )
    seen: set[str] = set()
    lines = []
    for field in schema:
        _fitting(field.name, f"table {name}, column {field.name!r}")
        if field.name in seen:
            raise TableError(
                f"table {name}: two columns are named {field.name!r}; rename one in the source"
            )
        seen.add(field.name)
        lines.append(f"  {quote(field.name)} {_field_type(field, f'table {name}')}")
    return f"CREATE TABLE {name.sql} (\n" + ",\n".join(lines) + "\n)"


def _fitting(identifier: str, where: str) -> None:
    size = len(identifier.encode())
    if size > NAME_BYTES:
        raise TableError(
            f"{where}: the name has {size} bytes, PostgreSQL keeps {NAME_BYTES}; shorten it"
        )
    quote(identifier)


def _field_type(field: pa.Field, where: str) -> str:
    # sources mark text that holds JSON documents
    if (field.metadata or {}).get(b"batchbench.type") == b"json":
        return "jsonb"
    found = sql_type(field.type)
    if found is None:
        raise TableError(
            f"{where}, column {field.name!r}: PostgreSQL has no type for Arrow's {field.type}; "
            "cast it in the source, or create the table first"
        )
    return found


def sql_type(kind: pa.DataType) -> str | None:
    """The PostgreSQL type that holds every value of an Arrow type; None where there is none.

    timestamp[ns] and duration[ns] become types of microseconds: the load checks each value.
    """
    if isinstance(kind, pa.BaseExtensionType):
        if kind.extension_name == "arrow.uuid":
            return "uuid"
        return "jsonb" if kind.extension_name == "arrow.json" else sql_type(kind.storage_type)
    if kind in _FIXED:
        return _FIXED[kind]
    types = pa.types
    if types.is_decimal(kind):
        return _numeric(kind.precision, kind.scale)
    if types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    if types.is_dictionary(kind):
        return sql_type(kind.value_type)
    if _is_list(kind):
        return _array(kind.value_type)
    return next((name for fits, name in _FAMILIES if fits(kind)), None)


def _numeric(precision: int, scale: int) -> str:
    if scale < 0:  # 12E+3: whole numbers with more digits
        return f"numeric({precision - scale})"
    return f"numeric({max(precision, scale)},{scale})"


def _array(element: pa.DataType) -> str | None:
    found = sql_type(element)
    if found is None or found == "jsonb":
        return found
    # an array of arrays has one type in PostgreSQL, however deep
    return found if found.endswith("[]") else f"{found}[]"


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


_FIXED = {
    pa.null(): "text",
    pa.bool_(): "boolean",
    pa.int8(): "smallint",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.uint8(): "smallint",
    pa.uint16(): "integer",
    pa.uint32(): "bigint",
    pa.uint64(): "numeric(20)",
    pa.float16(): "real",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "text",
    pa.large_string(): "text",
    pa.string_view(): "text",
}

_FAMILIES: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
    (pa.types.is_date, "date"),
    (pa.types.is_time, "time"),
    (pa.types.is_duration, "interval"),
    (pa.types.is_interval, "interval"),
    (pa.types.is_binary, "bytea"),
    (pa.types.is_large_binary, "bytea"),
    (pa.types.is_binary_view, "bytea"),
    (pa.types.is_fixed_size_binary, "bytea"),
    (pa.types.is_struct, "jsonb"),
    (pa.types.is_map, "jsonb"),
)
