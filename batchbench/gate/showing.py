"""Verdicts for people and for CI: Markdown, JUnit XML, JSON."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, tostring  # nosec B405 # nothing is parsed

from batchbench.gate.judging import Result, Status, exit_code, worst_first

_WORDS = {0: "passed", 1: "failed", 5: "cannot tell: too little was measured"}
_MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.UNDECIDED: "??"}


def headline(results: Sequence[Result]) -> str:
    """The first line."""
    return f"batchbench gate: {_WORDS[exit_code(results)]}"


def markdown(results: Sequence[Result], opening: str = "") -> str:
    """A heading and a table, for $GITHUB_STEP_SUMMARY or a comment. opening: Markdown that
    stands between them.
    """
    lines = [
        f"### {headline(results)}",
        "",
        *([opening] if opening else []),
        "| | rule | configuration | seen |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {_MARKS[r.status]} | {_cell(r.rule)} | {_cell(r.subject)} | {_cell(r.seen)} |"
        for r in worst_first(results)
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
    return escaped.replace("<", "&lt;").replace("`", "\\`")


def junit(results: Sequence[Result]) -> bytes:
    """One test case a rule and configuration; what cannot be told is an error, not a failure.

    Source of the format: the JUnit schema that GitLab, Jenkins and GitHub actions read.
    """
    counts = [
        sum(r.status is status for r in results) for status in (Status.FAIL, Status.UNDECIDED)
    ]
    suite = Element(
        "testsuite",
        name="batchbench gate",
        tests=str(len(results)),
        failures=str(counts[0]),
        errors=str(counts[1]),
    )
    for result in results:
        case = SubElement(suite, "testcase", classname=result.rule, name=result.subject)
        if result.status is not Status.PASS:
            kind = "failure" if result.status is Status.FAIL else "error"
            SubElement(case, kind, message=result.seen)
    return bytes(tostring(suite, encoding="utf-8", xml_declaration=True))


def document(results: Sequence[Result]) -> dict[str, object]:
    """For JSON."""
    return {
        "exit_code": exit_code(results),
        "results": [_document(result) for result in results],
    }


def _document(result: Result) -> dict[str, object]:
    words: dict[str, object] = {
        "rule": result.rule,
        "subject": result.subject,
        "status": result.status.value,
        "seen": result.seen,
    }
    if (ratio := result.ratio) is not None:
        words |= {"ratio": ratio.estimate, "low": ratio.low, "high": ratio.high}
    return words
