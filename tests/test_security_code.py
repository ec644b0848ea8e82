"""No name that breaks out of its quotes, no code that comes from data."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import batchbench
from tests.fixtures.loading import COMBINATIONS, execute, load_rows, numbered, query

PACKAGE = Path(batchbench.__file__).parent

NAMES = [
    '"; drop table x; --',
    "a.b.c",
    "with ' and \\ and \" and %s and $1",
    "crème brûlée 🍮",
    "x" * 63,
    "\U0001f512" * 15,  # 60 bytes
    "tab\tand\nnewline",
    "SELECT",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("strategy", "driver"), COMBINATIONS)
async def test_names_stay_in_their_quotes(
    dsn18: str, strategy: str, driver: str, name: str
) -> None:
    """Of a table, its schema, its column and its key; `standard_conforming_strings` or not."""
    quoted = '"' + name.replace('"', '""') + '"'
    execute(
        dsn18,
        f"CREATE TABLE x (id int); CREATE SCHEMA {quoted};"
        f" CREATE TABLE {quoted}.{quoted} (id int4, {quoted} text UNIQUE);"
        " DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET standard_conforming_strings = off',"
        " current_database()); END $$",
    )
    rows = numbered(20).rename_columns(["id", name])
    result = await load_rows(
        dsn18,
        rows,
        f"{quoted}.{quoted}",
        strategy=strategy,
        driver=driver,
        chunk_size=10,
        ledger_schema=name,
        exactly_once="ledger",
    )
    assert result.total.committed == 20
    assert query(dsn18, f"SELECT count(DISTINCT {quoted}) FROM {quoted}.{quoted}") == [(20,)]
    assert query(dsn18, "SELECT count(*) FROM x") == [(0,)]


def test_no_code_comes_from_data() -> None:
    """No pickle and the like, no eval, no shell."""
    modules = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "jsonpickle"}
    calls = {"eval", "exec", "compile", "system", "popen"}
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name in modules]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module] if node.module in modules else []
            elif isinstance(node, ast.Call):
                called = node.func
                if isinstance(called, ast.Name) and called.id in calls:
                    names = [called.id]
                elif isinstance(called, ast.Attribute) and called.attr in ("system", "popen"):
                    names = [called.attr]
                names += [k.arg for k in node.keywords if k.arg == "shell"]
            found += [f"{path.relative_to(PACKAGE)}: {name}" for name in names]
    assert found == []
