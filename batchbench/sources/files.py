"""Bytes of a file or of standard input, decompressed, with a look ahead."""

from __future__ import annotations

import codecs
import hashlib
import io
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa

from batchbench.errors import InputError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_FINGERPRINT_BYTES = 1 << 20


class OneWay:
    """What pyarrow asks of a file object that is read from its start to its end."""

    closed = False

    def readable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """False."""
        return False

    def close(self) -> None:
        """Nothing more is read."""
        self.closed = True


class ByteReader(OneWay):
    """The decompressed bytes of one stream, as a file object that pyarrow and ijson accept.

    Compression is told by the magic bytes, so a wrong name does no harm. `peek` looks ahead
    without consuming. encoding: of text, which is handed out as UTF-8; None: bytes as they are.
    Raises InputError where the data are damaged or cut off, or no text of that encoding.
    """

    def __init__(self, raw: BinaryIO, name: str, encoding: str | None = None) -> None:
        self.name = name
        self._raw = raw
        magic = raw.read(4)
        joined = _Joined(magic, raw)
        self.codec = codec_of(magic)
        self._stream: Any = joined
        if self.codec:
            self._stream = pa.CompressedInputStream(pa.PythonFile(joined, mode="r"), self.codec)
        self._ahead = bytearray()
        self._encoding = encoding or ""
        self._decoder = codecs.getincrementaldecoder(encoding)() if encoding else None
        self._line = 1

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer only at the end; they are read again by `read`."""
        while len(self._ahead) < size:
            more = self._read_stream(size - len(self._ahead))
            if not more:
                break
            self._ahead += more
        return bytes(self._ahead[:size])

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all that are left where negative); b"" only at the end."""
        if size is None or size < 0:
            parts = []
            while part := self.read(1 << 20):
                parts.append(part)
            return b"".join(parts)
        if self._ahead:
            taken = bytes(self._ahead[:size])
            del self._ahead[:size]
            return taken
        part = self._read_stream(size)
        self._ahead += part[size:]  # text can be longer in UTF-8
        return part[:size]

    def _read_stream(self, size: int) -> bytes:
        part = self._read_bytes(size)
        if self._decoder is None:
            return part
        text = self._decoded(part)
        while part and not text:  # half of a character
            part = self._read_bytes(size)
            text = self._decoded(part)
        return text.encode()

    def _decoded(self, part: bytes) -> str:
        if self._decoder is None:
            raise AssertionError("there is an encoding")
        try:
            text = self._decoder.decode(part, final=not part)
            text.encode()  # UTF-16 may hold half a surrogate pair
        except UnicodeError as error:
            if isinstance(error, UnicodeDecodeError):
                before = bytes(error.object[: error.start])
                self._line += before.decode(self._encoding, errors="replace").count("\n")
            raise InputError(  # from None: the error holds the text
                f"{self.name}, line {self._line:,}: is not {self._encoding} text; name its"
                " encoding with --encoding, or repair the line"
            ) from None
        self._line += text.count("\n")
        return text

    def _read_bytes(self, size: int) -> bytes:
        try:
            return bytes(self._stream.read(size))
        except OSError as error:
            what = f"its {self.codec} data are damaged or cut off" if self.codec else "read failed"
            raise InputError(f"{self.name}: {what}; get a complete copy of the file") from error

    def close(self) -> None:
        """Close the file under it (standard input stays open)."""
        self.closed = True
        if not _is_stdin(self._raw):
            self._raw.close()

    def __enter__(self) -> ByteReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _is_stdin(raw: BinaryIO) -> bool:
    try:
        return raw.fileno() == 0
    except (OSError, AttributeError, io.UnsupportedOperation):
        return False


class _Joined(OneWay):
    """Bytes already taken from a stream, then the rest of it."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head = head
        self._rest = rest

    def read(self, size: int = -1) -> bytes:
        if not self._head:
            return self._rest.read(size) or b""
        head, self._head = self._head, b""
        if 0 <= size < len(head):
            head, self._head = head[:size], head[size:]
            return head
        return head + (self._rest.read(size - len(head) if size >= 0 else size) or b"")


def codec_of(magic: bytes) -> str | None:
    """ "gzip" or "zstd" by the first bytes, None for neither."""
    if magic.startswith(GZIP_MAGIC):
        return "gzip"
    return "zstd" if magic.startswith(ZSTD_MAGIC) else None


class FileBytes:
    """A file on disk; it can be opened again and again."""

    one_shot = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        name: str | None = None,
        encoding: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.name = name or os.fspath(path)
        self._encoding = encoding

    def open(self) -> ByteReader:
        """Open it from the start. Raises InputError where it cannot be, or is empty."""
        reader = ByteReader(open_raw(self.path, self.name), self.name, self._encoding)
        return _not_empty(reader)

    def fingerprint(self) -> str:
        """Of its size, beginning and end. Raises InputError where it cannot be read."""
        with open_raw(self.path, self.name) as raw:
            size = os.fstat(raw.fileno()).st_size
            digest = hashlib.sha256(str(size).encode())
            digest.update(raw.read(_FINGERPRINT_BYTES))
            raw.seek(max(0, size - _FINGERPRINT_BYTES))
            digest.update(raw.read())
        return digest.hexdigest()

    def peek(self, size: int) -> bytes:
        """Its first `size` decompressed bytes."""
        with self.open() as reader:
            return reader.peek(size)


class StreamBytes:
    """Standard input or another open binary stream; it can be read once."""

    one_shot = True

    def __init__(self, raw: BinaryIO, name: str, encoding: str | None = None) -> None:
        self.name = name
        self._raw = raw
        self._encoding = encoding
        self._reader: ByteReader | None = None
        self._taken = False

    def open(self) -> ByteReader:
        """Take the stream. Raises InputError the second time, or where it is empty."""
        if self._taken:
            raise InputError(
                f"{self.name}: it was read already and cannot be read twice; save it to a file"
            )
        self._taken = True
        return self._ahead()

    def fingerprint(self) -> str:
        """None: a stream cannot be read again."""
        return ""

    def peek(self, size: int) -> bytes:
        """Its first `size` decompressed bytes; `open` still sees them."""
        return self._ahead().peek(size)

    def _ahead(self) -> ByteReader:
        if self._reader is None:
            self._reader = _not_empty(ByteReader(self._raw, self.name, self._encoding))
        return self._reader


Bytes = FileBytes | StreamBytes


def open_raw(path: Path, name: str) -> BinaryIO:
    """Open a file for reading. Raises InputError with a sentence where that fails."""
    try:
        if path.is_dir():
            raise InputError(f"{name}: is a directory; name the files in it")
        return path.open("rb")
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such file; check the path") from error
    except OSError as error:
        raise InputError(f"{name}: cannot be opened ({error.strerror}); check it") from error


def _not_empty(reader: ByteReader) -> ByteReader:
    try:
        if not reader.peek(1):
            raise InputError(
                f"{reader.name}: is empty, not even a header or one record is in it; "
                "check what should have written it"
            )
    except InputError:  # also where the first bytes cannot be decompressed
        reader.close()
        raise
    return reader
