"""Programs beside Python: psql and pgloader. Their start is part of their time."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from batchbench.config import child_environment
from batchbench.drivers.address import parameters
from batchbench.servers import embedded_installation
from benchmarks.data import Data
from benchmarks.tables import BenchTable

_LIMIT_S = 600


def psql_copy(dsn: str, table: BenchTable, data: Data) -> None:
    r"""\copy FROM a CSV file."""
    command = (
        rf"\copy {table.sql} ({table.columns_sql}) FROM '{data.path}' WITH (FORMAT csv, HEADER)"
    )
    psql = str(embedded_installation().bin_dir / "psql")
    _run([psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", dsn, "-c", command])


def pgloader(dsn: str, table: BenchTable, data: Data) -> None:
    """LOAD CSV, by a command file."""
    fields = ", ".join(
        f"{column.name} [null if blanks]" if column.nullable else column.name
        for column in table.columns
    )
    known = parameters(dsn)
    to = f"pgsql://{known['user']}@unix:{known['host']}:{known['port']}/{known['dbname']}"
    text = (
        f"LOAD CSV FROM '{data.path}' ({fields})\n"
        f"INTO {to} TARGET TABLE public.{table.name} ({', '.join(table.column_names)})\n"
        "WITH skip header = 1, fields optionally enclosed by '\"',"
        " fields escaped by double-quote, fields terminated by ',';\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        command_file = Path(folder) / "load"
        command_file.write_text(text, encoding="utf-8")
        _run(["pgloader", "--root-dir", folder, "--on-error-stop", str(command_file)])


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
        env=child_environment(without=("PG",)),
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-400:]}")
