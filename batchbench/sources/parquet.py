"""Parquet files, read a piece of a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.files import FileBytes, codec_of, open_raw
from batchbench.sources.source import OneTable, located, unique_names

PARQUET_MAGIC = b"PAR1"
READ_ROWS = 65_536

# Not memory-mapped: mapped pages count as ours and grow with the file. Buffered, so that a
# column of a large row group is not read whole.
_BUFFER_BYTES = 1 << 20


class ParquetSource(OneTable):
    """One Parquet file on disk."""

    def __init__(self, data: FileBytes) -> None:
        self._data = data
        self.name = data.name

    def schema(self) -> pa.Schema:
        """Columns as the file declares them. Raises InputError where it is no Parquet file."""
        with self._open() as file:
            schema = file.schema_arrow.remove_metadata()
        unique_names(schema.names, self.name)
        return schema

    def fingerprint(self) -> str:
        """Of the file's bytes."""
        return self._data.fingerprint()

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        return located(self._pieces(max_rows), self.name, max_rows, max_bytes)

    def _pieces(self, max_rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.schema()
        rows_read = 0
        with self._open() as file:
            pieces = file.iter_batches(batch_size=min(max_rows, READ_ROWS), use_threads=False)
            while True:
                try:
                    piece = next(pieces, None)
                except (pa.ArrowException, OSError) as error:
                    raise InputError(
                        f"{self.name}: cannot be read on after row {rows_read:,}, its data are "
                        "damaged or cut off; get a complete copy of the file"
                    ) from error
                if piece is None:
                    return
                rows_read += piece.num_rows
                yield piece.replace_schema_metadata(None).cast(schema)

    def _open(self) -> Any:
        with open_raw(self._data.path, self.name) as raw:
            magic = raw.read(4)
        if not magic:
            raise InputError(f"{self.name}: is empty, not a Parquet file; get a complete copy")
        if codec := codec_of(magic):
            raise InputError(
                f"{self.name}: is a {codec} file, and Parquet cannot be read through it; "
                "decompress it first (Parquet compresses its own columns)"
            )
        try:
            return pq.ParquetFile(
                self._data.path, memory_map=False, pre_buffer=False, buffer_size=_BUFFER_BYTES
            )
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{self.name}: is no complete Parquet file, its footer is missing or damaged; "
                "get a complete copy of the file"
            ) from error
