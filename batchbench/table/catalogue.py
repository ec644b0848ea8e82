"""The catalogue's queries, and the `Table` that their answers make.

A backend that has just begun knows no catalogue: for each that a query names, the planner reads
what it is and which indexes and statistics it has, which takes longer than the answer. So
`TABLE_SQL` asks for no more than most tables need, what is the same on every server is not asked
for, and `details_sql` asks the rest, of those tables that have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from batchbench.errors import TableError
from batchbench.table import (
    BY_INPUT,
    ENCODED,
    Collation,
    Column,
    KeyPart,
    PgType,
    Table,
    TableName,
    UniqueKey,
    parse_table_name,
    quote,
)

# One row of text: a JSON object; none where the table is missing. $1 is a quoted name.
TABLE_SQL = """
SELECT json_build_object(
  'oid', c.oid::bigint, 'schema', c.relnamespace::pg_catalog.regnamespace::text,
  'table', c.relname, 'kind', c.relkind,
  'may_insert', pg_catalog.has_any_column_privilege(c.oid, 'INSERT'),
  'persistence', c.relpersistence, 'row_security', c.relrowsecurity,
  'has_rules', c.relhasrules, 'has_triggers', c.relhastriggers,
  'row_type', c.reltype::bigint,
  'row_array', (SELECT t.typarray::bigint FROM pg_catalog.pg_type t WHERE t.oid = c.reltype),
  'columns', (SELECT coalesce(json_agg(json_build_object(
      'number', a.attnum, 'name', a.attname, 'type', a.atttypid::bigint, 'typmod', a.atttypmod,
      'declared', pg_catalog.format_type(a.atttypid, a.atttypmod),
      'not_null', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated <> '',
      'has_default', a.atthasdef AND a.attgenerated = '',
      'collation', a.attcollation::bigint) ORDER BY a.attnum), '[]')
    FROM pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'keys', (SELECT coalesce(json_agg(json_build_object(
      'oid', i.oid::bigint, 'name', i.relname, 'primary', x.indisprimary,
      'deferrable', NOT x.indimmediate, 'nulls_equal', x.indnullsnotdistinct,
      'plain', x.indpred IS NULL AND x.indexprs IS NULL,
      'numbers', x.indkey[0:x.indnkeyatts - 1], 'collations', x.indcollation::bigint[])
      ORDER BY x.indisprimary DESC, i.relname), '[]')
    FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid
    WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid)
)::text
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass($1::text)
"""

# What the rest of a table is read with; c is its row of pg_class.
_DETAILS = {
    "rules": """(SELECT coalesce(json_agg(r.rulename ORDER BY r.rulename), '[]')
    FROM pg_catalog.pg_rewrite r
    WHERE r.ev_class = c.oid AND r.ev_type = '3' AND r.rulename <> '_RETURN')""",
    "before_triggers": """(SELECT coalesce(json_agg(t.tgname ORDER BY t.tgname), '[]')
    FROM pg_catalog.pg_trigger t
    WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
      AND t.tgtype & 2 = 2 AND t.tgtype & 1 = 1 AND t.tgtype & 4 = 4)""",
    "defaults": """(SELECT json_object_agg(d.adnum, pg_catalog.pg_get_expr(d.adbin, d.adrelid))
    FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid)""",
    "collations": """(SELECT json_object_agg(l.oid, json_build_object('schema', n.nspname,
      'name', l.collname, 'deterministic', l.collisdeterministic))
    FROM pg_catalog.pg_collation l JOIN pg_catalog.pg_namespace n ON n.oid = l.collnamespace
    WHERE l.oid = ANY (ARRAY(SELECT a.attcollation FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = c.oid) || ARRAY(SELECT unnest(x.indcollation)
      FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid)))""",
    "keys": """(SELECT json_object_agg(x.indexrelid, json_build_object(
      'predicate', coalesce(pg_catalog.pg_get_expr(x.indpred, c.oid), ''),
      'uses', (SELECT coalesce(json_agg(DISTINCT a.attname), '[]') FROM pg_catalog.pg_depend d
        JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
        WHERE d.refobjid = c.oid AND d.refobjsubid > 0 AND d.objid = x.indexrelid
          AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
          AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass),
      'parts', (SELECT json_agg(pg_catalog.pg_get_indexdef(x.indexrelid, k.place, false)
        ORDER BY k.place) FROM generate_series(1, x.indnkeyatts) AS k (place))))
    FROM pg_catalog.pg_index x WHERE x.indrelid = c.oid AND x.indisunique AND x.indisvalid
      AND (x.indpred IS NOT NULL OR x.indexprs IS NOT NULL))""",
    "types": """(WITH RECURSIVE needed (oid) AS (
      SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      UNION SELECT related.oid FROM needed JOIN pg_catalog.pg_type t ON t.oid = needed.oid
      CROSS JOIN LATERAL (VALUES (t.typbasetype),
        (CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc
          THEN t.typelem ELSE 0::oid END)) AS related (oid)
      WHERE related.oid <> 0)
    SELECT json_object_agg(t.oid, json_build_object(
      'oid', t.oid::bigint, 'name', t.typname, 'schema', tn.nspname, 'typtype', t.typtype,
      'array', t.typarray::bigint, 'base', t.typbasetype::bigint, 'typmod', t.typtypmod,
      'element', CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc
        THEN t.typelem::bigint ELSE 0 END,
      'labels', (SELECT coalesce(json_agg(e.enumlabel ORDER BY e.enumsortorder), '[]')
        FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)))
    FROM needed JOIN pg_catalog.pg_type t ON t.oid = needed.oid
    JOIN pg_catalog.pg_namespace tn ON tn.oid = t.typnamespace)""",
}

# What every server has under the same OID. Source: pg_type.dat, pg_collation.dat.
_SCALARS = {
    **{"bool": (16, 1000), "bytea": (17, 1001), "name": (19, 1003), "int8": (20, 1016)},
    **{"int2": (21, 1005), "int4": (23, 1007), "text": (25, 1009), "oid": (26, 1028)},
    **{"json": (114, 199), "xml": (142, 143), "cidr": (650, 651), "float4": (700, 1021)},
    **{"float8": (701, 1022), "macaddr": (829, 1040), "inet": (869, 1041)},
    **{"bpchar": (1042, 1014), "varchar": (1043, 1015), "date": (1082, 1182)},
    **{"time": (1083, 1183), "timestamp": (1114, 1115), "timestamptz": (1184, 1185)},
    **{"interval": (1186, 1187), "numeric": (1700, 1231), "uuid": (2950, 2951)},
    "jsonb": (3802, 3807),
}
_COLLATIONS = {
    str(oid): {"schema": "pg_catalog", "name": name, "deterministic": True}
    for oid, name in {100: "default", 950: "C", 951: "POSIX"}.items()
}


def _built_in(name: str, oid: int, array: int, element: int) -> dict[str, Any]:
    return {
        **{"name": name, "schema": "pg_catalog", "oid": oid, "array": array, "element": element},
        **{"typtype": "b", "base": 0, "typmod": -1, "labels": []},
    }


_TYPES = {
    str(entry["oid"]): entry
    for name, (oid, array) in _SCALARS.items()
    for entry in (_built_in(name, oid, array, 0), _built_in(f"_{name}", array, 0, oid))
}

_LOADABLE = {"r": "table", "p": "partitioned table", "f": "foreign table", "v": "view"}


@dataclass(frozen=True, slots=True)
class Catalogued:
    """What `TABLE_SQL` answered of a table that rows can be loaded into.

    details: what is missing to it; may be empty.
    """

    found: Mapping[str, Any]
    details: tuple[str, ...]

    @property
    def oid(self) -> str:
        """The table's, as text."""
        return str(self.found["oid"])

    @property
    def details_sql(self) -> str:
        """The query for what is missing. $1 is the OID. One row of text: a JSON object."""
        members = ", ".join(f"'{name}', {_DETAILS[name]}" for name in self.details)
        return (
            f"SELECT json_build_object({members})::text FROM pg_catalog.pg_class c"
            " WHERE c.oid = $1::text::pg_catalog.oid"
        )

    def table(self, answer: str | None = None) -> Table:
        """The table. answer: to `details_sql`. Raises TableError where the table is gone."""
        found, details = self.found, json.loads(answer) if answer else {}
        if self.details and not details:
            raise TableError(f"table {found['table']} was dropped while it was looked at")
        types = {**_TYPES, **(details.get("types") or {})}
        collations = {**_COLLATIONS, **(details.get("collations") or {})}
        defaults = details.get("defaults") or {}
        names = {entry["number"]: entry["name"] for entry in found["columns"]}
        more = details.get("keys") or {}
        return Table(
            TableName(found["table"], parse_table_name(found["schema"]).table),
            tuple(_column(entry, types, defaults, collations) for entry in found["columns"]),
            tuple(
                _key(entry, names, collations, more.get(str(entry["oid"])))
                for entry in found["keys"]
            ),
            row_type_oid=found["row_type"],
            row_array_oid=found["row_array"],
            partitioned=found["kind"] == "p",
            unlogged=found["persistence"] == "u",
            row_security=found["row_security"],
            rules=tuple(details.get("rules", ())),
            before_triggers=tuple(details.get("before_triggers", ())),
            may_insert=found["may_insert"],
        )


def catalogued(answer: str | None, wanted: TableName) -> Catalogued:
    """Read what `TABLE_SQL` answered.

    Raises TableError where the table is missing or is something rows cannot be loaded into.
    """
    if answer is None:
        raise TableError(
            f"table {wanted} does not exist on this server (or its schema is not in the search "
            "path); check the name's case, give the schema, or create the table first"
        )
    found: dict[str, Any] = json.loads(answer)
    if found["kind"] not in ("r", "p", "f"):
        what = _LOADABLE.get(found["kind"], "relation of another kind")
        name = TableName(found["table"], parse_table_name(found["schema"]).table)
        raise TableError(f"{name} is a {what}; rows can be loaded into tables only")
    columns, keys = found["columns"], found["keys"]
    collations = {column["collation"] for column in columns}
    collations |= {oid for key in keys for oid in key["collations"]}
    wanting = {
        "rules": found["has_rules"],
        "before_triggers": found["has_triggers"],
        "defaults": any(column["has_default"] for column in columns),
        "collations": any(oid and str(oid) not in _COLLATIONS for oid in collations),
        "keys": not all(key["plain"] for key in keys),
        "types": any(str(column["type"]) not in _TYPES for column in columns),
    }
    return Catalogued(found, tuple(name for name, is_wanted in wanting.items() if is_wanted))


def _key(
    entry: Mapping[str, Any],
    names: Mapping[int, str],
    collations: Mapping[str, Any],
    more: Mapping[str, Any] | None,
) -> UniqueKey:
    """more: of a key that is partial or over expressions; names: of the columns, by number."""
    columns = [names[number] if number else None for number in entry["numbers"]]
    texts = more["parts"] if more else ("" for _ in columns)
    collated = entry["collations"][: len(columns)]
    return UniqueKey(
        entry["name"],
        tuple(
            KeyPart(quote(column) if column else sql, column, _collation(oid, collations))
            for sql, column, oid in zip(texts, columns, collated, strict=True)
        ),
        primary=entry["primary"],
        deferrable=entry["deferrable"],
        nulls_equal=entry["nulls_equal"],
        predicate=more["predicate"] if more else "",
        uses=tuple(more["uses"]) if more else (),
    )


def _collation(oid: int, known: Mapping[str, Any]) -> Collation | None:
    if not oid:
        return None
    found = known[str(oid)]
    return Collation(TableName(found["name"], found["schema"]).sql, found["deterministic"])


def _column(
    entry: Mapping[str, Any],
    types: Mapping[str, Any],
    defaults: Mapping[str, str],
    collations: Mapping[str, Any],
) -> Column:
    typmod, oid = entry["typmod"], str(entry["type"])
    while types[oid]["base"]:  # a domain's own length counts where the column gives none
        typmod = typmod if typmod != -1 else types[oid]["typmod"]
        oid = str(types[oid]["base"])
    return Column(
        name=entry["name"],
        type=_pg_type(oid, types),
        declared=entry["declared"],
        type_oid=entry["type"],
        typmod=typmod,
        declared_typmod=entry["typmod"],
        not_null=entry["not_null"],
        default=defaults.get(str(entry["number"])) if entry["has_default"] else None,
        identity=entry["identity"],
        generated=entry["generated"],
        collation=_collation(entry["collation"], collations),
    )


def _pg_type(oid: str, types: Mapping[str, Any]) -> PgType:
    entry = types[oid]
    while entry["base"]:
        entry = types[str(entry["base"])]
    element = _element(entry, types)
    return PgType(
        name=entry["name"],
        oid=entry["oid"],
        array_oid=entry["array"],
        sql=f"{quote(entry['schema'])}.{quote(entry['name'])}",
        kind=_kind(entry, element),
        labels=tuple(entry["labels"]),
        element=element,
    )


def _element(entry: Mapping[str, Any], types: Mapping[str, Any]) -> PgType | None:
    """An array's element type, as arrays name it on the wire. Not that of int2vector, whose arrays
    are none that we could send.
    """
    oid = entry["element"]
    if not oid or types[str(oid)]["array"] != entry["oid"]:
        return None
    return replace(_pg_type(str(oid), types), oid=oid)


def _kind(entry: Mapping[str, Any], element: PgType | None) -> str:
    if element is not None:
        return "array" if element.kind in ENCODED else BY_INPUT
    if entry["typtype"] == "e":
        return "enum"
    if entry["name"] == "citext":
        return "text"
    builtin = entry["schema"] == "pg_catalog" and entry["name"] in ENCODED
    return str(entry["name"]) if builtin else BY_INPUT
