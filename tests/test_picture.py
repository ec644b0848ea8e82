"""The picture of a command: its lines as they came, still where motion is not wanted."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from benchmarks.picture import COLUMNS, Line, picture, record, thinned
from tests.test_compare import SAMPLE


def delays(svg: str) -> list[float]:
    return [float(delay) for delay in re.findall(r"animation:come \.2s ([\d.]+)s", svg)]


def test_lines_come_in_their_order() -> None:
    lines = [Line(1.0, "one"), Line(10.0, "\x1b[32mtwo\x1b[0m <b>"), Line(10.0, "x" * 300)]
    svg = picture("batchbench sweep", lines, played_s=4.0)
    shown = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    assert "$ batchbench sweep" in shown
    assert "two <b>" in shown.replace("\n", "")
    assert "x" * (COLUMNS - 1) + "…" in shown
    found = delays(svg)
    assert found == sorted(found)
    assert (found[0], 4.0 in found, max(found)) == (0.0, True, 4.05)


def test_it_asks_the_network_for_nothing_and_stands_still_where_that_is_wanted() -> None:
    svg = picture("batchbench", [Line(0.0, "a")])
    assert "url(http" not in svg.replace('"', "")
    assert "@font-face" not in svg
    assert re.search(r'<svg [^>]*width="\d[\d.]*" height="\d', svg), "else it is tiny in a page"
    assert "prefers-reduced-motion: reduce" in svg


def test_progress_is_thinned_to_first_and_last() -> None:
    lines = [Line(float(number), str(number)) for number in range(40)]
    assert [line.text for line in thinned(lines, 3)] == ["0", "20", "39"]
    assert thinned(lines[:2]) == lines[:2]


def test_a_command_is_recorded_as_a_terminal_shows_it() -> None:
    output, progress, code = record(["compare", "nothing"])
    assert (code, output[0].text) == (2, "")
    assert progress[-1].text.startswith("error: compare takes two runs")
    output, _, code = record(["gate", str(SAMPLE)])
    assert code in (0, 1, 5)
    assert "\x1b[" in "".join(line.text for line in output), "colours are kept"
