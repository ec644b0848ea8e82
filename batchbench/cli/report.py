"""batchbench report, batchbench plot"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.console import err, out, warn
from batchbench.cli.files import write_whole
from batchbench.cli.gated import gate_note
from batchbench.cli.options import RoundTrips, at_round_trips, closed_loop, split_names
from batchbench.errors import ConfigError
from batchbench.report import build_report, markdown, page, plain_lines
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
    rtt_ms: RoundTrips = None,
    as_markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the first lines as Markdown.")
    ] = False,
) -> int:
    """Write one self-contained HTML page of a run, and print its three first lines."""
    stored = at_round_trips(closed_loop(load_run(run)), rtt_ms)
    before = None if baseline is None else at_round_trips(load_run(baseline), stored.rtts_ms[0])
    report = build_report(stored, before, gate_note(stored, before))
    for warning in stored.warnings:
        warn(warning)
    write_whole(output, page(report))
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
    rtt_ms: RoundTrips = None,
) -> int:
    """Draw a run's main charts as images."""
    from batchbench.plot import FORMATS, save_figures  # matplotlib takes a second to import

    formats = split_names(image_format)
    for name in formats:
        if name not in FORMATS:
            raise ConfigError(f"--format takes {', '.join(FORMATS)}, not {name!r}")
    stored = at_round_trips(closed_loop(load_run(run)), rtt_ms)
    for path in save_figures(stored, output, formats or list(FORMATS[:2])):
        out.print(str(path), markup=False)
    return 0
