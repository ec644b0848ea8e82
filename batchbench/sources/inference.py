"""Column types for a table to be created, from a look at every row."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from batchbench.errors import InputError
from batchbench.sources.columns import JSON_METADATA, is_json
from batchbench.sources.source import Source

_PASS_ROWS = 65_536
_PASS_BYTES = 16 << 20
_SAFE_DIGITS = 15  # float64 gives back any decimal of so many digits
_DATE = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME = r"[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?"
_OFFSET = r"[+-](0[0-9]|1[0-5])(:[0-5][0-9])?"
_PATTERNS = {
    "boolean": r"^(true|false)$",
    "integer": r"^(0|-?[1-9][0-9]*)$",
    "double": r"^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|-?Infinity)$",
    "date": rf"^{_DATE}$",
    "timestamp": rf"^{_DATE} {_TIME}$",
    "timestamptz": rf"^{_DATE} {_TIME}{_OFFSET}$",
}
_CALENDAR = {
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}


def infer_types(source: Source) -> pa.Schema:
    """The columns of all rows, with the types a new table should have. Reads the whole source
    unless it declares its types.

    Text formats: a type is chosen only where every value is written as PostgreSQL prints that
    type, so that nothing a value says is lost: 007 and 2013-01-01T05:00:00Z stay text. Integers
    are int64, or decimal beyond it; 517.0 and 1e-3 float64 if float64 holds all their digits;
    true and false bool; else date, timestamp with and without offset; else text, also for a
    column of nulls.
    Observed types: the narrowest type that holds all that was seen, else text.
    Raises InputError on a one-shot source and on one that fans out to several tables.
    """
    schema = source.schema()
    if schema is None:
        raise InputError(f"{source.name}: feeds several tables, whose columns are known already")
    if source.schema_kind == "declared":
        return schema
    if source.one_shot:
        raise InputError(
            f"{source.name}: can be read only once, too late to find its columns' types; create "
            "the table first, or load from a file"
        )
    if source.schema_kind == "text":
        return _types_of_text(source)
    fields: dict[str, pa.Field] = {}
    for batch in source.batches(_PASS_ROWS, _PASS_BYTES):
        for found in batch.columns.schema:
            fields[found.name] = _wider(fields.get(found.name), found)
    return pa.schema(list(fields.values()) or list(schema))


def _wider(known: pa.Field | None, found: pa.Field) -> pa.Field:
    if known is None or known.type == pa.null():
        return found
    if found.type == pa.null() or known.equals(found, check_metadata=True):
        return known
    if is_json(known) or is_json(found):
        return pa.field(found.name, pa.string(), metadata=JSON_METADATA)
    pair = {known.type, found.type}
    if pair == {pa.int64(), pa.float64()}:
        return pa.field(found.name, pa.float64())
    if all(pa.types.is_decimal(t) or pa.types.is_integer(t) for t in pair):
        return pa.field(found.name, _wider_decimal(known.type, found.type))
    return pa.field(found.name, pa.string())


def _wider_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    scales = [t.scale if pa.types.is_decimal(t) else 0 for t in (one, other)]
    wholes = [t.precision - t.scale if pa.types.is_decimal(t) else 19 for t in (one, other)]
    precision = max(wholes) + max(scales)
    return _decimal(precision, max(scales)) or pa.string()


def _decimal(precision: int, scale: int) -> pa.DataType | None:
    if precision <= 38:
        return pa.decimal128(precision, scale)
    return pa.decimal256(precision, scale) if precision <= 76 else None


def _types_of_text(source: Source) -> pa.Schema:
    columns: dict[str, _TextColumn] = {}
    for batch in source.batches(_PASS_ROWS, _PASS_BYTES):
        for name, values in zip(batch.columns.schema.names, batch.columns.columns, strict=True):
            columns.setdefault(name, _TextColumn()).look_at(values)
    schema = source.schema()
    assert schema is not None
    return pa.schema([(name, columns.get(name, _TextColumn()).type) for name in schema.names])


@dataclass(slots=True)
class _TextColumn:
    """What one column of text can still be."""

    possible: list[str] = field(default_factory=lambda: list(_PATTERNS))
    digits: int = 0  # of the longest integer
    beyond_int64: bool = False
    empty: bool = True

    def look_at(self, values: pa.Array) -> None:
        values = values.drop_null()
        if len(values) == 0:
            return
        self.empty = False
        self.possible = [name for name in self.possible if self._still(name, values)]

    def _still(self, name: str, values: pa.Array) -> bool:
        if not pc.all(pc.match_substring_regex(values, _PATTERNS[name])).as_py():
            return False
        if name in _CALENDAR:
            return _valid_times(values, _CALENDAR[name])
        if name == "double":
            return _exact_doubles(values)
        if name == "integer":
            self._measure(values)
        return True

    def _measure(self, values: pa.Array) -> None:
        longest = pc.max(pc.utf8_length(pc.utf8_ltrim(values, "-"))).as_py()
        self.digits = max(self.digits, longest)
        if longest >= 19 and not self.beyond_int64:
            try:
                values.cast(pa.int64())
            except pa.ArrowInvalid:
                self.beyond_int64 = True

    @property
    def type(self) -> pa.DataType:
        if self.empty or not self.possible:
            return pa.string()
        name = self.possible[0]
        if name == "boolean":
            return pa.bool_()
        if name == "integer":
            return (_decimal(self.digits, 0) or pa.string()) if self.beyond_int64 else pa.int64()
        return _CALENDAR.get(name, pa.float64())


def _valid_times(values: pa.Array, kind: pa.DataType) -> bool:
    if pc.any(pc.starts_with(values, "0000")).as_py():
        return False  # PostgreSQL has no year 0
    try:
        values.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _exact_doubles(values: pa.Array) -> bool:
    numbers = values.cast(pa.float64())
    named = pc.ends_with(values, "y")  # Infinity
    if pc.any(pc.and_(pc.is_inf(numbers), pc.invert(named))).as_py():
        return False
    mantissa = pc.replace_substring_regex(values, r"[eE].*$", "")
    digits = pc.utf8_length(pc.replace_substring_regex(mantissa, r"^-?(0\.0*)?|\.", ""))
    exponent = pc.match_substring_regex(values, r"[eE][+-]?[0-9]{3}")
    doubtful = pc.and_(pc.or_(pc.greater(digits, _SAFE_DIGITS), exponent), pc.invert(named))
    written, read = values.filter(doubtful), numbers.filter(doubtful)
    differs = pc.not_equal(written, read.cast(pa.string()))
    # few are left: those that Arrow writes in another form than the file
    pairs = zip(written.filter(differs).to_pylist(), read.filter(differs).to_pylist(), strict=True)
    return all(Decimal(text) == Decimal(repr(number)) for text, number in pairs)
