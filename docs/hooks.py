"""What the documentation takes from the code, so that it cannot differ from it."""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter

from batchbench.config import Settings
from batchbench.errors import failure_table
from batchbench.monitoring import METRICS
from batchbench.results import RunInfo, TrialRecord


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill in the tables that a page asks for."""
    for marker, made in (
        ("<!-- settings -->", settings_table),
        ("<!-- metrics -->", metrics_table),
        ("<!-- failures -->", failures_table),
        ("<!-- trial schema -->", lambda: _schema(TrialRecord)),
        ("<!-- run schema -->", lambda: _schema(RunInfo)),
    ):
        if marker in markdown:
            markdown = markdown.replace(marker, made())
    return markdown


def settings_table() -> str:
    """Every variable, its default and what it may be."""
    rows = ["| variable | default | allowed |", "|---|---|---|"]
    for name, value, _ in Settings().values():
        field = Settings.model_fields.get(name.removeprefix("BATCH_").lower())
        allowed = [str(m) for m in field.metadata] if field is not None else []
        limits = ", ".join(text for text in allowed if text.startswith(("Ge", "Le", "Gt", "Lt")))
        shown = "auto" if value is None else str(value).lower()
        rows.append(f"| `{name}` | {shown} | {_words(limits)} |")
    return "\n".join(rows)


def _words(limits: str) -> str:
    for code, word in (("Ge(ge=", "from "), ("Le(le=", "to "), (")", "")):
        limits = limits.replace(code, word)
    return limits


def failures_table() -> str:
    """Which SQLSTATE belongs to which class of failure."""
    rows = ["| class | SQLSTATEs and others | what a load does |", "|---|---|---|"]
    rows += [f"| {name} | {states} | {does} |" for name, states, does in failure_table()]
    return "\n".join(rows)


def metrics_table() -> str:
    """Every metric, its kind and labels, under the name that Prometheus has."""
    rows = ["| metric | kind | labels | what it is |", "|---|---|---|---|"]
    rows += [
        f"| `{m.prometheus_name}` | {m.kind} | {', '.join(m.labels)} | {m.text} |" for m in METRICS
    ]
    return "\n".join(rows)


def _schema(kind: type[Any]) -> str:
    schema = TypeAdapter(kind).json_schema()
    return f"```json\n{json.dumps(schema, indent=2)}\n```"
