"""The three first lines as plain text and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from batchbench.report.model import FirstLines, Report, Status

_PLAIN = {"good": "ok", "bad": "NO", "unknown": "??"}
_MARKS = {"good": "✅", "bad": "❌", "unknown": "❔"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


def plain_lines(first: FirstLines) -> tuple[str, str, str]:
    """One line each, for a terminal."""
    return (
        _plain(first.passed.status, first.passed.question, first.passed.answer),
        _plain(first.change.status, first.change.question, first.change.answer),
        _plain(first.trust.status, first.trust.question, first.trust.answer),
    )


def all_lines(reports: Sequence[Report]) -> list[str]:
    """Three for each round trip; with a heading, where there are several."""
    lines = []
    for report in reports:
        lines += [f"{report.round_trips}:"] if len(reports) > 1 else []
        lines += plain_lines(report.first)
    return lines


def detailed_lines(first: FirstLines) -> tuple[str, ...]:
    """Those of `plain_lines`, each with its details below it."""
    lines = (first.passed, first.change, first.trust)
    return tuple(
        text
        for plain, line in zip(plain_lines(first), lines, strict=True)
        for text in (plain, *(f"     {detail}" for detail in line.details))
    )


def _plain(status: Status, question: str, answer: str) -> str:
    return f"[{_PLAIN[status]}] {question} {answer}."


def markdown(first: FirstLines) -> str:
    """The lines with their details, for a pull request's summary."""
    parts = []
    for line in (first.passed, first.change, first.trust):
        parts.append(f"{_MARKS[line.status]} **{line.question}** {in_markdown(line.answer)}.\n")
        parts += [f"- {in_markdown(detail)}" for detail in line.details]
        parts.append("")
    return "\n".join(parts)


def all_markdown(reports: Sequence[Report]) -> str:
    """As `all_lines`, with details."""
    if len(reports) == 1:
        return markdown(reports[0].first)
    return "\n".join(f"#### {one.round_trips}\n\n{markdown(one.first)}" for one in reports)


def in_markdown(text: str) -> str:
    """A text that no Markdown reader takes for markup. A line stays one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
