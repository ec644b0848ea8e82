"""batchbench check"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from batchbench.cli.console import figures_grid, note, out, print_json, warn
from batchbench.cli.measured import slower_than_measured
from batchbench.cli.options import (
    AsJson,
    DataDir,
    Dsn,
    EnvFile,
    ServerSpec,
    profile_metrics,
    read_settings,
    server_of_the_user,
)
from batchbench.cli.running import run_async
from batchbench.config import ChunkSetting, Settings
from batchbench.drivers import Session, connect, read_table
from batchbench.engine.plan import DEFAULT_DRIVER
from batchbench.errors import ConfigError, TableError
from batchbench.limits import ParameterUse
from batchbench.preflight import (
    ChunkVerdict,
    SequenceLeft,
    chunk_verdict,
    sequence_notices,
    sequences_left,
    table_notices,
)
from batchbench.profile import PROFILES
from batchbench.strategies import find_strategy
from batchbench.table import TableName, parse_table_name

FAILED = 1


@dataclass(frozen=True, slots=True)
class _Checked:
    """What there is to say of one table."""

    verdict: ChunkVerdict
    sequences: list[SequenceLeft]


def check_command(
    table: Annotated[
        list[str] | None,
        typer.Option(help="A table to check, table or schema.table; may be repeated."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Metrics whose tables to check, with commas. Default: all five."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            help="A run to hold the values against. Default: the newest below results/ that"
            " measured one of the tables."
        ),
    ] = None,
    dsn: Dsn = None,
    server: ServerSpec = None,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
    as_json: AsJson = False,
) -> int:
    """Hold the configured BATCH_* values against live tables, driver limits and what was measured.

    Where a run has measured that they are slower than what it recommends, a warning says so.

    Exit code 1 where the configured strategy and driver could not send a configured chunk in one
    statement. Where no strategy is configured, VALUES is meant. Also says what is left of the
    sequences of int columns: a row that ON CONFLICT leaves out takes a number too.
    """
    if table and profile is not None:
        raise ConfigError("--table and --profile exclude each other: give one of them")
    settings = read_settings(env_file)
    names = [parse_table_name(text) for text in table or []]
    with server_of_the_user(dsn, server, data_dir) as opened:
        if names:
            checked = run_async(_tables(opened.dsn, names, settings))
        else:
            checked = run_async(_profile(opened.dsn, profile_metrics(profile), settings))
    variables = {one.verdict.setting.variable for one in checked}
    slower = slower_than_measured(run, settings, variables)
    for text in slower.values():
        warn(text)
    if as_json:
        print_json(
            [
                _as_dict(one) | {"measured": slower.get(one.verdict.setting.variable)}
                for one in checked
            ]
        )
    else:
        _show(checked)
    return FAILED if any(one.verdict.over for one in checked) else 0


def _verdict(
    table: str, column_count: int, setting: ChunkSetting, settings: Settings
) -> ChunkVerdict:
    def use_of(strategy: str) -> ParameterUse:
        return find_strategy(strategy).use(column_count)

    return chunk_verdict(table, column_count, setting, settings, use_of)


async def _tables(dsn: str, names: list[TableName], settings: Settings) -> list[_Checked]:
    session = await connect(DEFAULT_DRIVER, dsn)
    try:
        return [
            await _checked(session, name, settings.chunk_setting(str(name)), settings)
            for name in names
        ]
    finally:
        await session.close()


async def _checked(
    session: Session, name: TableName, setting: ChunkSetting, settings: Settings
) -> _Checked:
    """By the columns that data usually bring; what will bite is said on the way."""
    table = await read_table(session, name)
    sequences = await sequences_left(session, table)
    for text in table_notices(table) + sequence_notices(table, sequences):
        note(text)
    verdict = _verdict(str(name), len(table.inserted_by_default), setting, settings)
    return _Checked(verdict, sequences)


async def _profile(dsn: str, metrics: list[str], settings: Settings) -> list[_Checked]:
    """The profile's tables as they are on the server; as the profile has them where missing."""
    session = await connect(DEFAULT_DRIVER, dsn)
    checked, missing = [], []
    try:
        for metric in metrics:
            profile, setting = PROFILES[metric], settings.chunk_setting(metric)
            name = profile.table_name
            try:
                checked.append(await _checked(session, TableName(name), setting, settings))
            except TableError:
                verdict = _verdict(name, len(profile.arrow_schema), setting, settings)
                checked.append(_Checked(verdict, []))
                missing.append(name)
    finally:
        await session.close()
    if missing:
        note(f"not on the server, checked as the profile has them: {', '.join(missing)}")
    return checked


def _show(checked: list[_Checked]) -> None:
    verdicts = [one.verdict for one in checked]
    drivers = list(verdicts[0].limits)
    grid = figures_grid()
    grid.add_column("table")
    for title in ("columns", "chunk", "parameters", *(f"max {name}" for name in drivers)):
        grid.add_column(title, justify="right")
    grid.add_column("verdict")
    for verdict in verdicts:
        grid.add_row(
            verdict.table,
            str(verdict.column_count),
            "auto" if verdict.setting.adapts else f"{verdict.setting.value:,}",
            f"{verdict.parameters:,}",
            *(f"{verdict.largest[name]:,}" for name in drivers),
            "[red]over the limit[/]" if verdict.over else "[green]ok[/]",
        )
    out.print(grid)
    for one in checked:
        verdict = one.verdict
        origin = verdict.setting.origin
        out.print(
            f"{verdict.table}: {verdict.setting.variable}={verdict.setting.text} ({origin}):"
            f" {verdict.sentence}",
            markup=False,
        )
        for sequence in one.sequences:
            out.print(f"{verdict.table}, {sequence}", markup=False)


def _as_dict(checked: _Checked) -> dict[str, object]:
    verdict = checked.verdict
    return {
        "table": verdict.table,
        "columns": verdict.column_count,
        "variable": verdict.setting.variable,
        "chunk_size": "auto" if verdict.setting.adapts else verdict.setting.value,
        "origin": verdict.setting.origin,
        "strategy": verdict.strategy,
        "driver": verdict.driver,
        "parameters": verdict.parameters,
        "limits": dict(verdict.limits),
        "largest_chunk": dict(verdict.largest),
        "over": verdict.over,
        "verdict": verdict.sentence,
        "sequences": [asdict(sequence) for sequence in checked.sequences],
    }
