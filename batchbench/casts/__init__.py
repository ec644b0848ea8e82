"""Casts: one table, source Arrow type x column type -> exact, checked or refused.

A cast turns a source's Arrow array into the column's canonical array, from which `wire` frames
PostgreSQL's binary. Nothing is altered in silence: a value is converted exactly, or its row is
a fault, or the pair of types is refused before the first row.

| kind of the column's type | canonical Arrow type |
|---|---|
| bool | bool |
| int2, int4, int8, oid | int16, int32, int64, uint32 |
| float4, float8 | float32, float64 |
| numeric | decimal128(38, s), s the display scale of all; or string: plain decimal text |
| text, varchar, bpchar, name, xml, json, jsonb, enum | string or large_string |
| bytea | binary or large_binary |
| uuid, interval, macaddr | fixed_size_binary of 16, 16 and 6: the wire form |
| inet, cidr | binary: the wire form |
| date | int32: days since 2000-01-01; the ends are -infinity and infinity |
| time | int64: microseconds since midnight |
| timestamp, timestamptz | int64: microseconds since 2000-01-01 (UTC); the ends as for date |
| array | list of the element's canonical type, one dimension |
| input (all other types) | string or large_string: what the type's input function reads |
"""

from batchbench.casts.compile import Cast, compile_cast
from batchbench.casts.outcome import CastOptions, Converted, Exactness, Fault

__all__ = ["Cast", "CastOptions", "Converted", "Exactness", "Fault", "compile_cast"]
