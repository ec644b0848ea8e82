"""Rows -> Parquet, CSV or NDJSON files, in whole columns.

Forms: uuid (also 16 bytes of fixed width) as text; timestamps as PostgreSQL prints them
(2025-01-01 00:00:00.123456+00); floats by their shortest digits, with .0 where whole; null as an
empty CSV field or JSON's null.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batchbench.errors import InputError
from batchbench.sources.source import Source

ROW_GROUP_ROWS = 65_536
WRITTEN_FORMATS = ("parquet", "csv", "ndjson")
_BATCH_BYTES = 64 << 20
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_HEX = np.frombuffer(b"".join(b"%02x" % byte for byte in range(256)), np.uint8).reshape(256, 2)
_UUID_DIGITS = [*range(8), *range(9, 13), *range(14, 18), *range(19, 23), *range(24, 36)]


def write_rows(source: Source, path: str | os.PathLike[str], format: str | None = None) -> int:  # noqa: A002
    """Write all rows of a source of one table; return how many.

    path: "-" is standard output; an ending .gz or .zst compresses CSV and NDJSON. The file
        appears under its name only when it is whole; an older file of that name is replaced.
    format: one of WRITTEN_FORMATS; None: told by the name's ending.
    Raises InputError on another format, on a type that the format cannot hold, and where the
    file cannot be written.
    """
    target = os.fspath(path)
    kind, codec = _kind_and_codec(target, format)
    schema = source.schema()
    if schema is None:
        raise InputError(f"{source.name}: feeds several tables; write them one by one")
    with _output(target) as file:
        if kind == "parquet":
            return _write_parquet(source, schema, file)
        if codec is None:
            return _write_lines(source, schema, file, kind)
        with closing(_compressed(file, codec)) as stream:
            return _write_lines(source, schema, stream, kind)


def _compressed(file: BinaryIO, codec: str) -> Any:
    if codec == "gzip":  # not pyarrow's, whose level 9 takes eight times as long
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0)
    return pa.CompressedOutputStream(file, codec)


def _kind_and_codec(target: str, wanted: str | None) -> tuple[str, str | None]:
    name = Path(target)
    codec = _CODECS.get(name.suffix.lower())
    suffix = (Path(name.stem) if codec else name).suffix.lower().lstrip(".")
    kind = wanted or {"jsonl": "ndjson", "pq": "parquet"}.get(suffix, suffix)
    if kind not in WRITTEN_FORMATS:
        raise InputError(
            f"{target}: no format to write; end the name in .parquet, .csv or .ndjson, or give "
            f"one of {', '.join(WRITTEN_FORMATS)}"
        )
    if kind == "parquet" and codec is not None:
        raise InputError(f"{target}: Parquet compresses its own columns; leave the ending off")
    return kind, codec


@contextmanager
def _output(target: str) -> Iterator[BinaryIO]:
    if target == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        file = part.open("wb")
    except OSError as error:
        raise InputError(
            f"{target}: cannot be written ({error.strerror}); check the folder"
        ) from error
    try:
        with file:
            yield file
        part.replace(path)
    except OSError as error:
        raise InputError(f"{target}: cannot be written ({error.strerror})") from error
    finally:
        part.unlink(missing_ok=True)


def _write_parquet(source: Source, schema: pa.Schema, file: BinaryIO) -> int:
    rows = 0
    written = pa.schema([_as_uuid_text(field) for field in schema])
    sink = pa.PythonFile(file, mode="w")
    with pq.ParquetWriter(sink, written, compression="zstd") as writer:
        for batch in source.batches(ROW_GROUP_ROWS, _BATCH_BYTES):
            arrays = [_without_raw_uuid(values) for values in batch.columns.columns]
            columns = pa.RecordBatch.from_arrays(arrays, names=batch.columns.schema.names)
            writer.write_batch(columns.cast(written), row_group_size=ROW_GROUP_ROWS)
            rows += batch.row_count
    return rows


def _write_lines(source: Source, schema: pa.Schema, stream: Any, kind: str) -> int:
    rows = 0
    if kind == "csv":
        header = ",".join(_csv_text(pa.array(schema.names)).to_pylist())
        stream.write(header.encode() + b"\n")
    lines = _csv_lines if kind == "csv" else _json_lines
    for batch in source.batches(ROW_GROUP_ROWS, _BATCH_BYTES):
        if kind == "csv" and batch.columns.schema.names != schema.names:
            raise InputError(
                f"{batch.location}: has columns that the first rows did not have, too late for "
                "the CSV header; write NDJSON"
            )
        stream.write(_bytes_of(lines(batch.columns)))
        rows += batch.row_count
    return rows


def _csv_lines(columns: pa.RecordBatch) -> pa.Array:
    fields = [
        _text_of(name, values, _csv_text)
        for name, values in zip(columns.schema.names, columns.columns, strict=True)
    ]
    return pc.binary_join_element_wise(*fields, ",", null_handling="replace", null_replacement="")


def _json_lines(columns: pa.RecordBatch) -> pa.Array:
    members: list[Any] = []
    for name, values in zip(columns.schema.names, columns.columns, strict=True):
        text = _text_of(name, values, _json_text)
        if pa.types.is_floating(values.type) and pc.any(pc.invert(pc.is_finite(values))).as_py():
            raise InputError(f"column {name!r} has NaN or infinity, which JSON lacks; write CSV")
        if not _is_json_ready(values.type):
            text = _quoted(text)
        lead = ("," if members else "{") + json.dumps(name, ensure_ascii=False) + ":"
        members += [lead, pc.fill_null(text, "null")]
    return pc.binary_join_element_wise(*members, "}", "")


def _is_json_ready(kind: pa.DataType) -> bool:
    """Whether `_text_of` gives the value as JSON has it (text is quoted by `_json_text`)."""
    types = pa.types
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    text = types.is_string(kind) or types.is_large_string(kind) or _is_uuid(kind)
    return bool(number or text or types.is_boolean(kind))


def _quoted(text: pa.Array) -> pa.Array:
    return pc.binary_join_element_wise('"', text, '"', "")


def _text_of(name: str, values: pa.Array, of_text: Callable[[pa.Array], pa.Array]) -> pa.Array:
    values = _without_raw_uuid(values)
    kind = values.type
    types = pa.types
    if types.is_string(kind) or types.is_large_string(kind):
        return of_text(values.cast(pa.string()))
    if types.is_floating(kind):
        text = values.cast(pa.string())
        whole = pc.match_substring_regex(text, "^-?[0-9]+$")
        return pc.if_else(whole, pc.binary_join_element_wise(text, ".0", ""), text)
    if types.is_timestamp(kind):
        text = values.cast(pa.timestamp(kind.unit)).cast(pa.string())
        return text if kind.tz is None else pc.binary_join_element_wise(text, "+00", "")
    plain = types.is_integer(kind) or types.is_boolean(kind) or types.is_decimal(kind)
    if plain or types.is_date(kind) or types.is_time(kind) or types.is_null(kind):
        return values.cast(pa.string())
    raise InputError(f"column {name!r}: a {kind} has no form in CSV or NDJSON; write Parquet")


def _csv_text(text: pa.Array) -> pa.Array:
    # an empty string is quoted: unquoted it would be null
    special = pc.match_substring_regex(text, '[",\r\n]|^$')
    if not pc.any(special).as_py():
        return text
    return pc.if_else(special, _quoted(pc.replace_substring(text, '"', '""')), text)


def _json_text(text: pa.Array) -> pa.Array:
    special = pc.match_substring_regex(text, '["\\\\\\x00-\\x1f]')
    if not pc.any(special).as_py():
        return _quoted(text)
    written = [None if v is None else json.dumps(v, ensure_ascii=False) for v in text.to_pylist()]
    return pa.array(written, pa.string())


def _as_uuid_text(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.string()) if _is_uuid(field.type) else field


def _is_uuid(kind: pa.DataType) -> bool:
    return bool(kind == pa.uuid() or kind == pa.binary(16))


def _without_raw_uuid(values: pa.Array) -> pa.Array:
    if not _is_uuid(values.type):
        return values
    return uuid_text(values.storage if values.type == pa.uuid() else values)


def uuid_text(values: pa.Array) -> pa.Array:
    """16 raw bytes each -> the 36 characters that PostgreSQL prints."""
    count = len(values)
    raw = np.frombuffer(values.buffers()[1], np.uint8)[values.offset * 16 :][: count * 16]
    text = np.full((count, 36), ord("-"), np.uint8)
    text[:, _UUID_DIGITS] = _HEX[raw].reshape(count, 32)
    offsets = np.arange(count + 1, dtype=np.int32) * 36
    strings = pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text))
    return pc.if_else(values.is_null(), None, strings) if values.null_count else strings


def _bytes_of(lines: pa.Array) -> memoryview:
    ended = pc.binary_join_element_wise(lines, "", "\n")
    offsets = np.frombuffer(ended.buffers()[1], np.int32)
    start, stop = offsets[ended.offset], offsets[ended.offset + len(ended)]
    return memoryview(ended.buffers()[2])[start:stop]
