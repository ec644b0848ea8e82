"""Where the command line writes: results to standard output, all else to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)


def report_error(message: str) -> None:
    """One line on standard error."""
    err.print(f"[bold red]error:[/] {escape(message)}")


def warn(message: str) -> None:
    """One line on standard error."""
    err.print(f"[yellow]warning:[/] {escape(message)}")


def note(message: str) -> None:
    """One line on standard error."""
    err.print(f"[dim]note:[/] {escape(message)}")


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    out.print(json.dumps(value), markup=False)
