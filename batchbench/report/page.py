"""A report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import asdict, dataclass
from importlib.resources import files

from batchbench import __version__
from batchbench.report.model import RANK_COLUMNS, Report
from batchbench.report.text import plain_lines

_SAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class LiveState:
    """How far a sweep is. version: grows with every change. planned: loads, 0 where unknown."""

    version: int
    done: int
    planned: int
    finished: bool
    note: str = ""


def document(report: Report | None, live: LiveState | None = None) -> str:
    """The report as JSON that may stand in a script element: no <, > or &."""
    shown = None if report is None else asdict(report) | {"rank_columns": RANK_COLUMNS}
    if shown is not None:
        shown["batchbench"] = __version__
    data = {"report": shown, "live": None if live is None else asdict(live)}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_SAFE)


def page(report: Report) -> str:
    """The page of a finished run. It needs no other file and asks the network for nothing."""
    noscript = "".join(f"<p>{html.escape(line)}</p>" for line in plain_lines(report.first))
    return render(document(report), report.run_id, noscript)


def render(data: str, title: str, noscript: str = "", *, live: bool = False) -> str:
    """The page around a block of JSON. live: it asks for newer data where it came from.

    Scripts and styles run by their hash: whatever else might get into the page is dead.
    """
    script, style = _asset("charts.js") + _asset("page.js"), _asset("page.css")
    connect = "'self'" if live else "'none'"
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}';"
        f" img-src data:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
    parts = {
        "%POLICY%": policy,
        "%TITLE%": html.escape(title),
        "%STYLE%": style,
        "%NOSCRIPT%": noscript,
        "%LIVE%": "live" if live else "still",
        "%DATA%": data,
        "%SCRIPT%": script,
    }
    return "".join(parts.get(piece, piece) for piece in _pieces(_asset("page.html")))


def _pieces(template: str) -> list[str]:
    """The template, cut at its %NAMES%, so that nothing put in is looked at again."""
    return [
        f"%{piece}%" if number % 2 else piece for number, piece in enumerate(template.split("%"))
    ]


def _asset(name: str) -> str:
    return (files("batchbench.report") / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
