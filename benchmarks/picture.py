"""A picture of a command at work: its real output as an animated SVG, for the README.

    make picture    # or: python -m benchmarks.picture --out docs/sweep.svg -- sweep --profile sleep

Standard output keeps its colours; of the progress on standard error some lines are shown. Lines
come in as they came in, in a fraction of the time. Who asks for less motion, or prints it, sees all
of it at once.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

from batchbench.config import child_environment

COLUMNS = 110
PROGRESS_SHOWN = 6
PLAYED_S = 6.0
_LINE_S = 0.05  # between lines that came at once
_LINE = re.compile(r'<text (?=[^>]*clip-path="url\(#[^)]*-line-(\d+)\)")')
_SIZE = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
_STYLE = """
    @keyframes come { from { opacity: 0 } to { opacity: 1 } }
    @media (prefers-reduced-motion: reduce), print { text { animation: none !important } }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it was printed, with its colours. at_s: since the start."""

    at_s: float
    text: str


def record(arguments: Sequence[str]) -> tuple[list[Line], list[Line], int]:
    """Run `batchbench`: its standard output, standard error and exit code."""
    ours, theirs = os.openpty()
    started = time.monotonic()
    progress: list[Line] = []
    with subprocess.Popen(
        [sys.executable, "-m", "batchbench", *arguments],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=child_environment({"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}),
    ) as process:
        os.close(theirs)
        listener = threading.Thread(target=_listen, args=(process, started, progress))
        listener.start()
        printed = b"".join(iter(lambda: _read(ours), b""))
        at_s = time.monotonic() - started
        listener.join()
    os.close(ours)
    lines = printed.decode().replace("\r\n", "\n").rstrip().split("\n")
    return [Line(at_s, line) for line in lines], progress, process.returncode


def _listen(process: subprocess.Popen[bytes], started: float, lines: list[Line]) -> None:
    for line in process.stderr or ():
        lines.append(Line(time.monotonic() - started, line.decode().rstrip()))  # noqa: PERF401 - while it runs


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says so where the other side was closed
        return b""


def thinned(lines: Sequence[Line], most: int = PROGRESS_SHOWN) -> list[Line]:
    """At most so many, evenly taken, the first and the last among them."""
    if len(lines) <= most:
        return list(lines)
    step = (len(lines) - 1) / (most - 1)
    return [lines[round(number * step)] for number in range(most)]


def picture(command: str, lines: Sequence[Line], played_s: float = PLAYED_S) -> str:
    """The SVG. It asks the network for nothing."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    shown = [Line(0.0, f"\x1b[1m$ {command}\x1b[0m"), *lines]
    for line in shown:
        text = Text.from_ansi(line.text)
        text.truncate(COLUMNS, overflow="ellipsis")
        console.print(text, no_wrap=True)
    delays = _delays([line.at_s for line in shown], played_s)
    svg = console.export_svg(title="batchbench", unique_id="sweep")
    svg = _SIZE.sub(r'\g<0> width="\1" height="\2"', svg, count=1)
    svg = _FONT.sub("", svg).replace("</style>", f"{_STYLE}</style>", 1)
    return _LINE.sub(lambda found: _come(delays, int(found[1])), svg)


def _come(delays: Sequence[float], number: int) -> str:
    delay = delays[min(number, len(delays) - 1)]
    return f'<text style="animation:come .2s {delay:.2f}s linear both" '


def _delays(times: Sequence[float], played_s: float) -> list[float]:
    whole = max(times) or 1.0
    delays: list[float] = []
    for at_s in times:
        least = delays[-1] + _LINE_S if delays else 0.0
        delays.append(max(at_s / whole * played_s, least))
    return delays


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.picture")
    parser.add_argument("--out", type=Path, required=True, help="the SVG; it is replaced")
    parser.add_argument("--shown", help="the command as it is shown; default: what is run")
    parser.add_argument("arguments", nargs="+", help="of batchbench, after --")
    given = parser.parse_args()
    output, progress, code = record(given.arguments)
    if code > 1:
        sys.exit(f"it ended with exit code {code}: {progress[-1].text if progress else ''}")
    command = given.shown or " ".join(["batchbench", *given.arguments])
    given.out.write_text(picture(command, [*thinned(progress), *output]), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
