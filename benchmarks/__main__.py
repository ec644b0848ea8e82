"""python -m benchmarks"""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from contextlib import closing
from pathlib import Path

from rich.console import Console

from batchbench.config import choose_allocator

choose_allocator()  # as the command line does, before pyarrow is imported

from batchbench.servers import open_server  # noqa: E402
from benchmarks.cases import chosen, full_cases, short_cases  # noqa: E402
from benchmarks.data import Inputs  # noqa: E402
from benchmarks.environment import environment  # noqa: E402
from benchmarks.ground import Ground, input_folder  # noqa: E402
from benchmarks.long import measure_long, ten_thousand_s  # noqa: E402
from benchmarks.measure import Plan, measure  # noqa: E402
from benchmarks.report import Report  # noqa: E402
from benchmarks.wanted import held_against  # noqa: E402

_ROWS = 200_000
_FULL_ROWS = 1_000_000
_FULL_STRETCH = 3.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the whole matrix and the long rows")
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="TEXT",
        help="only cases with this in their name, such as heart_rate/arrow; "
        "may be repeated, `long` means the long rows",
    )
    parser.add_argument(
        "--rows",
        type=int,
        help=f"rows of heart_rate ({_ROWS:,}; with --full {_FULL_ROWS:,}); wider tables get fewer",
    )
    parser.add_argument(
        "--long-rows",
        type=int,
        default=10_000_000,
        help="the most rows of the long ones (10,000,000)",
    )
    parser.add_argument("--repeats", type=int, default=5, help="interleaved rounds (5)")
    parser.add_argument("--seed", type=int, default=0, help="of the order within a round")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("results/bench"),
        help="folder of bench.json and bench.md (results/bench)",
    )
    return parser.parse_args()  # fmt: skip


def main() -> int:
    """Run; 1 where a way failed or loaded wrong rows."""
    options = _arguments()
    all_cases = full_cases() if options.full else short_cases()
    cases = chosen(all_cases, options.case)
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    said = Console(stderr=True, highlight=False)
    started = time.monotonic()

    def say(text: str) -> None:
        said.print(f"{time.monotonic() - started:6.1f} s  {text}", markup=False, soft_wrap=True)

    rows = options.rows or (_FULL_ROWS if options.full else _ROWS)
    plan = Plan(rows, options.repeats, options.seed, _FULL_STRETCH if options.full else 1.0)
    with open_server("embedded") as server:
        assert server.cluster is not None
        with closing(Ground(server.cluster)) as ground:
            there = environment(ground.dsn)  # first: the tree may change meanwhile
            inputs = Inputs(input_folder(server.cluster))
            results = []
            for case in cases:
                say(case.title)
                results.append(measure(case, ground, inputs, plan, say))
            ten_thousand = None
            if not options.case:
                say("10,000 rows with the connection open")
                ten_thousand = ten_thousand_s(ground, inputs, 4 * options.repeats)
            long = None
            if _long_is_wanted(options):
                long = measure_long(
                    ground, inputs, options.repeats, options.seed, say, options.long_rows
                )
    command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
    wanted = held_against(results, ten_thousand, long)
    seconds = time.monotonic() - started
    report = Report(command, there, options.repeats, seconds, results, ten_thousand, long, wanted)
    report.write(options.output)
    console = Console(highlight=False)
    console.width = max(console.width, 150)
    report.show(console)
    say(f"written: {options.output}/bench.json, {options.output}/bench.md")
    return 1 if any(result.failures for result in results) else 0


def _long_is_wanted(options: argparse.Namespace) -> bool:
    return "long" in options.case or (options.full and not options.case)


if __name__ == "__main__":
    sys.exit(main())
