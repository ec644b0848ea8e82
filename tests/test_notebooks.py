"""The notebooks: each runs from a clean kernel, draws, and is committed with what it drew."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from batchbench.config import child_environment

ROOT = Path(__file__).parents[1]
NOTEBOOKS = ROOT / "notebooks"
NAMES = (
    "01_choose_chunk_size",
    "02_strategies_and_drivers",
    "03_memory_and_parallelism",
    "04_regressions",
)
LARGEST_BYTES = 600_000
# Of a cell and of a start; a notebook takes a few seconds where nobody else is at work.
WAIT_S = 60


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


def figures(notebook: Any) -> int:
    return sum("image/png" in out.get("data", {}) for out in outputs(notebook))


def faults(notebook: Any) -> list[Any]:
    """Errors, and warnings that a reader would see."""
    return [
        out
        for out in outputs(notebook)
        if out.output_type == "error" or out.get("name") == "stderr"
    ]


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No settings, kernels or history of the user's own."""
    with tempfile.TemporaryDirectory(prefix="nb") as folder:
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
            monkeypatch.setenv(name, str(Path(folder) / name[-11:].lower()))
        yield Path(folder)


async def execute(notebook: Any) -> Any:
    """In a kernel of its own, with nothing of what was stored."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = NotebookClient(
        notebook,
        timeout=WAIT_S,
        startup_timeout=WAIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    return await client.async_execute(env=child_environment({"PYTHONPATH": str(ROOT)}))


def test_all_of_them_are_known() -> None:
    assert sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_stored_as_it_ran(name: str) -> None:
    stored = read(name)
    nbformat.validate(stored)
    counts = [cell.execution_count for cell in stored.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert not faults(stored)
    assert figures(stored)
    assert (NOTEBOOKS / f"{name}.ipynb").stat().st_size <= LARGEST_BYTES


@pytest.mark.parametrize("name", NAMES)
async def test_it_runs_from_a_clean_kernel(home: Path, name: str) -> None:
    stored = read(name)
    drawn = figures(stored)
    fresh = await execute(stored)
    assert not faults(fresh)
    assert figures(fresh) == drawn > 0


async def store() -> None:
    """All of them again with what they draw now: `make notebooks`."""
    for name in NAMES:
        fresh = await execute(read(name))
        for cell in fresh.cells:
            cell.metadata.pop("execution", None)
        fresh.metadata.language_info = {"name": "python"}
        nbformat.write(fresh, NOTEBOOKS / f"{name}.ipynb")


if __name__ == "__main__":
    asyncio.run(store())
