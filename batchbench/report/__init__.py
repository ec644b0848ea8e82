"""Records -> a report: first lines for terminal and Markdown, and one self-contained page.

`build_report` computes what is shown, as plain values; `page` renders them. The page loads
nothing, so it opens from disk; every text in it comes from a block of JSON and is shown as text.
"""

from batchbench.report.building import Judge, build_report, build_reports, evidence_of
from batchbench.report.first import COARSE, gains_of
from batchbench.report.live import LivePage
from batchbench.report.model import FirstLine, FirstLines, GateNote, Report, TableReport
from batchbench.report.page import page
from batchbench.report.text import (
    all_lines,
    all_markdown,
    detailed_lines,
    markdown,
    plain_lines,
)

__all__ = [
    "COARSE",
    "FirstLine",
    "FirstLines",
    "GateNote",
    "Judge",
    "LivePage",
    "Report",
    "TableReport",
    "all_lines",
    "all_markdown",
    "build_report",
    "build_reports",
    "detailed_lines",
    "evidence_of",
    "gains_of",
    "markdown",
    "page",
    "plain_lines",
]
