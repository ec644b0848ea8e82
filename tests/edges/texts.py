"""Column types of text, bytes, booleans, UUIDs, labels and network addresses, and their edges."""

from __future__ import annotations

import ipaddress
import uuid
from typing import Any

import pandas as pd
import pyarrow as pa
from hypothesis import strategies as st

from tests.edges.given import (
    Carrier,
    Given,
    Kind,
    arrow,
    frame,
    late,
    literal,
    python,
    texts,
    words,
)
from tests.edges.given import json_tokens as token
from tests.edges.numbers import NUMBERS_AS_TEXT

_CHARACTERS = st.characters(codec="utf-8")
_PIECES = (
    st.sampled_from(
        [
            "",
            "a",
            "😀",
            "👩‍👩‍👧‍👦",
            "e\u0301",
            "\u0301",
            "\u202e",
            "\ufeff",
            "\u0000",
            "\x7f",
            "\u0085",
        ]
    )
    | st.sampled_from(
        ["\r\n", "\n", "\r", "\t", '"', "'", ",", "\\", "\\.", "\\N", "NULL", "null", " ", "\u00a0"]
    )
    | st.sampled_from(
        ["\uffff", "\U0010ffff", "\u2028", "ß", "İ", "{}", "$1", "%s", "--", ";", "nan", "\x1a"]
    )
)
_SHORT = st.lists(_PIECES, max_size=5).map("".join)
TEXTS = st.text(_CHARACTERS, max_size=12) | _SHORT | late(lambda: ["x" * 100_000, "é" * 3000])


def _said(text: str) -> Given:
    return Given(text, text)


def _for_char(text: str, length: int) -> Given:
    """The server drops blanks at the end; refusing them is fine."""
    overlong = len(text) > length and len(text.rstrip(" ")) <= length
    return Given(text, text, fate="free" if overlong else "held")


def _categories(values: list[Any]) -> pd.Series:
    """Named, since pandas takes the categories of nulls alone for floats."""
    categories = sorted({v for v in values if v is not None} | {"other"})
    return pd.Series(pd.Categorical(values, categories))


_TEXT_SOURCES = (
    Carrier("str", "text", TEXTS.map(_said)),
    arrow(pa.large_string(), TEXTS.map(_said)),
    arrow(pa.string_view(), TEXTS.map(_said)),
    arrow(pa.dictionary(pa.int16(), pa.string()), TEXTS.map(_said)),
    frame("string", TEXTS.map(_said)),
    Carrier("category", "frame", TEXTS.map(_said), _categories),
)
_CHARS = (
    TEXTS | st.text("ab😀 ", max_size=5) | st.sampled_from(["abc", "abcd", "ab ", "abc ", "ééé"])
)
_SAID = _CHARS.map(_said)
_NAMES = literal("x" * 63, "x" * 64, "é" * 31, "é" * 32)
TEXT_KINDS = (
    Kind("text", "text", (*_TEXT_SOURCES, *NUMBERS_AS_TEXT)),
    Kind("varchar(3)", "text", (texts(_SAID), arrow(pa.large_string(), _SAID))),
    Kind("varchar", "varchar", _TEXT_SOURCES),
    Kind("char(3)", "bpchar", (texts(_CHARS.map(lambda t: _for_char(t, 3))),)),
    Kind("name", "text", (texts(TEXTS.map(_said), _NAMES),)),
    Kind("short", "text", (texts(_SAID),)),
)

# ------------------------------------------------------------------ bool

_BOOLS = st.booleans().map(lambda b: Given(b, "true" if b else "false"))
BOOL = Kind(
    "bool",
    "bool",
    (
        texts(
            literal(*words("t f true false TRUE False tr fa yes no y n on off of 1 0 T F")),
            literal(" true", "false ", "\ttrue\n", "", "o", "2", "truee", "-1", "ja", "null", "01"),
        ),
        python("bool", _BOOLS),
        arrow(pa.bool_(), _BOOLS),
        frame("boolean", _BOOLS),
        token("bool", st.booleans().map(lambda b: Given("true" if b else "false", str(b)))),
    ),
)

# ------------------------------------------------------------------ uuid

_UUIDS = st.uuids() | st.sampled_from([uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)])
_UUID_TEXT = _UUIDS.flatmap(
    lambda u: st.sampled_from(
        words(f"{u} {str(u).upper()} {u.hex} {{{u}}} {{{u.hex}}} {_quads(u)} {{{_quads(u)}}}")
        + words(f"{u}0 {{{u} {u}}} {u.urn} {u.hex}- -{u.hex} ({u}) x {str(u).replace('-', '_')}")
        + [f" {u}", f"{u} ", str(u)[:-1], str(u)[:-1] + "g", u.hex[:2] + "-" + u.hex[2:]]
        + [f"{{ {u} }}", u.hex[:4] + "--" + u.hex[4:], "", u.hex[:-1] + "１"]
    )
)


def _quads(value: uuid.UUID) -> str:
    return "-".join(value.hex[i : i + 4] for i in range(0, 32, 4))


def _bytes(length: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=length, max_size=length)


def _from_bytes(raw: bytes) -> Given:
    return Given(raw, raw.hex(), fate="held" if len(raw) == 16 else "refused")


def _uuid_array(values: list[Any]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))


_SIXTEEN = _bytes(16).map(_from_bytes)
_ANY_BYTES = st.one_of([_bytes(n) for n in (0, 15, 16, 16, 17, 32)]).map(_from_bytes)
UUID = Kind(
    "uuid",
    "uuid",
    (
        texts(_UUID_TEXT.map(_said)),
        python("UUID", _UUIDS.map(lambda u: Given(u, str(u)))),
        python("bytes", _ANY_BYTES),
        arrow(pa.binary(16), _SIXTEEN),
        arrow(pa.binary(), _ANY_BYTES),
        Carrier("uuid", "arrow", _SIXTEEN, _uuid_array),
    ),
)

# ------------------------------------------------------------------ bytea

_BYTES = (
    st.binary(max_size=20)
    | st.sampled_from([b"", b"\0", b"\\x00"])
    | late(lambda: [b"\xff" * 70_000])
)
_RAW = _BYTES.map(lambda raw: Given(raw, "\\x" + raw.hex()))
BYTEA = Kind(
    "bytea",
    "bytea",
    (
        texts(
            _BYTES.map(lambda raw: _said("\\x" + raw.hex())),
            literal(
                "", "abc", "a\\\\b", "a\\001b", "é😀", "\\x", "\\x0", "\\xZZ", "\\X00", "\\xABcd",
                "a\0b",
                "\\", "\\9", "\\400", "\\377", "\\08", "\\x00\\x00", " \\x00", "\\1", "\\000",
                "a\\", "\n",
            ),
            literal("\\x00 ff", "\\x00\nff", "\\x 00", "\\x00 ", "\\x0 0", "\\x00\v01", "\\x\f00",
                fate="free"),
        ),
        python("bytes", _RAW),
        arrow(pa.binary(), _RAW),
        arrow(pa.large_binary(), _RAW),
        arrow(pa.binary_view(), _RAW),
        arrow(pa.binary(3), _bytes(3).map(lambda r: Given(r, "\\x" + r.hex()))),
        arrow(pa.dictionary(pa.int8(), pa.binary()), _RAW),
    ),
)  # fmt: skip

# ------------------------------------------------------------------ labels and addresses

LABELS = ("sad", "happy", "so, so", 'the "q"', "😀", "{}", "a\\b", " ", "NULL", "x" * 63, "")
ENUM_SQL = ", ".join("'" + label.replace("'", "''") + "'" for label in LABELS)
_LABELLED = st.sampled_from([*LABELS, "Sad", "sad ", " sad", "x" * 64, "sa", "sad\0", "x" * 62])
ENUM = Kind(
    "mood",
    "mood",
    (
        texts(_LABELLED.map(_said)),
        arrow(pa.dictionary(pa.int8(), pa.string()), _LABELLED.map(_said)),
        Carrier("category", "frame", _LABELLED.map(_said), _categories),
    ),
)

_IPS = st.ip_addresses()
_INET_TEXT = st.builds(
    lambda ip, bits: f"{ip}{bits}",
    _IPS,
    st.sampled_from(["", "/0", "/8", "/24", "/32", "/33", "/128", "/129", "/-1", "/", "/ 8"]),
) | st.sampled_from(
    words(":: ::/0 0.0.0.0/0 255.255.255.255 ::ffff:1.2.3.4 ::ffff:1.2.3.4/96 1.2.3.4.5 256.0.0.1")
    + words("x fe80::1%eth0 1:2:3:4:5:6:7:8 1::2::3 2001:DB8::/32 10.0.0.0/8 ::1/08 ::1")
    + [""]
)
_ODD_INETS = literal(
    "10/8", "10.1", "192.168/16", "001.002.003.004", "1.2.3.4/08", " 1.2.3.4", "1.2.3.4 ",
    "::1.2.3.4",
    "1.2.3.4/255.255.255.0", "10.0.0.1/032", "0x10.1.2.3", "192.168.1/24", "::1/ 1",
    "1:2:3:4:5:6:1.2.3.4",
    fate="free",
)  # fmt: skip
_MACS = st.binary(min_size=6, max_size=6).flatmap(
    lambda raw: st.sampled_from(
        [raw.hex(mark) for mark in ":-"]
        + [raw.hex(), raw.hex(":").upper(), f"{raw.hex()[:6]}:{raw.hex()[6:]}"]
        + [f"{raw.hex()[:6]}-{raw.hex()[6:]}", ".".join(raw.hex()[i : i + 4] for i in (0, 4, 8))]
        + ["-".join(raw.hex()[i : i + 4] for i in (0, 4, 8)), f" {raw.hex(':')} "]
        + [raw.hex(":") + ":00", raw.hex("."), "", "x", raw.hex(":") + "g"]
    )
)
_ODD_MACS = literal(
    "8:0:2b:1:2:3", "08:0:2b:01:02:03", "08002b01020", "8:00:2b:01:02:0", fate="free"
)
_ADDRESSES = _IPS | st.builds(
    lambda ip, bits: ipaddress.ip_interface(f"{ip}/{bits}"), _IPS, st.integers(0, 32)
)
ADDRESS_KINDS = (
    Kind(
        "inet",
        "inet",
        (
            texts(_INET_TEXT.map(_said), _ODD_INETS),
            python("address", _ADDRESSES.map(lambda a: Given(a, str(a)))),
        ),
    ),
    Kind("cidr", "cidr", (texts(_INET_TEXT.map(_said), _ODD_INETS),)),
    Kind(
        "macaddr",
        "macaddr",
        (texts(_MACS.map(_said), _ODD_MACS),),
    ),
)
