"""From what a caller has (a path, a frame, rows) to a `Source`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, cast

import ijson
import pyarrow as pa

from batchbench.errors import InputError
from batchbench.sources.chain import ChainedSources
from batchbench.sources.delimited import DelimitedSource
from batchbench.sources.files import Bytes, FileBytes, StreamBytes, open_raw
from batchbench.sources.health import HealthOptions, HealthSource
from batchbench.sources.json_array import JsonArraySource
from batchbench.sources.mapping import MappedSource
from batchbench.sources.ndjson import NdjsonSource
from batchbench.sources.options import SourceOptions
from batchbench.sources.parquet import PARQUET_MAGIC, ParquetSource
from batchbench.sources.rows import ArrowSource, FrameSource, PythonSource
from batchbench.sources.source import Source

FORMATS = ("parquet", "csv", "ndjson", "json", "health")
"""What `format` may be; "json" is an array of objects."""

STDIN_NAME = "<stdin>"
_SNIFFED_BYTES = 64 << 10
_BY_SUFFIX = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
}


def open_sources(
    data: Sequence[Any],
    *,
    format: str | None = None,  # noqa: A002 - the word the command line uses
    options: SourceOptions | None = None,
    health: HealthOptions | None = None,
) -> Source:
    """Open one or several things as one source; see `open_source`."""
    sources = [open_source(one, format=format, options=options, health=health) for one in data]
    return sources[0] if len(sources) == 1 else ChainedSources(sources)


def open_source(
    data: Any,
    *,
    format: str | None = None,  # noqa: A002
    columns: Sequence[str] | None = None,
    options: SourceOptions | None = None,
    health: HealthOptions | None = None,
    name: str | None = None,
) -> Source:
    """Make a source of a path ("-" is standard input), a binary stream, a DataFrame, Arrow data,
    or an iterable of dicts or tuples.

    format: one of FORMATS; None: told by the name's ending, else by the first bytes.
    columns: names for tuples. options: what the data do not say of themselves.
    health: what a health payload needs; name: for messages about data in memory.
    Raises InputError where the file is missing, empty, a directory or of no known format, and
    where an option is not for its format.
    """
    chosen = options or SourceOptions()
    if isinstance(data, (str, os.PathLike)):
        source = _open_path(os.fspath(data), format, chosen, health)
    elif hasattr(data, "read"):
        raw = cast(BinaryIO, data)
        source = _open_stream(raw, name or "stream", format, chosen, health)
    else:
        source = _open_memory(data, columns, name, chosen)
        _hold_format(source, None, chosen)
    return MappedSource(source, chosen.columns) if chosen.columns else source


def _hold_format(source: Source, found: str | None, options: SourceOptions) -> None:
    """Refuse options of CSV for anything else."""
    if found != "csv" and options.of_csv:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in options.of_csv)
        raise InputError(
            f"{source.name}: {named} is for CSV, which this is not; leave it out, or give the"
            " right --format"
        )


def _open_memory(
    data: Any, columns: Sequence[str] | None, name: str | None, options: SourceOptions
) -> Source:
    pandas = sys.modules.get("pandas")  # a DataFrame cannot exist before pandas is imported
    if pandas is not None and isinstance(data, pandas.DataFrame):
        return FrameSource(data, name or "DataFrame")
    if isinstance(data, (pa.Table, pa.RecordBatch, pa.RecordBatchReader)) or hasattr(
        data, "__arrow_c_stream__"
    ):
        return ArrowSource(data, name or "Arrow data")
    if isinstance(data, Iterable) and not isinstance(data, (bytes, bytearray)):
        return PythonSource(data, columns, name or "rows", options)
    raise InputError(
        f"a {type(data).__name__} is no source of rows; give a path, a DataFrame, Arrow data, or "
        "an iterable of dicts or tuples"
    )


def _stdin() -> BinaryIO:
    """Standard input, read apart from Python's own object: an interpreter cannot end while a thread
    blocks in that.
    """
    if sys.stdin is not sys.__stdin__:  # somebody put another in its place
        return sys.stdin.buffer
    return open(0, "rb", closefd=False)


def _open_path(
    path: str,
    format: str | None,  # noqa: A002
    options: SourceOptions,
    health: HealthOptions | None,
) -> Source:
    if path == "-":
        return _open_stream(_stdin(), STDIN_NAME, format, options, health)
    suffixes = [suffix.lower() for suffix in PurePath(path).suffixes]
    if suffixes and suffixes[-1] in (".gz", ".zst", ".zstd", ".gzip"):
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix == ".tsv" and format in (None, "csv") and options.delimiter is None:
        options = replace(options, delimiter="\t")
    place, encoding = Path(path), _encoding(options)
    data: Bytes = FileBytes(path, encoding=encoding)
    if place.exists() and not (place.is_file() or place.is_dir()):
        # A pipe, also of the shell's <(...): what was read of it is not there a second time.
        data = StreamBytes(open_raw(place, path), path, encoding)
    return _open_bytes(data, format or _BY_SUFFIX.get(suffix), options, health)


def _open_stream(
    raw: BinaryIO,
    name: str,
    format: str | None,  # noqa: A002
    options: SourceOptions,
    health: HealthOptions | None,
) -> Source:
    return _open_bytes(StreamBytes(raw, name, _encoding(options)), format, options, health)


def _encoding(options: SourceOptions) -> str | None:
    """None: UTF-8, which is read as it is."""
    return options.encoding if "encoding" in options.of_csv else None


def _open_bytes(
    data: Bytes,
    format: str | None,  # noqa: A002
    options: SourceOptions,
    health: HealthOptions | None,
) -> Source:
    if format is not None and format not in FORMATS:
        raise InputError(
            f"{data.name}: {format!r} is no known format; known are {', '.join(FORMATS)}"
        )
    head = data.peek(_SNIFFED_BYTES)  # also reports a missing, empty or unreadable file
    found = format or sniff(head)
    source = _open_format(data, found, options, health)
    _hold_format(source, found, options)
    return source


def _open_format(
    data: Bytes, found: str | None, options: SourceOptions, health: HealthOptions | None
) -> Source:
    if found == "parquet":
        return _open_parquet(data)
    if found == "csv":
        return DelimitedSource(data, options)
    if found == "ndjson":
        return NdjsonSource(data, options)
    if found == "json":
        return JsonArraySource(data, options)
    if found == "health":
        return _open_health(data, health)
    raise InputError(
        f"{data.name}: its format cannot be told from its name or first bytes; say which with "
        f"--format ({', '.join(FORMATS)})"
    )


def _open_parquet(data: Bytes) -> Source:
    if isinstance(data, FileBytes):
        return ParquetSource(data)
    raise InputError(
        f"{data.name}: Parquet keeps its index at the end and cannot be read from a stream; save "
        "it to a file and name that"
    )


def _open_health(data: Bytes, options: HealthOptions | None) -> Source:
    if options is None:
        raise InputError(
            f"{data.name}: is a health payload, which feeds several tables; say which columns "
            "they have (health=HealthOptions(...))"
        )
    return HealthSource(data, options)


def sniff(head: bytes) -> str | None:
    """Tell a format by the first decompressed bytes; None where they tell nothing.

    JSON: an array is "json"; an object is "health" where its "data" has metrics or workouts,
    else "ndjson". Text whose first line has a comma is "csv".
    """
    if head.startswith(PARQUET_MAGIC):
        return "parquet"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"["):
        return "json"
    if text.startswith(b"{"):
        return "health" if _is_health(text) else "ndjson"
    first_line = text.split(b"\n", 1)[0]
    return "csv" if b"," in first_line and b"\0" not in first_line else None


def _is_health(head: bytes) -> bool:
    in_data = False
    depth = 0
    try:
        for event, value in ijson.basic_parse(head, multiple_values=True):
            if event in ("start_map", "start_array"):
                depth += 1
            elif event in ("end_map", "end_array"):
                depth -= 1
                if depth == 0:
                    return False  # the first object is whole, and without a word of ours
            elif event == "map_key" and depth == 1:
                in_data = value == "data"
            elif event == "map_key" and depth == 2 and in_data and value in _HEALTH_KEYS:
                return True
    except (ijson.JSONError, UnicodeDecodeError):
        pass  # the head stops in the middle of a value, as heads do
    return in_data and b"\n" in head.rstrip()


_HEALTH_KEYS = ("metrics", "workouts")
