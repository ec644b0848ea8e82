"""Files that a command writes."""

from __future__ import annotations

from pathlib import Path

from batchbench.errors import ConfigError


def write_whole(path: Path, content: bytes | str) -> None:
    """Whole or not at all, text as UTF-8; its folder is made. Raises ConfigError."""
    draft = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error


def append(path: Path, content: bytes) -> None:
    """At the end of a file that others write to as well. Raises ConfigError."""
    try:
        with path.open("ab") as file:
            file.write(content)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
