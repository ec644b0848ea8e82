"""The commands, and what their errors become."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from batchbench import __version__
from batchbench.cli.console import report_error
from batchbench.config import without_passwords
from batchbench.engine import LoadError
from batchbench.errors import BatchbenchError

INTERRUPTED = 130
NOTHING_SENT = 2
STOPPED = 4


# Click's; typer brings a copy of Click of its own, or has it installed.
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])


class _Commands(TyperGroup):
    """The commands; what Click says of wrong usage repeats no password."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            vars(error)["message"] = without_passwords(str(error))
            raise


_COMMANDS = {
    "sweep": "sweep:sweep_command",
    "tune": "tune:tune_command",
    "load": "load:load_command",
    "loads": "loads:loads_command",
    "recommend": "recommend:recommend_command",
    "report": "report:report_command",
    "plot": "report:plot_command",
    "compare": "compare:compare_command",
    "gate": "gate:gate_command",
    "runs": "runs:runs_command",
    "export": "runs:export_command",
    "import-benchmark": "importing:import_command",
    "check": "check:check_command",
    "generate": "generate:generate_command",
}
"""name -> module:function"""


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The program for such a command line: the command that it begins with, or all of them. To
    import what the others need would take longer than a small load.
    """
    first = arguments[0] if arguments else ""
    return _app([first] if first in _COMMANDS else _COMMANDS)


def _app(names: Iterable[str]) -> typer.Typer:
    app = typer.Typer(
        name="batchbench",
        cls=_Commands,
        help="Load batches into PostgreSQL, and find by measurement the chunk size, parallelism,"
        " strategy and driver to load them with.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name in names:
        module, function = _COMMANDS[name].split(":")
        found = importlib.import_module(f"batchbench.cli.{module}")
        app.command(name)(_coded(getattr(found, function)))
    return app


def _coded(function: Callable[..., int]) -> Callable[..., None]:
    """What a command returns is the exit code, each of our errors is one message."""

    @functools.wraps(function)
    def coded(*arguments: Any, **options: Any) -> None:
        raise typer.Exit(_guarded(function, *arguments, **options))

    return coded


def _guarded(function: Callable[..., int], *arguments: Any, **options: Any) -> int:
    try:
        return function(*arguments, **options)
    except KeyboardInterrupt:
        report_error("interrupted")
        return INTERRUPTED
    except LoadError as error:
        report_error(str(error))
        return STOPPED
    except BatchbenchError as error:
        report_error(str(error))
        return NOTHING_SENT


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchbench {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the program itself."""
