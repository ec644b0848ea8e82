"""Charts as figures: what they hold, the same files each time, names that are no formulas."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from batchbench import plot
from batchbench.errors import ConfigError, InputError
from tests.fixtures.commands import app
from tests.test_recommend import copying, run_of
from tests.test_report import blocks, sleep_run, stored, values_run


def test_throughput_has_a_line_with_bars_and_the_wall() -> None:
    axes = plot.throughput(values_run()).axes[0]
    assert [float(x) for x in axes.containers[0].lines[0].get_xdata()] == [1_000, 3_276]
    assert any(list(line.get_xdata()) == [3_276, 3_276] for line in axes.lines)
    assert axes.get_xscale() == "log"


def test_the_view_and_the_table_are_chosen_by_name() -> None:
    run = run_of(
        {
            copying(50): blocks(1e4),
            copying(50, writers=2): blocks(2e4),
            copying(50, table="activity"): blocks(3e4),
            copying(50, table="activity", writers=2): blocks(4e4),
        }
    )
    one = plot.throughput(run, "activity", "1 writer").axes[0]
    assert one.get_title(loc="left") == "Throughput over chunk size: activity, 1 writer"
    assert float(one.containers[0].lines[0].get_ydata()[0]) == pytest.approx(3e4, rel=0.02)
    with pytest.raises(InputError, match="1 writer, 2 writers"):
        plot.throughput(run, view="9 writers")
    with pytest.raises(InputError, match="sleep, activity"):
        plot.memory(run, "orders")


def test_too_few_levels_have_no_scaling_chart() -> None:
    with pytest.raises(InputError, match="too few for the chart 'scaling'"):
        plot.scaling(sleep_run())


@pytest.mark.parametrize("name", ["heat_map", "latency", "memory", "pareto", "throughput"])
def test_every_chart_draws(name: str) -> None:
    figure = getattr(plot, name)(sleep_run())
    figure.canvas.draw()
    assert figure.axes[0].get_title(loc="left")


def test_files_are_the_same_each_time_and_odd_names_are_only_text(tmp_path: Path) -> None:
    odd = "$\\frac{<b>\x01/../x"
    run = run_of({copying(50, table=odd): blocks(1e4), copying(90, table=odd): blocks(2e4)})
    first = plot.save_figures(run, tmp_path / "one", ["svg", "png"])
    second = plot.save_figures(run, tmp_path / "two", ["svg", "png"])
    assert {path.parent for path in first} == {tmp_path / "one"}
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    drawn = next(path for path in first if path.name.endswith("throughput.svg"))
    texts = "".join(ElementTree.fromstring(drawn.read_text()).itertext())
    assert "$\\frac{<b>" in texts


def test_two_tables_of_like_names_keep_their_files(tmp_path: Path) -> None:
    run = run_of({copying(50, table="a b"): blocks(1e4), copying(50, table="a_b"): blocks(1e4)})
    names = [path.name for path in plot.save_figures(run, tmp_path, ["png"])]
    assert len(names) == len(set(names)) == len(list(tmp_path.iterdir()))


def test_a_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        plot.save_figures(sleep_run(), tmp_path / "file")


def test_the_command_writes_both_formats(tmp_path: Path) -> None:
    folder = stored(tmp_path / "run", sleep_run())
    output = tmp_path / "images"
    done = CliRunner().invoke(app, ["plot", str(folder), "-o", str(output), "--format", "png,svg"])
    assert done.exit_code == 0, done.output
    assert {path.suffix for path in output.iterdir()} == {".png", ".svg"}
    assert str(output / "sleep-throughput.png") in done.output.splitlines()
    bad = CliRunner().invoke(app, ["plot", str(folder), "-o", str(output), "--format", "gif"])
    assert bad.exit_code == 2
