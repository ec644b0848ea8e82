"""What a user allows to be altered: NaN read as null, NUL characters taken out. Counted always."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchbench.casts import Fault

NAN_AS_NULL = "NaN read as null"
NUL_STRIPPED = "texts with NUL characters stripped"

_DATA_EXCEPTION = "22000"


@dataclass(frozen=True, slots=True)
class Policies:
    """nan: "nan" keeps it, "null" makes it null, "error" rejects the row. nul: NUL characters,
    which no PostgreSQL text can hold: "reject" the row, or "strip" them.
    """

    nan: Literal["nan", "null", "error"] = "nan"
    nul: Literal["reject", "strip"] = "reject"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A column after its policies: values, rows that are refused, and how often what was done."""

    values: pa.Array
    faults: tuple[Fault, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def apply(policies: Policies, values: pa.Array) -> Allowed:
    """Apply what concerns a column of this type; all others stay as they are."""
    if pa.types.is_floating(values.type) and policies.nan != "nan":
        return _nan(policies, values)
    if policies.nul == "strip" and _is_text(values.type):
        return _nul(values)
    return Allowed(values)


def _nan(policies: Policies, values: pa.Array) -> Allowed:
    found = pc.fill_null(pc.is_nan(values), False)
    count = found.true_count
    if not count:
        return Allowed(values)
    if policies.nan == "null":
        cleared = pc.if_else(found, pa.scalar(None, values.type), values)
        return Allowed(cleared, counts={NAN_AS_NULL: count})
    rows = np.flatnonzero(found.to_numpy(zero_copy_only=False)).tolist()
    return Allowed(
        values, tuple(Fault(row, _DATA_EXCEPTION, "is NaN (--nan error)") for row in rows)
    )


def _nul(values: pa.Array) -> Allowed:
    count = pc.fill_null(pc.match_substring(values, "\0"), False).true_count
    if not count:
        return Allowed(values)
    return Allowed(pc.replace_substring(values, "\0", ""), counts={NUL_STRIPPED: count})


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
