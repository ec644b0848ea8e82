"""batchbench report, batchbench plot"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.console import err, out, warn
from batchbench.cli.options import split_names
from batchbench.errors import ConfigError
from batchbench.report import build_report, markdown, page, plain_lines, write_page
from batchbench.results import load_run

RunFolder = Annotated[Path, typer.Argument(help="The folder of a sweep's run.", metavar="RUN")]


def report_command(
    run: RunFolder,
    baseline: Annotated[
        Path | None, typer.Option(help="The folder of an earlier run to hold it against.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The page; it is replaced.")
    ] = Path("report.html"),
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the first lines as Markdown.")
    ] = False,
) -> int:
    """Write one self-contained HTML page of a run, and print its three first lines."""
    stored = load_run(run)
    report = build_report(stored, load_run(baseline) if baseline is not None else None)
    for warning in stored.warnings:
        warn(warning)
    write_page(page(report), output)
    if as_markdown:
        out.print(markdown(report.first), markup=False)
    else:
        for line in plain_lines(report.first):
            out.print(line, markup=False)
    err.print(f"wrote {output}", markup=False)
    return 0


def plot_command(
    run: RunFolder,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the images; files are replaced.")
    ],
    image_format: Annotated[
        str, typer.Option("--format", help="With commas: png, svg, pdf.")
    ] = "png,svg",
) -> int:
    """Draw a run's main charts as images."""
    from batchbench.plot import FORMATS, save_figures  # matplotlib takes a second to import

    formats = split_names(image_format)
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--format takes {', '.join(FORMATS)}, not {name!r}")
    for path in save_figures(load_run(run), output, formats or list(FORMATS[:2])):
        out.print(str(path), markup=False)
    return 0
