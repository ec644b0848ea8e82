"""Halves of surrogate pairs in JSON, which ijson makes ? of without an error: they are marked
before it reads them, so that they can be refused with their row.
"""

from __future__ import annotations

import re

from batchbench.sources.files import ByteReader, OneWay

# An escape in JSON text: a whole surrogate pair, half of one, or any other.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_ESCAPE_BYTES = 12
_MORE_BYTES = 4_096
_MARKED = re.compile("\0\ue000([0-9a-fA-F]{4})")


def unmarked(text: str) -> str:
    """The text as the JSON has it, with halves of surrogate pairs as Python has them."""
    return _MARKED.sub(lambda found: chr(int(found[1], 16)), text)


class HalfPairs(OneWay):
    """Passes JSON on with each half of a surrogate pair marked. seen: whether there was any."""

    def __init__(self, reader: ByteReader) -> None:
        self._reader = reader
        self.seen = False

    def read(self, size: int = -1) -> bytes:
        part = self._reader.read(size)
        if b"\\ud" not in part and b"\\uD" not in part and b"\\" not in part[-_ESCAPE_BYTES:]:
            return part
        while b"\\" in part[-_ESCAPE_BYTES:] and (more := self._reader.read(_MORE_BYTES)):
            part += more  # no escape is cut in two
        return _ESCAPE.sub(self._marked, part)

    def _marked(self, found: re.Match[bytes]) -> bytes:
        if found[1] is None:
            return found[0]
        self.seen = True
        return rb"\u0000\ue000" + found[1]
