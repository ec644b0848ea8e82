"""Into bytea, uuid, inet, cidr and macaddr."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from batchbench.casts.outcome import (
    CastOptions,
    Converted,
    Fault,
    Plan,
    UnfitError,
    byte_lengths,
    checked,
    each,
    each_distinct,
    exact,
    fixed_binary,
    patch,
    refuse,
    text_bytes,
    unchanged,
    valid_mask,
)
from batchbench.table import Column

_NO_DIGIT = 0xFF


def _hex_table() -> NDArray[np.uint8]:
    table = np.full(256, _NO_DIGIT, np.uint8)
    for digit in range(16):
        table[ord(f"{digit:x}")] = table[ord(f"{digit:X}")] = digit
    return table


_NIBBLE = _hex_table()

# ------------------------------------------------------------------ uuid

_UUID_BYTES = 16
# Where the two digits of each byte stand in the text, by the text's length.
_BARE = np.arange(0, 32, 2)
_HYPHENATED = np.array([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34])
_HYPHENS = [8, 13, 18, 23]
# Length of the text -> where its bytes are, where its other characters are, and which.
_UUID_FORMS: dict[int, tuple[NDArray[np.intp], list[int], bytes]] = {
    36: (_HYPHENATED, _HYPHENS, b"----"),
    32: (_BARE, [], b""),
    38: (_HYPHENATED + 1, [0, *(place + 1 for place in _HYPHENS), 37], b"{----}"),
}
_UUID = re.compile(r"[0-9a-f]{4}(?:-?[0-9a-f]{4}){7}", re.I | re.ASCII)


def uuid_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    def kernel(values: pa.Array) -> Converted:
        lengths = byte_lengths(values)
        found = np.zeros((len(values), _UUID_BYTES), np.uint8)
        odd = valid_mask(values)
        for length, form in _UUID_FORMS.items():
            rows = np.flatnonzero(lengths == length)
            if len(rows):
                texts = values if len(rows) == len(values) else values.take(pa.array(rows))
                found[rows], odd[rows] = _hex_rows(text_bytes(texts).reshape(-1, length), *form)
        done = Converted(fixed_binary(found, valid_mask(values)))
        return patch(done, odd, values, each(_uuid, pa.binary(_UUID_BYTES)))

    return checked(kernel)


def _hex_rows(
    characters: NDArray[np.uint8], places: NDArray[np.intp], marks: list[int], expected: bytes
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Bytes of texts of one length, and which texts are no such hex."""
    digits = _NIBBLE[characters]
    high, low = digits[:, places], digits[:, places + 1]
    odd = ((high | low) == _NO_DIGIT).any(axis=1)
    for place, mark in zip(marks, expected, strict=True):
        odd |= characters[:, place] != mark
    return _joined(high, low), odd


def _joined(high: NDArray[np.uint8], low: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pairs of nibbles as bytes; no matter what where a nibble is `_NO_DIGIT`."""
    joined: NDArray[np.uint8] = np.bitwise_or(high << np.uint8(4), low & np.uint8(0xF))
    return joined


def _uuid(text: str) -> bytes:
    """The spellings of uuid_in: braces around, a hyphen after any four digits."""
    inner = text[1:-1] if text[:1] == "{" and text[-1:] == "}" else text
    if _UUID.fullmatch(inner) is None:
        raise UnfitError("22P02", "not a UUID")
    return bytes.fromhex(inner.replace("-", ""))


def uuid_from_binary(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    reason = "a UUID has 16 bytes"
    if pa.types.is_fixed_size_binary(source):
        if source.byte_width != _UUID_BYTES:
            refuse(source, column, f"{reason}; give 16 bytes or the UUID's text")
        return exact(unchanged)

    def kernel(values: pa.Array) -> Converted:
        raw = values.cast(pa.large_binary())
        wrong = valid_mask(raw) & (byte_lengths(raw) != _UUID_BYTES)
        usable = pc.if_else(pa.array(wrong), pa.scalar(None, raw.type), raw)
        faults = [Fault(row, "22P03", reason) for row in np.flatnonzero(wrong).tolist()]
        return Converted(usable.cast(pa.binary(_UUID_BYTES)), tuple(faults))

    return checked(kernel)


# ------------------------------------------------------------------ bytea


def bytea_from_binary(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    if source in (pa.binary(), pa.large_binary()):
        return exact(unchanged)
    return exact(lambda values: Converted(values.cast(pa.binary())))


_ESCAPE = re.compile(rb"\\(\\|[0-3][0-7]{2})|\\")


def bytea_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """PostgreSQL's two text formats of bytea: hex after \\x, else escaped. Source: byteain."""
    target = pa.large_binary() if pa.types.is_large_string(source) else pa.binary()

    def kernel(values: pa.Array) -> Converted:
        hexadecimal = _hex_values(values, target)
        if hexadecimal is not None:
            return Converted(hexadecimal)
        odd = (text_bytes(values) == ord("\\")).any() or (text_bytes(values) == 0).any()
        done = Converted(values.cast(target))
        if not odd:
            return done
        special = pc.fill_null(pc.match_substring_regex(values, r"[\\\x00]"), False)
        mask = special.to_numpy(zero_copy_only=False)
        return patch(done, mask, values, each(_bytea, target))

    return checked(kernel)


def _hex_values(values: pa.Array, target: pa.DataType) -> pa.Array | None:
    """All values by the hex format at once; None where any has another spelling."""
    if not pc.all(pc.fill_null(pc.starts_with(values, "\\x"), True)).as_py():
        return None
    texts = pc.fill_null(values, "\\x") if values.null_count else values
    lengths = byte_lengths(texts)
    starts = np.cumsum(lengths) - lengths
    characters = text_bytes(texts)
    is_digit = np.ones(len(characters), np.bool_)
    is_digit[starts] = is_digit[starts + 1] = False
    nibbles = _NIBBLE[characters[is_digit]]
    if bool((lengths % 2).any()) or bool((nibbles == _NO_DIGIT).any()):
        return None
    data = _joined(nibbles[0::2], nibbles[1::2])
    width = np.int64 if pa.types.is_large_binary(target) else np.int32
    offsets = np.concatenate(([0], np.cumsum(lengths // 2 - 1))).astype(width)
    bitmap = pa.py_buffer(np.packbits(valid_mask(values), bitorder="little"))
    buffers = [bitmap, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(target, len(values), buffers)


def _bytea(text: str) -> bytes:
    if "\0" in text:
        raise UnfitError("22021", "has a NUL character")
    if text.startswith("\\x"):
        try:
            if "\v" in text or "\f" in text:  # blanks to Python, not to hex_decode
                raise ValueError("blank")
            return bytes.fromhex(text[2:])
        except ValueError as error:
            raise UnfitError("22P02", "not pairs of hexadecimal digits") from error
    return _ESCAPE.sub(_unescaped, text.encode())


def _unescaped(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code is None:
        raise UnfitError(
            "22P02", "a backslash must be followed by a backslash or three octal digits"
        )
    return code if code == b"\\" else bytes([int(code, 8)])


# ------------------------------------------------------------------ network addresses

_FAMILY = {4: 2, 6: 3}  # PGSQL_AF_INET, PGSQL_AF_INET6
_PREFIX = re.compile(r"0|[1-9]\d{0,2}", re.ASCII)


def inet_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    """Full addresses, with or without /bits. Not the short 10/8 of PostgreSQL."""
    network = column.type.kind == "cidr"
    return checked(each_distinct(lambda text: inet_bytes(text, network), pa.binary()))


def inet_bytes(text: str, network: bool) -> bytes:
    """The wire form: family, bits, is_cidr, address length, address. Source: network_send."""
    address_text, slash, bits_text = text.partition("/")
    address = _address(address_text)
    bits = address.max_prefixlen
    if slash:
        if _PREFIX.fullmatch(bits_text) is None or int(bits_text) > bits:
            raise UnfitError("22P02", f"the bits after the slash must be 0 to {bits}")
        bits = int(bits_text)
    if network and int(address) & ((1 << (address.max_prefixlen - bits)) - 1):
        raise UnfitError("22P02", "has bits set to the right of the mask")
    head = bytes([_FAMILY[address.version], bits, network, len(address.packed)])
    return head + bytes(address.packed)


def _address(text: str) -> Any:
    try:
        if "%" in text:
            raise ValueError("zone")
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise UnfitError("22P02", "not a full IPv4 or IPv6 address") from error


_MACADDR_FORMS = (
    re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}", re.I | re.ASCII),
    re.compile(r"([0-9a-f]{2}-){5}[0-9a-f]{2}", re.I | re.ASCII),
    re.compile(r"[0-9a-f]{6}[:-]?[0-9a-f]{6}", re.I | re.ASCII),
    re.compile(r"[0-9a-f]{4}([.-])[0-9a-f]{4}\1[0-9a-f]{4}", re.I | re.ASCII),
)


def macaddr_from_text(source: pa.DataType, column: Column, options: CastOptions) -> Plan:
    return checked(each_distinct(macaddr_bytes, pa.binary(6)))


def macaddr_bytes(text: str) -> bytes:
    """Six bytes, from the spellings with two-digit bytes that macaddr_in takes."""
    text = text.strip()
    if not any(form.fullmatch(text) for form in _MACADDR_FORMS):
        raise UnfitError("22P02", "not a MAC address")
    return bytes.fromhex(re.sub("[:.-]", "", text))
