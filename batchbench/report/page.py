"""A report as one HTML file."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files

from batchbench import __version__
from batchbench.report.model import RANK_COLUMNS, Report
from batchbench.report.text import all_lines

_SAFE = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


@dataclass(frozen=True, slots=True)
class LiveState:
    """How far a sweep is. version: grows with every change. planned: loads, 0 where unknown."""

    version: int
    done: int
    planned: int
    finished: bool
    note: str = ""


def document(reports: Sequence[Report], live: LiveState | None = None) -> str:
    """The reports as JSON that may stand in a script element: no <, > or &."""
    common = {"rank_columns": RANK_COLUMNS, "batchbench": __version__}
    shown = [asdict(report) | common for report in reports]
    data = {"reports": shown, "live": None if live is None else asdict(live)}
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.translate(_SAFE)


def page(*reports: Report) -> str:
    """The page of a finished run, of its round trips one report each. It needs no other file and
    asks the network for nothing.
    """
    lines = all_lines(reports)
    noscript = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return render(document(reports), reports[0].run_id, noscript)


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
