"""Columns under other names than the source has, and values from inside objects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.source import SchemaKind, Source, unique_names

_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Paths:
    """Paths into objects: payload.device.name. heads: the first keys, which are no columns."""

    paths: Mapping[str, tuple[str, ...]]
    heads: frozenset[str]

    @classmethod
    def of(cls, names: Iterable[str]) -> Paths | None:
        """Those of the names that have dots; None where none has."""
        names = list(names)
        paths = {name: tuple(name.split(".")) for name in names if "." in name}
        if not paths:
            return None
        heads = {keys[0] for keys in paths.values()} - set(names)
        return cls(paths, frozenset(heads))

    def lift(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The row with the value of each path as a key of the path's own name, where it is there.

        Raises InputError, which `where` starts, where a path leads through what is no object.
        """
        lifted = {key: value for key, value in row.items() if key not in self.heads}
        for name, keys in self.paths.items():
            if name not in row and (value := _follow(row, keys, where)) is not _ABSENT:
                lifted[name] = value
        return lifted


def _follow(row: Mapping[str, Any], keys: tuple[str, ...], where: str) -> Any:
    value: Any = row
    for depth, key in enumerate(keys):
        if value is None:
            return _ABSENT
        if not isinstance(value, Mapping):
            raise InputError(
                f"{where}: {'.'.join(keys[:depth])} is a {type(value).__name__}, and "
                f"{'.'.join(keys)} needs an object there; repair the row, or leave it out of the "
                "map"
            )
        value = value.get(key, _ABSENT)
        if value is _ABSENT:
            return _ABSENT
    return value


class MappedSource:
    """Another source, with columns of one table under other names."""

    def __init__(self, source: Source, columns: Mapping[str, str]) -> None:
        if source.targets:
            raise InputError(
                f"{source.name}: feeds several tables, whose columns are known; leave the map out"
            )
        self._source = source
        self._columns = columns
        self.name = source.name

    @property
    def one_shot(self) -> bool:
        """As the source."""
        return self._source.one_shot

    @property
    def schema_kind(self) -> SchemaKind:
        """As the source."""
        return self._source.schema_kind

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """None."""
        return {}

    def schema(self) -> pa.Schema | None:
        """Columns under their new names. Raises InputError also where the map names one that is
        not there: in a source of observed types only a path, since other keys may come later.
        """
        schema = self._source.schema()
        if schema is not None:
            self._hold(schema)
            empty = [pa.nulls(0, field.type) for field in schema]
            schema = self._mapped(pa.RecordBatch.from_arrays(empty, schema=schema)).schema
        return schema

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        for batch in self._source.batches(max_rows, max_bytes):
            yield replace(batch, columns=self._mapped(batch.columns))

    def not_loaded(self) -> Mapping[str, int]:
        """As the source."""
        return self._source.not_loaded()

    def fingerprint(self) -> str:
        """As the source."""
        return self._source.fingerprint()

    def remarks(self) -> Mapping[str, int]:
        """As the source."""
        return self._source.remarks()

    def _hold(self, schema: pa.Schema) -> None:
        absent = [n for n in self._columns if n not in schema.names and not _is_path(n, schema)]
        if self.schema_kind == "observed":
            absent = [name for name in absent if "." in name]
        if absent:
            first = " in its first rows" if self.schema_kind == "observed" else ""
            raise InputError(
                f"{self.name}: the map names {', '.join(map(repr, absent))}, which is not there"
                f"{first}; there are {', '.join(schema.names)}"
            )

    def _mapped(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        paths = [n for n in self._columns if n not in rows.schema.names]
        paths = [name for name in paths if _is_path(name, rows.schema)]
        heads = {name.split(".")[0] for name in paths} - self._columns.keys()
        columns = [
            (self._columns.get(field.name, field.name), field, rows.column(position))
            for position, field in enumerate(rows.schema)
            if field.name not in heads
        ]
        for name in paths:
            head, *inner = name.split(".")
            values = pc.struct_field(rows.column(head), inner)
            columns.append((self._columns[name], pa.field(name, values.type), values))
        unique_names((name for name, _, _ in columns), f"{self.name}, as mapped")
        return pa.RecordBatch.from_arrays(
            [values for _, _, values in columns],
            schema=pa.schema([field.with_name(name) for name, field, _ in columns]),
        )


def _is_path(name: str, schema: pa.Schema) -> bool:
    """Whether a name is a path into a column of structs."""
    head, *inner = name.split(".")
    if not inner or head not in schema.names:
        return False
    kind = schema.field(head).type
    for key in inner:
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            return False
        kind = kind.field(key).type
    return True
