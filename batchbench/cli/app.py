"""The commands, and what their errors become."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from batchbench import __version__
from batchbench.cli.check import check_command
from batchbench.cli.compare import compare_command
from batchbench.cli.console import report_error
from batchbench.cli.gate import gate_command
from batchbench.cli.generate import generate_command
from batchbench.cli.importing import import_command
from batchbench.cli.load import load_command
from batchbench.cli.loads import loads_command
from batchbench.cli.recommend import recommend_command
from batchbench.cli.report import plot_command, report_command
from batchbench.cli.runs import export_command, runs_command
from batchbench.cli.sweep import sweep_command
from batchbench.cli.tune import tune_command
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


def _command(name: str, function: Callable[..., int]) -> None:
    """Register a command: what it returns is the exit code, each of our errors is one message."""

    @functools.wraps(function)
    def coded(*arguments: Any, **options: Any) -> None:
        raise typer.Exit(_guarded(function, *arguments, **options))

    app.command(name)(coded)


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


_command("sweep", sweep_command)
_command("tune", tune_command)
_command("load", load_command)
_command("loads", loads_command)
_command("recommend", recommend_command)
_command("report", report_command)
_command("plot", plot_command)
_command("compare", compare_command)
_command("gate", gate_command)
_command("runs", runs_command)
_command("export", export_command)
_command("import-benchmark", import_command)
_command("check", check_command)
_command("generate", generate_command)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"batchbench {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the program itself."""
