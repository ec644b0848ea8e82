"""Sources of rows: Python rows, DataFrames, Arrow data, files, health payloads."""

from batchbench.sources.health import HealthOptions
from batchbench.sources.inference import infer_types
from batchbench.sources.opening import FORMATS, open_source, open_sources
from batchbench.sources.options import Missing, SourceOptions
from batchbench.sources.source import RowSource, SchemaKind, Source
from batchbench.sources.writing import write_rows

__all__ = [
    "FORMATS",
    "HealthOptions",
    "Missing",
    "RowSource",
    "SchemaKind",
    "Source",
    "SourceOptions",
    "infer_types",
    "open_source",
    "open_sources",
    "write_rows",
]
