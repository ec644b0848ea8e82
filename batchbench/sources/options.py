"""How a source is to be read: what its own bytes do not say."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from batchbench.errors import ConfigError

Missing = Literal["null", "default", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """Options of a source; one that a format has no use for is refused when it is opened.

    delimiter: of CSV, one ASCII character; None: a tab for .tsv, else a comma.
    quote: of CSV, one ASCII character; "": no field is quoted.
    null_string: of CSV, what an unquoted field that is null says.
    encoding: of CSV, a name that Python knows.
    missing: what a key is that a dict or JSON object has not: "null"; "default", for which the
        column's DEFAULT stays in force; or "error", which rejects the row.
    columns: source name -> column. A name with dots, payload.device.name, is a path into objects
        where no column has that very name; an object that a path leads into is no column itself,
        unless it is named too.
    Raises ConfigError where an option cannot work.
    """

    delimiter: str | None = None
    quote: str = '"'
    null_string: str = ""
    encoding: str = "utf-8"
    missing: Missing = "null"
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.delimiter is not None and not _is_character(self.delimiter):
            raise ConfigError(f"delimiter {self.delimiter!r}: it must be one ASCII character")
        if self.quote and not _is_character(self.quote):
            raise ConfigError(f"quote {self.quote!r}: it must be one ASCII character, or empty")
        if self.quote and self.quote == self.delimiter:
            raise ConfigError(f"quote and delimiter are both {self.quote!r}; they must differ")
        if self.missing not in ("null", "default", "error"):
            raise ConfigError(f"missing {self.missing!r} is unknown; known: null, default, error")
        self._check_encoding()
        self._check_columns()

    def _check_encoding(self) -> None:
        try:
            "".encode(self.encoding)  # not so with codecs of bytes, such as hex
            object.__setattr__(self, "encoding", codecs.lookup(self.encoding).name)
        except LookupError:
            raise ConfigError(
                f"encoding {self.encoding!r} is unknown; name one such as latin-1, cp1252, utf-16"
            ) from None

    def _check_columns(self) -> None:
        seen: dict[str, str] = {}
        for source, column in self.columns.items():
            if not column or not all(source.split(".")):
                raise ConfigError(
                    f"map {source}={column}: neither name may be empty, nor a part of a path"
                )
            if column in seen:
                raise ConfigError(
                    f"column {column!r} is mapped twice, from {seen[column]!r} and {source!r}"
                )
            seen[column] = source

    @property
    def of_csv(self) -> tuple[str, ...]:
        """The options in use that only CSV has."""
        plain = SourceOptions()
        names = ("delimiter", "quote", "null_string", "encoding")
        return tuple(name for name in names if getattr(self, name) != getattr(plain, name))


def _is_character(text: str) -> bool:
    return len(text) == 1 and text.isascii() and text not in "\r\n\0"
