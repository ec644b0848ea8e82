"""The same columns in each kind of source."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from batchbench.sources import Source, open_source
from tests.edges.arrays import ARRAY_KINDS
from tests.edges.documents import DOCUMENT_KINDS
from tests.edges.given import Carrier, Family, Given, Kind
from tests.edges.intervals import INTERVAL_KINDS
from tests.edges.numbers import NUMBER_KINDS
from tests.edges.other_types import OTHER_KINDS
from tests.edges.texts import ADDRESS_KINDS, BOOL, BYTEA, ENUM, TEXT_KINDS, UUID
from tests.edges.times import TIME_KINDS

KINDS: tuple[Kind, ...] = (
    *(*NUMBER_KINDS, *TEXT_KINDS, BOOL, *TIME_KINDS, *INTERVAL_KINDS, UUID, *DOCUMENT_KINDS),
    *(BYTEA, ENUM, *ADDRESS_KINDS, *ARRAY_KINDS, *OTHER_KINDS),
)


@dataclass(frozen=True, slots=True)
class Filled:
    """One column of a load. values: None is null."""

    name: str
    kind: Kind
    carrier: Carrier
    values: Sequence[Given | None] = field(repr=False)

    @property
    def raw(self) -> list[Any]:
        """The values as the source has them."""
        return [None if given is None else given.value for given in self.values]


@dataclass(frozen=True, slots=True, repr=False)
class Drawn:
    """Rows to be loaded, numbered from 1."""

    columns: tuple[Filled, ...]
    row_count: int
    chunk_size: int

    def __repr__(self) -> str:
        """Short: values can be of 100,000 characters, and what is wrong is said cell by cell."""
        columns = ", ".join(f"{c.kind.sql} from {c.carrier.name}" for c in self.columns)
        return f"<{self.row_count} rows of {columns}>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """What Hypothesis asks; of a dataclass it would show every field."""
        printer.text(repr(self))


Build = Callable[[Drawn, Path], Source]


@dataclass(frozen=True, slots=True)
class SourceKind:
    """families: of the carriers it takes. build: makes it of columns; files go into a folder."""

    name: str
    families: tuple[Family, ...]
    build: Build

    def takes(self, carrier: Carrier) -> bool:
        """Whether this source can carry such values unaltered."""
        lossy = self.name == "Parquet" and carrier.lossy_in_parquet
        return carrier.family in self.families and not lossy

    def seen(self, given: Given | None) -> Given | None:
        """What the source itself makes of a value: pandas takes NaN for a missing one."""
        if self.name == "DataFrame" and given is not None and _is_missing(given.value):
            return replace(given, missing=True)
        return given


def _is_missing(value: Any) -> bool:
    return not isinstance(value, list | tuple | dict) and bool(pd.isna(value))


def _rows(drawn: Drawn) -> list[tuple[Any, ...]]:
    ids = range(1, drawn.row_count + 1)
    return list(zip(ids, *(column.raw for column in drawn.columns), strict=True))


def _names(drawn: Drawn) -> list[str]:
    return ["id", *(column.name for column in drawn.columns)]


def _tuples(drawn: Drawn, folder: Path) -> Source:
    return open_source(_rows(drawn), columns=_names(drawn))


def _dicts(drawn: Drawn, folder: Path) -> Source:
    """Every other row leaves out what is null."""
    return open_source([_record(_names(drawn), row) for row in _rows(drawn)])


def _record(names: list[str], row: tuple[Any, ...]) -> dict[str, Any]:
    sparse = row[0] % 2
    return {n: v for n, v in zip(names, row, strict=True) if not (sparse and v is None)}


def _frame(drawn: Drawn, folder: Path) -> Source:
    series = {"id": pd.Series(range(1, drawn.row_count + 1))}
    for column in drawn.columns:
        made = column.carrier.build(column.raw)
        series[column.name] = made if _is_frame(column) else pd.Series(made, dtype=object)
    return open_source(pd.DataFrame(series))


def _is_frame(column: Filled) -> bool:
    return column.carrier.family == "frame"


def _table(drawn: Drawn) -> pa.Table:
    arrays = {"id": pa.array(range(1, drawn.row_count + 1), pa.int32())}
    for column in drawn.columns:
        made = column.carrier.build(column.raw)
        arrays[column.name] = made if isinstance(made, pa.Array) else pa.array(made, pa.string())
    return pa.table(arrays)


def _arrow(drawn: Drawn, folder: Path) -> Source:
    return open_source(_table(drawn))


def _parquet(drawn: Drawn, folder: Path) -> Source:
    path = folder / "rows.parquet"
    pq.write_table(_table(drawn), path)
    return open_source(path)


def _csv(drawn: Drawn, folder: Path) -> Source:
    """Null is an empty field, the empty text a quoted one."""
    path = folder / "rows.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(",".join(_names(drawn)) + "\n")
        for row in _rows(drawn):
            file.write(",".join(map(_csv_field, row)) + "\n")
    return open_source(path)


def _csv_field(value: Any) -> str:
    return "" if value is None else '"' + str(value).replace('"', '""') + '"'


def _ndjson(drawn: Drawn, folder: Path) -> Source:
    """Carriers of the family "json" bring tokens, written as they are."""
    path = folder / "rows.ndjson"
    tokens = {c.name for c in drawn.columns if c.carrier.family == "json"}
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in _rows(drawn):
            record = _record(_names(drawn), row)
            parts = (
                f"{json.dumps(n)}: {v if n in tokens and v is not None else _json_text(v, row[0])}"
                for n, v in record.items()
            )
            file.write("{" + ", ".join(parts) + "}\n")
    return open_source(path)


def _json_text(value: Any, row: int) -> str:
    return json.dumps(value, ensure_ascii=bool(row % 3))


SOURCES = {
    kind.name: kind
    for kind in (
        SourceKind("tuples", ("text", "python"), _tuples),
        SourceKind("dicts", ("text", "python"), _dicts),
        SourceKind("DataFrame", ("text", "python", "frame"), _frame),
        SourceKind("Arrow", ("text", "arrow"), _arrow),
        SourceKind("Parquet", ("text", "arrow"), _parquet),
        SourceKind("CSV", ("text",), _csv),
        SourceKind("NDJSON", ("text", "json"), _ndjson),
    )
}

_COLUMNS = 6
_ROWS = 36


@st.composite
def loads(draw: st.DrawFn, source: SourceKind, kinds: Sequence[Kind] = KINDS) -> Drawn:
    """A load of a few columns; most rows have one value and nulls, so that no other column's
    refusal hides what becomes of it.
    """
    numbers = draw(
        st.lists(st.integers(0, len(kinds) - 1), min_size=1, max_size=_COLUMNS, unique=True)
    )
    carriers = []
    for number in numbers:
        fitting = [c for c in kinds[number].carriers if source.takes(c)]
        if fitting:
            carriers.append((number, draw(st.sampled_from(fitting))))
    row_count = draw(st.integers(1, _ROWS))
    values: list[list[Given | None]] = [[None] * row_count for _ in carriers]
    for row in range(row_count if carriers else 0):
        full = draw(st.integers(0, 7)) == 0
        for place, (_, carrier) in enumerate(carriers):
            if full or place == row % len(carriers):
                values[place][row] = source.seen(draw(carrier.given))
    columns = tuple(
        Filled(f"c{number}", kinds[number], carrier, held)
        for (number, carrier), held in zip(carriers, values, strict=True)
    )
    return Drawn(columns, row_count, draw(st.sampled_from([3, 10, 1000])))
