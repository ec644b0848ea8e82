"""Where the command line writes: results to standard output, all else to standard error."""

from __future__ import annotations

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from batchbench.config import without_passwords

_PLAIN_WIDTH = 160  # of tables that go to a file or pipe


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, soft_wrap=True)
    return (
        console
        if console.is_terminal
        else Console(stderr=stderr, highlight=False, soft_wrap=True, width=_PLAIN_WIDTH)
    )


out = _console(stderr=False)
err = _console(stderr=True)


def figures_grid(title: str | None = None) -> Grid:
    """An empty table of figures, narrow enough for 80 columns."""
    return Grid(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        title_style="bold",
        padding=(0, 1, 0, 0),
    )


def _safe(message: str) -> str:
    """A message may repeat an argument that was a connection string in the wrong place."""
    return escape(without_passwords(message))


def report_error(message: str) -> None:
    """One line on standard error."""
    err.print(f"[bold red]error:[/] {_safe(message)}")


def warn(message: str) -> None:
    """One line on standard error."""
    err.print(f"[yellow]warning:[/] {_safe(message)}")


def note(message: str) -> None:
    """One line on standard error."""
    err.print(f"[dim]note:[/] {_safe(message)}")


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    out.print(json.dumps(value), markup=False)
