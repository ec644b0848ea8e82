"""The page in a real browser: no errors, no network, every control works, nothing gets in.

The browser is the system's Chromium; where there is none, or no Playwright, these tests are
skipped with the reason in the summary.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batchbench.report import GateNote, LivePage, build_report, page
from batchbench.results import Run, load_run
from tests.test_recommend import copying, run_of
from tests.test_report import OURS, blocks, near_and_far, sleep_run, with_info

BAD = '</script><img src=x onerror="window.hacked=1">'
"""A table may be called so; in SQL it is only a matter of quotes."""

SAMPLES = Path(__file__).parents[1] / "results"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH: the page was not opened in a browser")
    with sync_api.sync_playwright() as playwright:
        # Root has no sandbox in containers; what is opened is our own page.
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Watched:
    """A tab that remembers what a good page never does: requests, console output, errors."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(10_000)
        self.tab = self.context.new_page()
        self.faults: list[str] = []
        self.tab.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        self.tab.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        self.tab.on("request", self._requested)

    def _requested(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:")):
            self.faults.append(f"request: {request.url}")

    def open(self, url: str) -> Any:
        self.tab.goto(url)
        self.tab.wait_for_selector("#findings")
        return self.tab


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    tab = Watched(browser, viewport={"width": 1440, "height": 900}, color_scheme="light")
    tab.context.grant_permissions(["clipboard-read", "clipboard-write"])
    yield tab
    tab.context.close()
    assert not tab.faults


def big_run() -> Run:
    """Two tables, three ways, several chunk sizes and numbers of writers."""
    speeds = {}
    for table, factor in (("sleep", 1.0), ("activity", 0.7)):
        for strategy, driver, speed in (
            ("copy", "psycopg", 9e4),
            ("copy", "asyncpg", 8e4),
            ("values", "asyncpg", 2e4),
        ):
            for size in (100, 1_000, 3_000):
                for writers in (1, 2):
                    wobble = 0.01 * (writers + len(driver) % 3)
                    rows_per_s = speed * factor * writers**0.6 * (1 + size / 9_000)
                    speeds[table, strategy, driver, size, writers] = blocks(rows_per_s, wobble)
    return with_info(run_of(speeds), settings={**OURS, "BATCH_SLEEP_CHUNK_SIZE": 100})


def written(folder: Path, run: Run) -> str:
    path = folder / "report.html"
    path.write_text(page(build_report(run)), encoding="utf-8")
    return path.as_uri()


def test_every_chart_is_there_with_its_figures_as_text(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    for name in ("throughput", "scaling", "latency", "memory", "pareto"):
        tab.wait_for_selector(f"#chart-{name} .plot g[data-series]", state="attached")
        figures = tab.locator(f"#chart-{name} details")
        figures.locator("summary").click()
        assert figures.locator("tbody tr").count() >= 3, name
    assert tab.locator("#chart-heat td.known").count() == 6
    assert tab.locator("#chart-heat td.chosen").count() == 1


def test_the_table_is_chosen_for_all_charts(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    before = tab.locator("#chart-heat td.chosen").inner_text()
    tab.select_option("#table-choice", "activity")
    assert "activity" in tab.locator("#speed h2").inner_text()
    assert tab.locator("#chart-heat td.chosen").inner_text() != before


def test_the_legend_hides_and_shows_a_series(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    drawn = tab.locator("#chart-throughput g[data-series]")
    first = tab.locator("#chart-throughput .legend button").first
    name = first.inner_text()
    assert drawn.count() == 3
    first.click()
    assert first.get_attribute("aria-pressed") == "false"
    assert drawn.count() == 2
    assert tab.locator(f'#chart-throughput g[data-series="{name}"]').count() == 0
    first.click()
    assert drawn.count() == 3


def test_views_change_what_is_drawn(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    line = tab.locator("#chart-throughput .bar").first
    before = line.get_attribute("d")
    tab.locator("#chart-throughput select").select_option("1 writer")
    assert tab.locator("#chart-throughput .bar").first.get_attribute("d") != before


def test_hover_and_arrow_keys_tell_the_figures(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    tab.locator("#chart-throughput .plot .dot").first.hover(force=True)
    tip = tab.locator("#tip")
    tip.wait_for(state="visible")
    assert re.search(r"[\d,]+ ± [\d,]+ rows/s", tip.inner_text())
    tab.locator("#chart-throughput svg[role=group]").focus()
    tab.keyboard.press("ArrowRight")
    one = tab.locator("#said").inner_text()
    tab.keyboard.press("ArrowRight")
    assert "rows/s" in one
    assert tab.locator("#said").inner_text() != one
    tab.keyboard.press("Escape")
    tip.wait_for(state="hidden")


def test_trials_sort_and_filter(tmp_path: Path, watched: Watched) -> None:
    run = big_run()
    tab = watched.open(written(tmp_path, run))
    heads = tab.locator("#trial-table thead button")
    column = [heads.nth(n).inner_text() for n in range(heads.count())].index("rows/s")

    def speeds() -> list[float]:
        cells = tab.locator(f"#trial-table tbody td:nth-child({column + 1})").all_inner_texts()
        return [float(cell.replace(",", "")) for cell in cells]

    head = tab.locator("#trial-table th").nth(column)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert speeds() == sorted(speeds(), reverse=True)
    assert speeds()[0] == pytest.approx(max(r.rows_per_s or 0 for r in run.trials), rel=1e-3)
    head.locator("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert speeds() == sorted(speeds())

    mine = [r for r in run.trials if (r.table, r.driver) == ("activity", "asyncpg")]
    tab.select_option('[data-filter="table"]', "activity")
    tab.select_option('[data-filter="driver"]', "asyncpg")
    assert f"of {len(mine)} trials" in tab.locator("#trial-count").inner_text()
    tab.fill("#trial-search", "values")
    left = len([r for r in mine if r.strategy == "values"])
    assert f"of {left} trials" in tab.locator("#trial-count").inner_text()
    tab.fill("#trial-search", "no such text")
    assert tab.locator("#trial-table tbody tr").count() == 0


def test_the_button_copies_the_env(tmp_path: Path, watched: Watched) -> None:
    run = big_run()
    tab = watched.open(written(tmp_path, run))
    tab.locator(".copy-env").click()
    tab.wait_for_selector(".copy-env:text-is('Copied')")
    assert tab.evaluate("navigator.clipboard.readText()") == build_report(run).env


@pytest.mark.parametrize(("width", "theme"), [(1440, "dark"), (390, "light"), (390, "dark")])
def test_both_themes_fit_phones_and_screens(
    tmp_path: Path, browser: Any, width: int, theme: str
) -> None:
    watched = Watched(browser, viewport={"width": width, "height": 800}, color_scheme=theme)
    tab = watched.open(written(tmp_path, big_run()))
    tab.wait_for_selector("#chart-pareto .plot .dot")
    back = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    assert (sum(tab.evaluate(back)) < 3 * 128) == (theme == "dark")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    speed = tab.locator("#ranking th", has_text="rows/s").bounding_box()
    assert speed["x"] + speed["width"] <= width, "the figure that counts needs no scrolling"
    tab.locator("button.theme").click()
    assert (sum(tab.evaluate(back)) < 3 * 128) != (theme == "dark")
    watched.context.close()
    assert not watched.faults


DRAWN = ".plot svg .dot, .plot svg .line, .plot td.known, .plot .piece"
CUT = """[...document.querySelectorAll('.plot svg text')].filter((text) => {
    const [own, all] = [text, text.closest('svg')].map((node) => node.getBoundingClientRect());
    return own.left < all.left - 1 || own.right > all.right + 1
        || own.top < all.top - 1 || own.bottom > all.bottom + 1;
}).map((text) => text.textContent)"""


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (390, "dark")])
def test_the_page_of_a_real_sweep(tmp_path: Path, browser: Any, width: int, theme: str) -> None:
    """Every control, on a run that this tool has measured; no label is cut, no chart is empty."""
    watched = Watched(browser, viewport={"width": width, "height": 800}, color_scheme=theme)
    watched.context.grant_permissions(["clipboard-read", "clipboard-write"])
    tab = watched.open(written(tmp_path, load_run(SAMPLES / "sample-18")))
    tab.wait_for_selector("#chart-pareto .plot .dot")
    charts = tab.locator("figure[data-chart]")
    for number in range(charts.count()):
        assert charts.nth(number).locator(DRAWN).count()
    assert tab.evaluate(CUT) == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    drawn = tab.locator("#chart-throughput g[data-series]")
    before = drawn.count()
    tab.locator("#chart-throughput .legend button").first.click()
    assert drawn.count() == before - 1
    tab.locator("#trial-table thead button", has_text="rows/s").click()
    assert tab.locator("#trial-table th[aria-sort=descending]").count() == 1
    tab.fill("#trial-search", "asyncpg")
    assert "of 216 trials" in tab.locator("#trial-count").inner_text()
    tab.locator(".copy-env").click()
    tab.wait_for_selector(".copy-env:text-is('Copied')")
    tab.locator("button.theme").click()
    assert tab.evaluate("document.documentElement.dataset.theme") != theme
    watched.context.close()
    assert not watched.faults


def test_the_page_has_landmarks_names_and_focus(tmp_path: Path, watched: Watched) -> None:
    tab = watched.open(written(tmp_path, big_run()))
    for landmark in ("header", "nav[aria-label]", "main", "footer"):
        assert tab.locator(landmark).count() == 1, landmark
    controls = "button, select, input, svg[tabindex], [role=region], [role=group]"
    named = "(n) => n.ariaLabel || n.closest('label') || n.textContent.trim()"
    assert tab.evaluate(f"[...document.querySelectorAll('{controls}')].every({named})")
    ids = "[...document.querySelectorAll('[id]')].map((node) => node.id)"
    found = tab.evaluate(ids)
    assert len(found) == len(set(found))
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.className") == "skip"


def hostile_run() -> Run:
    run = run_of(
        {
            copying(50, table=BAD): blocks(1e4),
            (BAD, BAD, BAD, 60, 1): blocks(2e4),
            copying(70, table=BAD): [None] * 8,
        }
    )
    records = tuple(r if r.usable else replace(r, reason=BAD) for r in run.records)
    server = replace(run.info.server, version=BAD, settings={BAD: BAD})
    info = replace(
        run.info,
        run_id=BAD,
        created=BAD,
        server=server,
        command=("batchbench", "sweep", "--table", BAD),
        settings={BAD: BAD},
    )
    return replace(run, info=info, records=records, warnings=(BAD,))


def test_a_hostile_name_is_only_text(tmp_path: Path, watched: Watched) -> None:
    text = page(build_report(hostile_run()))
    assert "<img" not in text
    assert text.count("</script>") == 2
    tab = watched.open(written(tmp_path, hostile_run()))
    tab.wait_for_selector("#chart-pareto .plot .dot")
    tab.locator("#chart-throughput .plot .dot").first.hover(force=True)
    assert tab.locator("h1").inner_text() == BAD
    assert tab.locator("img").count() == 0
    assert tab.evaluate("window.hacked") is None


def test_a_script_that_got_in_would_not_run(tmp_path: Path, browser: Any) -> None:
    """The second wall: the page's policy lets only its own script run."""
    path = tmp_path / "report.html"
    text = page(build_report(sleep_run()))
    path.write_text(
        text.replace('<div id="app">', '<script>window.hacked = 1</script><div id="app">')
    )
    watched = Watched(browser)
    tab = watched.open(path.as_uri())
    assert tab.evaluate("window.hacked") is None
    assert any("Content Security Policy" in fault for fault in watched.faults)
    watched.context.close()


def test_a_page_of_thousands_of_trials_stays_under_2_mb() -> None:
    sizes = range(100, 100 + 60)
    tables = ("a_table_with_a_long_name", "another_table_with_a_long_name")
    speeds = {copying(size, table=t): [1e4 + size] * 50 for t in tables for size in sizes}
    run = run_of(speeds)
    many = tuple(replace(r, chunk_seconds=(0.001, 0.002) * 300, chunks=600) for r in run.records)
    report = build_report(replace(run, records=many))
    assert len(page(report).encode()) < 2_000_000
    assert (len(report.trials.rows), report.trials.left_out) == (5_000, 1_000)


# --- live ---------------------------------------------------------------------------------------


def fetched(url: str, host: str | None = None) -> tuple[int, str]:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


def test_live_data_is_sent_only_where_it_is_newer() -> None:
    run = sleep_run()
    with LivePage(planned=16) as live:
        assert live.url.startswith("http://127.0.0.1:")
        status, text = fetched(f"{live.url}data.json")
        assert (status, json.loads(text)["reports"]) == (200, [])
        live.update(replace(run, records=run.records[:4]))
        status, text = fetched(f"{live.url}data.json?after=0")
        state = json.loads(text)["live"]
        assert (state["done"], state["planned"], state["finished"]) == (4, 16, False)
        assert fetched(f"{live.url}data.json?after={state['version']}") == (204, "")
        assert fetched(f"{live.url}run.json")[0] == 404


def test_live_is_not_served_under_another_name() -> None:
    """Else any site could read it by a name that it points at 127.0.0.1."""
    with LivePage() as live:
        assert fetched(live.url, host="evil.example:80")[0] == 403
        assert fetched(live.url, host="localhost:80")[0] == 200


def test_the_live_page_follows_the_sweep(browser: Any) -> None:
    run = sleep_run()
    watched = Watched(browser)
    with LivePage(planned=len(run.records)) as live:
        watched.tab.goto(live.url)
        watched.tab.wait_for_selector("text=No trial has ended well yet")
        live.update(replace(run, records=run.records[:10]))
        watched.tab.wait_for_selector("text=10 of 16 loads")
        watched.tab.wait_for_selector("#chart-throughput .plot .dot")
        live.update(run, finished=True)
        watched.tab.wait_for_selector("text=Finished: 16 loads")
    watched.context.close()
    assert not [fault for fault in watched.faults if live.url not in fault]


def test_the_live_page_shows_gates_and_every_round_trip(browser: Any) -> None:
    def judge(part: Run, before: Run | None) -> GateNote:
        return GateNote("bad", "failed", f"gate seen at {part.rtts_ms[0]:g}", ())

    watched = Watched(browser)
    with LivePage(judge=judge) as live:
        live.update(near_and_far())
        tab = watched.open(live.url)
        assert "gate seen at 0" in tab.locator("#findings").inner_text()
        choice = tab.locator("#rtt-choice")
        assert choice.locator("option").all_inner_texts() == ["+0 ms", "+20 ms"]
        choice.select_option("+20 ms")
        assert "gate seen at 20" in tab.locator("#findings").inner_text()
        assert tab.evaluate("document.activeElement.id") == "rtt-choice"
        assert "20 ms more" in tab.locator("header").inner_text()
        tab.evaluate("document.activeElement.blur()")
        live.update(near_and_far(), finished=True)
        tab.wait_for_selector("text=Finished: 32 loads")
        assert "gate seen at 20" in tab.locator("#findings").inner_text()
    watched.context.close()
    assert not [fault for fault in watched.faults if live.url not in fault]
