"""What a report shows, as values: terminal, Markdown and page are made of these.

Texts are plain text: whoever renders them escapes them. A chart's numbers are rounded to what a
screen can show; the figures in texts are rounded to their spread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["good", "bad", "unknown"]
Style: TypeAlias = Literal["line", "step", "points", "curve"]


@dataclass(frozen=True, slots=True)
class FirstLine:
    """One of the three first lines. question: what it answers; verdict: the status in a word or
    two; details: a sentence each.
    """

    question: str
    status: Status
    verdict: str
    answer: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GateNote:
    """What became of the gates that are configured. answer: "gates failed (1 of 3)"."""

    status: Status
    verdict: str
    answer: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FirstLines:
    """Did it pass, what to change, can the run be trusted."""

    passed: FirstLine
    change: FirstLine
    trust: FirstLine


@dataclass(frozen=True, slots=True)
class Value:
    """A `BATCH_*` variable: what the run had set, what is recommended, and why.

    effective: what counted where it was set to auto, or not at all; "" where that is unknown.
    """

    variable: str
    current: str
    effective: str
    recommended: str
    reason: str

    @property
    def changed(self) -> bool:
        """Whether the recommendation does something else."""
        return self.effective != self.recommended

    @property
    def before(self) -> str:
        """Current, with what that comes to."""
        if self.effective in (self.current, ""):
            return self.current
        return f"{self.current} ({self.effective})"


@dataclass(frozen=True, slots=True)
class Gain:
    """Recommended against current settings on one table. ratio: speed, None where one of the two
    was not measured. low, high: a 95% interval, None where there are too few pairs. symbol: "+",
    "-", "~" (equivalent) or "??" (cannot tell).
    """

    table: str
    current: str
    recommended: str
    ratio: float | None
    low: float | None
    high: float | None
    pairs: int
    symbol: str
    text: str


@dataclass(frozen=True, slots=True)
class Axis:
    """label: with its unit. scale: "log" needs positive numbers. zero: whether it starts at 0.
    whole: whether only whole numbers mean something.
    """

    label: str
    scale: Literal["linear", "log"] = "linear"
    zero: bool = False
    percent: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """low, high: the bar through the point, None for none. text: all there is to know of it.
    strong: drawn filled, others are hollow.
    """

    x: float
    y: float
    low: float | None
    high: float | None
    text: str
    strong: bool = True


@dataclass(frozen=True, slots=True)
class Series:
    """hue: which colour; shape: which marker and, where odd, that the line is dashed, so that
    colour is never all that tells two apart; a step has no markers, so its dash tells all. A
    "curve" has neither markers nor hover.
    """

    name: str
    hue: int
    shape: int
    style: Style
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A line across the chart: a limit, a wall. label: short, for the line itself."""

    axis: Literal["x", "y"]
    at: float
    label: str
    text: str


@dataclass(frozen=True, slots=True)
class View:
    """One selectable face of a chart. note: what the eye may miss."""

    name: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    note: str = ""
    x_label: str = ""


@dataclass(frozen=True, slots=True)
class XYChart:
    """Lines or points over two axes. about: how to read it. first: index of the view to show."""

    id: str
    title: str
    about: str
    x: Axis
    y: Axis
    views: tuple[View, ...]
    first: int = 0
    kind: Literal["xy"] = "xy"


@dataclass(frozen=True, slots=True)
class Cell:
    """share: 0 to 1 of the table's best, None where nothing was measured. label: short."""

    share: float | None
    label: str
    text: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class HeatView:
    """cells: a row for each of `rows`, from the top, in the order of `columns`."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class HeatChart:
    """Speed over two settings."""

    id: str
    title: str
    about: str
    x_label: str
    y_label: str
    views: tuple[HeatView, ...]
    first: int = 0
    kind: Literal["heat"] = "heat"


@dataclass(frozen=True, slots=True)
class Bar:
    """values: a number for each of the chart's parts; texts: the same for people."""

    name: str
    values: tuple[float, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BarView:
    """Stacked bars. parts: what the bars are made of."""

    name: str
    parts: tuple[str, ...]
    bars: tuple[Bar, ...]
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class BarChart:
    """Amounts by configuration."""

    id: str
    title: str
    about: str
    views: tuple[BarView, ...]
    first: int = 0
    kind: Literal["bars"] = "bars"


Chart: TypeAlias = XYChart | HeatChart | BarChart


@dataclass(frozen=True, slots=True)
class RankRow:
    """A configuration as its table's ranking shows it. cells: by `RANK_COLUMNS`; ratio text comes
    with its interval, verdict is "fastest", "slower", "~", "??", "stopped" or "failed".
    """

    cells: tuple[str, ...]
    chosen: bool
    current: bool
    failed: bool


RANK_COLUMNS = (
    "strategy",
    "driver",
    "writers",
    "chunk",
    "rows/s",
    "vs the best",
    "verdict",
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "max, ms",
    "peak, MB",
    "trials",
)


@dataclass(frozen=True, slots=True)
class TableReport:
    """Of one table. shape: where the knee and the wall are. subject: the recommended setting,
    and cost: what it takes.
    """

    table: str
    shape: tuple[str, ...]
    subject: str
    cost: tuple[str, ...]
    ranking: tuple[RankRow, ...]
    speed_charts: tuple[Chart, ...]
    cost_charts: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class Undecided:
    """A question that the run leaves open. command: what would decide it, for a shell."""

    question: str
    why: str
    command: str


@dataclass(frozen=True, slots=True)
class BaselineRow:
    """A configuration in both runs. text: the ratio with its interval."""

    name: str
    before: str
    after: str
    text: str
    symbol: str


@dataclass(frozen=True, slots=True)
class BaselineReport:
    """This run against an earlier one. doubts: why the two may not be comparable."""

    run_id: str
    rows: tuple[BaselineRow, ...]
    doubts: tuple[str, ...]
    unmatched: int


@dataclass(frozen=True, slots=True)
class TrialColumn:
    """numeric: sorts as a number. choices: what can be filtered by, empty for no such filter."""

    name: str
    numeric: bool
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrialTable:
    """Every trial. left_out: how many there are besides, for the page's sake."""

    columns: tuple[TrialColumn, ...]
    rows: tuple[tuple[str | float | int | None, ...], ...]
    left_out: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report shows, of loads under one delay. repeat: the command that would run it
    again. rtt_ms: what each round trip took more than the network's own.
    """

    run_id: str
    created: str
    server: str
    first: FirstLines
    env: str
    values: tuple[Value, ...]
    gains: tuple[Gain, ...]
    tables: tuple[TableReport, ...]
    undecided: tuple[Undecided, ...]
    baseline: BaselineReport | None
    trials: TrialTable
    environment: Mapping[str, Mapping[str, str]]
    repeat: str
    rtt_ms: float
    warnings: tuple[str, ...]

    @property
    def round_trips(self) -> str:
        """As a heading."""
        return f"round trips of {self.rtt_ms:g} ms more"
