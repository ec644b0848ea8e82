"""The shape of the house: a module imports only from lower floors (design.md)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "batchbench"
FLOORS = [
    {"errors", "limits", "stats"},
    {"config", "table", "casts", "batch", "memory", "accounting", "events", "results"},
    {"retry", "monitoring", "profile", "wire", "sources", "drivers", "ddl"},
    {"strategies", "ledger", "deadletter", "preflight"},
    {"engine"},
    {"writer", "servers"},
    {"sync", "harness"},
    {"recommend", "compare"},
    {"gate", "report"},  # build on what those say
    {"plot"},
    {"adapters"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
LINES_AT_MOST = 500

# Floor 1 is read in this order too: a later one may import an earlier one.
ORDER_IN_FLOOR_1 = ["batch", "accounting", "events", "table", "casts"]


def part_of(path: Path) -> str:
    """The top-level module a file belongs to: batchbench/wire/fields.py -> wire."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = {name.split(".")[1] for name in names if name.startswith("batchbench.")}
    return parts & set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_only_from_lower_floors(path: Path) -> None:
    own = part_of(path)
    assert own in FLOOR_OF, f"{own} has no floor: give it one in this test and in the docs"
    for other in imported_parts(path) - {own}:
        if FLOOR_OF[other] == FLOOR_OF[own] == 1:
            order = ORDER_IN_FLOOR_1
            assert order.index(other) < order.index(own), f"{own} imports {other}"
        elif {own, other} == {"profile", "sources"}:
            assert own == "profile", "sources must not know the profile"
        elif {own, other} == {"drivers", "sources"} or own == other:
            pytest.fail(f"{own} imports {other}")
        else:
            assert FLOOR_OF[other] < FLOOR_OF[own], f"{own} imports {other}"


def test_judges_know_only_records() -> None:
    for path in MODULES:
        if part_of(path) in FLOORS[7] | FLOORS[8] | FLOORS[9]:
            assert not imported_parts(path) & {"engine", "drivers", "harness"}, path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_stay_small(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_AT_MOST


def test_only_config_reads_the_environment() -> None:
    for path in MODULES:
        if part_of(path) == "config":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv"):
                pytest.fail(f"{path.name}:{node.lineno} reads the environment")
