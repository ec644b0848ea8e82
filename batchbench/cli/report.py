"""batchbench report, batchbench plot"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.console import err, out
from batchbench.cli.files import write_whole
from batchbench.cli.gated import gate_note
from batchbench.cli.options import RoundTrips, at_round_trips, closed_loop, read_run, split_names
from batchbench.errors import ConfigError
from batchbench.report import all_lines, all_markdown, build_reports, page

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
    """Write one self-contained HTML page of a run, and print its three first lines; where it has
    several round trips, those of each.
    """
    stored = closed_loop(read_run(run))
    if rtt_ms is not None:
        stored = at_round_trips(stored, rtt_ms)
    reports = build_reports(stored, None if baseline is None else read_run(baseline), gate_note)
    write_whole(output, page(*reports))
    if as_markdown:
        out.print(all_markdown(reports), markup=False)
    else:
        for line in all_lines(reports):
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
    stored = at_round_trips(closed_loop(read_run(run)), rtt_ms)
    for path in save_figures(stored, output, formats or list(FORMATS[:2])):
        out.print(str(path), markup=False)
    return 0
