"""What the docs tell people to paste: it parses, and names commands and options that exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.fixtures.commands import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
REUSABLE = ROOT / ".github" / "workflows" / "batchbench-gate.yml"
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```", re.S | re.M)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for _, of, text in BLOCK.findall(page.read_text()):
            if of == language:
                yield page.name, text


def commands() -> Iterator[tuple[str, str]]:
    """Every batchbench command of a console, of a YAML block and of a workflow, and where it is."""
    texts = [*blocks("console"), *blocks("yaml")]
    texts += [(path.name, path.read_text()) for path in WORKFLOWS]
    for place, text in texts:
        joined = text.replace("\\\n", " ")
        for line in joined.splitlines():
            found = re.match(r"\s*(?:\$ |- run: |run: |- )?(batchbench [a-z].*)", line)
            if found:
                yield place, found[1].split(" || ")[0].split(" | ")[0].split("  #")[0]


@pytest.mark.parametrize(("place", "text"), [*blocks("yaml")])
def test_yaml_of_the_docs_is_yaml(place: str, text: str) -> None:
    assert isinstance(yaml.safe_load(text), dict)


@pytest.mark.parametrize(("place", "command"), [*commands()])
def test_commands_of_the_docs_exist(place: str, command: str) -> None:
    """Parsed by the command line itself, which is not run; $VARIABLES stand for a value each."""
    known: Any = typer.main.get_command(app)
    plain = re.sub(r"\$\{BASELINE.*?\}", "", command)
    name, *words = shlex.split(plain.replace("$SWEEP", "").replace("...", ""), comments=True)[1:]
    with known.commands[name].make_context(name, words, resilient_parsing=False):
        pass


def test_there_are_commands_to_hold() -> None:
    assert {"gates.md", "tutorial.md", REUSABLE.name} <= {place for place, _ in commands()}


def test_the_workflow_is_called_with_inputs_that_it_has() -> None:
    workflow = yaml.safe_load(REUSABLE.read_text())
    inputs = workflow[True]["workflow_call"]["inputs"]  # YAML 1.1 reads "on" as true
    callers = [yaml.safe_load(path.read_text()) for path in WORKFLOWS if path != REUSABLE]
    callers += [yaml.safe_load(text) for _, text in blocks("yaml") if REUSABLE.name in text]
    used = [job["with"] for one in callers for job in one["jobs"].values() if "uses" in job]
    assert len(used) == 2
    for given in used:
        assert given.keys() <= inputs.keys()


def test_inputs_reach_no_shell_as_text() -> None:
    """What a caller gives is a variable's value there, never a part of a script."""
    steps = yaml.safe_load(REUSABLE.read_text())["jobs"]["gate"]["steps"]
    assert not [step for step in steps if "${{" in step.get("run", "")]
