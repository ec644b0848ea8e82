"""batchbench generate"""

from __future__ import annotations

from typing import Annotated

import typer

from batchbench.cli.console import err
from batchbench.cli.options import profile_metrics
from batchbench.errors import ConfigError
from batchbench.profile import synthetic
from batchbench.sources import write_rows


def generate_command(
    profile: Annotated[
        str, typer.Option(help="heart_rate, blood_pressure, sleep, activity or workout.")
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help="FILE.parquet, .csv or .ndjson, also .gz or .zst; - is stdout."
        ),
    ],
    rows: Annotated[int, typer.Option(help="How many rows.", min=0)] = 10_000,
    file_format: Annotated[
        str | None,
        typer.Option("--format", help="parquet, csv or ndjson, where the name does not say."),
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.", min=0)] = 0,
    duplicates: Annotated[
        float, typer.Option(help="Share of rows that repeat an earlier key.", min=0, max=1)
    ] = 0.0,
    nulls: Annotated[
        float, typer.Option(help="Share of nulls in columns that may be null.", min=0, max=1)
    ] = 0.1,
) -> int:
    """Write synthetic health metrics to a file.

    Example: batchbench generate --profile heart_rate --rows 1000000 -o hr.parquet
    """
    metrics = profile_metrics(profile)
    if len(metrics) != 1:
        raise ConfigError(f"--profile takes one metric here, not {len(metrics)}")
    source = synthetic(metrics[0], rows, seed=seed, duplicates=duplicates, nulls=nulls)
    write_rows(source, output, file_format)
    err.print(f"wrote {rows:,} {metrics[0]} rows to {output}", markup=False)
    return 0
