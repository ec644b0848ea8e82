"""Tables as the catalogue knows them: names, columns, types, keys. Pure; reads nothing itself.

`catalogue` has the queries that a session runs, and makes a `Table` of their answers.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from batchbench.errors import TableError


def quote(identifier: str) -> str:
    """Quote one SQL identifier. Raises TableError on an empty one or a NUL byte."""
    if not identifier or "\0" in identifier:
        raise TableError(f"{identifier!r} cannot be an SQL name: it is empty or has a NUL byte")
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """An SQL string literal; `standard_conforming_strings` or not."""
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"


@dataclass(frozen=True, slots=True)
class TableName:
    """A table's name; `schema` None means: found through the search path."""

    table: str
    schema: str | None = None

    @property
    def sql(self) -> str:
        """The quoted name."""
        return f"{quote(self.schema)}.{quote(self.table)}" if self.schema else quote(self.table)

    def __str__(self) -> str:
        return f"{self.schema}.{self.table}" if self.schema else self.table


_NAME_PART = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')


def parse_table_name(text: str) -> TableName:
    """Read `table`, `schema.table` or, where a name has dots or quotes, `"my.schema"."T"`.

    An unquoted part is taken as it stands: `Users` means the table "Users", not users.
    Raises TableError where the text is neither.
    """
    parts: list[str] = []
    position = 0
    while True:
        match = _NAME_PART.match(text, position)
        if match is None:
            break
        quoted, bare = match.groups()
        parts.append(quoted.replace('""', '"') if quoted else bare)
        position = match.end()
        if position == len(text) or text[position] != ".":
            break
        position += 1
    if position != len(text) or not 1 <= len(parts) <= 2:
        raise TableError(
            f"{text!r} is not a table name: write table, schema.table,"
            ' or quote the parts: "my.schema"."table"'
        )
    return TableName(parts[-1], parts[0] if len(parts) == 2 else None)


ENCODED = frozenset(
    {
        *("bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric"),
        *("text", "varchar", "bpchar", "name", "xml", "enum", "json", "jsonb", "bytea", "uuid"),
        *("date", "time", "timestamp", "timestamptz", "interval", "inet", "cidr", "macaddr"),
    }
)
"""Kinds of scalars that have an encoder of ours."""

BY_INPUT = "input"
"""The kind of all other types."""


@dataclass(frozen=True, slots=True)
class PgType:
    """A column's type, and how its values go over the wire.

    name: the base type's catalogue name ("int4", "text"); a domain is resolved to its base.
    oid: its OID. array_oid: the OID of an array of it (0 where there is none).
    sql: quoted, schema-qualified, without a length: safe in a cast ("pg_catalog"."int4").
    kind: what the encoders go by: one of ENCODED (citext is "text"), "array", or BY_INPUT.
    labels: an enum's labels.
    element: an array's element type; a domain is resolved, but for its OID.
    """

    name: str
    oid: int
    array_oid: int
    sql: str
    kind: str
    labels: tuple[str, ...] = ()
    element: PgType | None = None

    @property
    def by_input(self) -> bool:
        """Whether values go as text, for the type's own input function on the server to read."""
        return self.kind == BY_INPUT

    @property
    def sent(self) -> PgType:
        """What the values are on the wire: text where they go `by_input`."""
        return TEXT if self.by_input else self


TEXT = PgType("text", 25, 1009, '"pg_catalog"."text"', "text")


@dataclass(frozen=True, slots=True)
class Collation:
    """What a column or an index compares texts by. sql: its quoted name.
    deterministic: whether only equal bytes are equal.
    """

    sql: str
    deterministic: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    type: a domain is resolved to its base; `type_oid` is what the column was declared with.
    declared: the type as the server writes it: "numeric(6,2)".
    """

    name: str
    type: PgType
    declared: str
    type_oid: int = 0
    typmod: int = -1
    declared_typmod: int = -1  # the column's own; typmod may be its domain's
    not_null: bool = False
    default: str | None = None
    identity: str = ""  # "a" always, "d" by default
    generated: bool = False
    collation: Collation | None = None

    @property
    def required(self) -> bool:
        """Whether an INSERT must name this column."""
        filled = self.default is not None or self.identity or self.generated
        return self.not_null and not filled

    @property
    def server_filled(self) -> bool:
        """Whether the server computes it when an INSERT does not name it.

        True for identity and generated columns and for defaults that are not constants
        (a sequence, now(), gen_random_uuid()).
        """
        if self.identity or self.generated:
            return True
        return self.default is not None and not _CONSTANT.fullmatch(self.default)

    @property
    def numbered(self) -> bool:
        """Whether a sequence fills it where an INSERT does not name it."""
        return bool(self.identity) or "nextval(" in (self.default or "")


_CONSTANT = re.compile(
    r"(?:NULL|true|false|'(?:[^']|'')*'|\(?-?[\d.]+(?:e[+-]?\d+)?\)?)(?:::[\w\s\".\[\](),]+)?", re.I
)


@dataclass(frozen=True, slots=True)
class KeyPart:
    """One column or expression of a unique index. sql: over the table's own column names.
    column: None for an expression. collation: None where it has none.
    """

    sql: str
    column: str | None
    collation: Collation | None = None


@dataclass(frozen=True, slots=True)
class UniqueKey:
    """A unique index that rows can clash on.

    predicate: of a partial index, SQL over the table's own column names, else "".
    uses: the columns that its expressions and its predicate are of.
    """

    name: str
    parts: tuple[KeyPart, ...]
    primary: bool = False
    deferrable: bool = False
    nulls_equal: bool = False  # NULLS NOT DISTINCT
    predicate: str = ""
    uses: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns, without its expressions."""
        return tuple(part.column for part in self.parts if part.column is not None)

    @property
    def expressions(self) -> bool:
        """Whether not all its parts are columns."""
        return len(self.columns) < len(self.parts)

    @property
    def plain(self) -> bool:
        """Whether its columns alone name it in ON CONFLICT."""
        return not (self.deferrable or self.predicate or self.expressions)

    @property
    def sql(self) -> str:
        """What ON CONFLICT names it by: its parts in parentheses, and its predicate."""
        parts = (quote(part.column) if part.column else f"({part.sql})" for part in self.parts)
        return f"({', '.join(parts)})" + (f" WHERE {self.predicate}" if self.predicate else "")

    def __str__(self) -> str:
        parts = ", ".join(part.column or part.sql for part in self.parts)
        where = f" WHERE {self.predicate}" if self.predicate else ""
        return f"{self.name} ({parts}){where}" + (" at COMMIT only" if self.deferrable else "")


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a live server. `columns` stand in table order."""

    name: TableName
    columns: tuple[Column, ...]
    keys: tuple[UniqueKey, ...] = ()
    row_type_oid: int = 0
    row_array_oid: int = 0
    partitioned: bool = False
    unlogged: bool = False
    row_security: bool = False
    rules: tuple[str, ...] = ()
    before_triggers: tuple[str, ...] = ()
    may_insert: bool = True  # this role, into some column at least

    @property
    def sql(self) -> str:
        """The quoted name."""
        return self.name.sql

    @property
    def insertable(self) -> tuple[Column, ...]:
        """The columns an INSERT may name."""
        return tuple(c for c in self.columns if not c.generated and c.identity != "a")

    @property
    def inserted_by_default(self) -> tuple[Column, ...]:
        """The columns that data usually bring: all that the server does not fill itself."""
        return tuple(c for c in self.insertable if not c.server_filled)

    def column(self, name: str) -> Column:
        """The column of that name. Raises TableError, with the nearest names."""
        for column in self.columns:
            if column.name == name:
                return column
        raise TableError(
            f"table {self.name} has no column {name!r}; it has "
            + ", ".join(c.name for c in self.columns)
        )

    def conflict_key(self, target: Sequence[str] = ()) -> UniqueKey:
        """The unique key that ON CONFLICT names.

        target: the wanted key's columns in any order, or the name of an index or constraint, which
            may be partial or over expressions; empty means: the only key of columns that all rows
            bring, the primary key first.
        Raises TableError where none, or more than one, fits; it lists what there is.
        """
        plain = [key for key in self.keys if key.plain]
        if target:
            fitting = [key for key in plain if set(key.columns) == set(target)]
            fitting = fitting or [key for key in self.keys if [key.name] == list(target)]
        else:
            brought = [key for key in plain if not self._filled_by_server(key)]
            fitting = [key for key in brought if key.primary] or brought
        if fitting and (target or len(fitting) == 1) and not fitting[0].deferrable:
            return fitting[0]
        raise TableError(self._no_key(target, fitting))

    def _no_key(self, target: Sequence[str], fitting: list[UniqueKey]) -> str:
        wanted = ", ".join(target)
        known = "; ".join(map(str, self.keys)) or "none"
        partial = [k.name for k in self.keys if k.predicate and set(k.columns) == set(target)]
        if not target:
            why = "no single unique key tells rows apart: name its columns, or itself"
        elif fitting:
            why = f"{fitting[0].name} is checked at COMMIT only, so ON CONFLICT cannot name it"
        elif partial:
            why = (
                f"only partial indexes are over ({wanted}): name the index, {' or '.join(partial)}"
            )
        else:
            why = f"no unique key is over ({wanted}) or has that name"
        return f"table {self.name}: {why} (conflict target); unique keys: {known}"

    def _filled_by_server(self, key: UniqueKey) -> bool:
        return any(self.column(name).server_filled for name in key.columns)
