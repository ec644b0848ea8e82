"""The table of casts, and the choice of one: source type x column type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts import (
    binary,
    by_input,
    interval,
    nested,
    numbers,
    numeric,
    temporal,
    temporal_text,
    text,
)
from batchbench.casts.outcome import (
    Builder,
    CastOptions,
    Converted,
    Exactness,
    Fault,
    Kernel,
    Mask,
    Plan,
    checked,
    exact,
    in_order,
    refuse,
    through_dictionary,
    valid_mask,
)
from batchbench.errors import InputError, TableError
from batchbench.table import BY_INPUT, TEXT, Column

# The class of a source type, by the first test that holds.
_CLASSES = (
    ("bool", pa.types.is_boolean),
    ("int", pa.types.is_integer),
    ("float", pa.types.is_floating),
    ("decimal", pa.types.is_decimal),
    ("text", lambda t: pa.types.is_string(t) or pa.types.is_large_string(t)),
    ("text", pa.types.is_string_view),
    ("binary", lambda t: pa.types.is_binary(t) or pa.types.is_large_binary(t)),
    ("binary", lambda t: pa.types.is_fixed_size_binary(t) or pa.types.is_binary_view(t)),
    ("date", pa.types.is_date),
    ("time", pa.types.is_time),
    ("timestamp", pa.types.is_timestamp),
    ("duration", pa.types.is_duration),
    ("months", pa.types.is_interval),
    ("map", pa.types.is_map),
    ("list", lambda t: pa.types.is_list(t) or pa.types.is_large_list(t)),
    ("list", lambda t: pa.types.is_fixed_size_list(t) or pa.types.is_list_view(t)),
    ("list", pa.types.is_large_list_view),
    ("struct", pa.types.is_struct),
)

_INTO_INTEGER: Mapping[str, Builder] = {
    "int": numbers.int_from_int,
    "float": numbers.int_from_float,
    "decimal": numbers.int_from_decimal,
    "text": numbers.int_from_text,
}
_INTO_FLOAT: Mapping[str, Builder] = {
    "int": numbers.float_from_int,
    "float": numbers.float_from_float,
    "decimal": numbers.float_from_decimal,
    "text": numbers.float_from_text,
}
_INTO_TEXT_KINDS = ("text", "varchar", "bpchar")
_INTO_TEXT: Mapping[str, Builder] = {
    "text": text.text_from_text,
    "int": text.text_from_int,
    "float": text.text_from_float,
    "decimal": text.text_from_decimal,
    "bool": text.text_from_bool,
}
_INTO_JSON: Mapping[str, Builder] = {
    **_INTO_TEXT,
    "float": text.json_from_float,
    "list": nested.json_from_nested,
    "struct": nested.json_from_nested,
    "map": nested.json_from_nested,
}
_ONLY_TEXT: Mapping[str, Builder] = {"text": text.text_from_text}
_INTO_INET: Mapping[str, Builder] = {"text": binary.inet_from_text}
_INTO_TIMESTAMP: Mapping[str, Builder] = {
    "text": temporal_text.timestamp_from_text,
    "timestamp": temporal.timestamp_from_timestamp,
    "date": temporal.timestamp_from_date,
}


def _array(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Lists and array literals into an array column, by the cast of their elements."""
    element = column.type.element
    if element is None:
        raise TableError(f"column {column.name!r}: {column.declared} names no element type")
    of_elements = replace(column, type=element, not_null=False)
    if _class(source) == "text":
        plan = plan_for(source, of_elements, options)
        return checked(nested.array_literals_kernel(plan.kernel, source))
    if _class(_storage(source.value_type)) in ("list", "map"):
        refuse(source, column, "only arrays of one dimension are supported; flatten the lists")
    plan = plan_for(source.value_type, of_elements, options)
    return Plan(plan.exactness, nested.lists_kernel(plan.kernel))


def _input_from_list(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Lists into an array as its literal, else (of numbers) in brackets."""
    element = column.type.element
    family = _class(_storage(source.value_type))
    if family in ("list", "map") or (element is None and family not in ("int", "float", "decimal")):
        refuse(source, column, "give it as text, in the form that the server prints")
    as_text = replace(element if element and element.by_input else TEXT, element=None)
    inner = plan_for(source.value_type, replace(column, type=as_text, not_null=False), options)
    spell = by_input.bracketed_lists if element is None else by_input.array_literals
    return checked(spell(inner.kernel))


# bits -> digits that Arrow writes and reads
_DECIMAL_DIGITS = {32: 9, 64: 18, 128: 38, 256: 76}

# kind of the column's type -> class of the source's type -> what builds the cast.
# A pair that is missing is refused.
TABLE: Mapping[str, Mapping[str, Builder]] = {
    "bool": {"bool": numbers.bool_from_bool, "text": numbers.bool_from_text},
    **dict.fromkeys(numbers.INTEGERS, _INTO_INTEGER),
    **dict.fromkeys(numbers.FLOATS, _INTO_FLOAT),
    "numeric": {
        "int": numeric.numeric_from_int,
        "float": numeric.numeric_from_float,
        "decimal": numeric.numeric_from_decimal,
        "text": numeric.numeric_from_text,
    },
    **dict.fromkeys(_INTO_TEXT_KINDS, _INTO_TEXT),
    **dict.fromkeys(("name", "xml", "enum"), _ONLY_TEXT),
    **dict.fromkeys(("json", "jsonb"), _INTO_JSON),
    "bytea": {"binary": binary.bytea_from_binary, "text": binary.bytea_from_text},
    "uuid": {"binary": binary.uuid_from_binary, "text": binary.uuid_from_text},
    "date": {
        "date": temporal.date_from_date,
        "timestamp": temporal.date_from_timestamp,
        "text": temporal_text.date_from_text,
    },
    "time": {"time": temporal.time_from_time, "text": temporal_text.time_from_text},
    **dict.fromkeys(("timestamp", "timestamptz"), _INTO_TIMESTAMP),
    "interval": {
        "duration": temporal.interval_from_duration,
        "months": temporal.interval_from_months,
        "text": interval.interval_from_text,
    },
    **dict.fromkeys(("inet", "cidr"), _INTO_INET),
    "macaddr": {"text": binary.macaddr_from_text},
    "array": {"list": _array, "text": _array},
    BY_INPUT: {
        **{family: by_input.held_by_server(build) for family, build in _INTO_TEXT.items()},
        "text": by_input.input_from_text,
        "list": _input_from_list,
    },
}

_CANONICAL: Mapping[str, pa.DataType] = {
    "bool": pa.bool_(),
    **numbers.INTEGERS,
    **numbers.FLOATS,
    "numeric": pa.decimal128(38, 0),
    **dict.fromkeys([*_INTO_TEXT_KINDS, "name", "xml", "enum", "json", "jsonb"], pa.string()),
    "bytea": pa.binary(),
    "uuid": pa.binary(16),
    "date": pa.int32(),
    **dict.fromkeys(("time", "timestamp", "timestamptz"), pa.int64()),
    "interval": pa.binary(16),
    **dict.fromkeys(("inet", "cidr"), pa.binary()),
    "macaddr": pa.binary(6),
    BY_INPUT: pa.string(),
}


@dataclass(frozen=True, slots=True)
class Cast:
    """One column's cast, decided once, run for every batch. Made by `compile_cast`."""

    column: Column
    source: pa.DataType
    exactness: Exactness
    kernel: Kernel = field(repr=False, compare=False)

    def apply(self, values: pa.Array) -> Converted:
        """Convert an array of the source type into the column's canonical array.

        values: shape (rows,), of type `source`; slices are fine.
        Rows that do not fit become null and faults; so do nulls for a NOT NULL column.
        Raises InputError where `values` is of another type.
        """
        if values.type != self.source:
            raise InputError(
                f"column {self.column.name!r}: the source's type changed from {self.source} to "
                f"{values.type}; all its batches must have one type"
            )
        done = self.kernel(values)
        return _without_nulls(done) if self.column.not_null else done


def _without_nulls(done: Converted) -> Converted:
    if done.values.null_count == len(done.faults):
        return done
    null: Mask = ~valid_mask(done.values)
    null[[fault.row for fault in done.faults]] = False
    rows = null.nonzero()[0].tolist()
    faults = [Fault(row, "23502", "null in a NOT NULL column") for row in rows]
    return Converted(done.values, in_order(done.faults, faults))


def compile_cast(
    source: pa.DataType,
    column: Column,
    options: CastOptions = CastOptions(),  # noqa: B008 - frozen
) -> Cast:
    """Choose the cast from a source's Arrow type to a column.

    Raises InputError where the pair is refused; ConfigError where the cast needs
    `options.assume_timezone` and that is no zone.
    """
    plan = plan_for(source, column, options)
    return Cast(column, source, plan.exactness, plan.kernel)


def plan_for(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """The plan for one pair. Errors as `compile_cast`."""
    if isinstance(source, pa.BaseExtensionType):
        inner = plan_for(source.storage_type, column, options)
        return Plan(inner.exactness, lambda values: inner.kernel(values.storage))
    if pa.types.is_dictionary(source):
        return _dictionary(plan_for(source.value_type, column, options))
    if pa.types.is_run_end_encoded(source):
        inner = plan_for(source.value_type, column, options)
        return Plan(inner.exactness, lambda values: inner.kernel(pc.run_end_decode(values)))
    if pa.types.is_null(source):
        target = canonical_type(column)
        return exact(lambda values: Converted(pa.nulls(len(values), target)))
    family = _class(source)
    if family == "decimal" and abs(source.scale) > _DECIMAL_DIGITS[source.bit_width]:
        refuse(source, column, "Arrow itself cannot show such decimals; give them another scale")
    build = TABLE[column.type.kind].get(family)
    if build is None:
        takes = ", ".join(sorted(TABLE[column.type.kind]))
        refuse(source, column, f"such a column takes {takes}. Convert it in the source")
    if family == "text":
        normal = pa.string() if pa.types.is_string_view(source) else source
        return text.from_text(build(normal, column, options))
    return build(source, column, options)


def _dictionary(inner: Plan) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        if len(values.dictionary) > len(values):
            return inner.kernel(values.dictionary_decode())
        return through_dictionary(values, inner.kernel)

    return Plan(inner.exactness, kernel)


def _class(source: pa.DataType) -> str:
    return next((name for name, test in _CLASSES if test(source)), str(source))


def _storage(source: pa.DataType) -> pa.DataType:
    return source.storage_type if isinstance(source, pa.BaseExtensionType) else source


def canonical_type(column: Column) -> pa.DataType:
    """The canonical Arrow type of a column that brings no values of its own.

    A cast may return another of the same family: numeric text, large_string, large_binary.
    """
    element = column.type.element
    if element is not None and not column.type.by_input:
        return pa.list_(canonical_type(replace(column, type=element)))
    return _CANONICAL[column.type.kind]
