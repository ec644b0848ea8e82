"""Runs of evidence that takes hours: kept in a folder, gone on with where they were broken off."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psutil

from batchbench.config import Settings
from batchbench.harness import Configuration, SweepPlan, run_sweep
from batchbench.harness.pace import spent_s
from batchbench.recommend import Finalist, RankingRow
from batchbench.recommend.confirming import finalist_of
from batchbench.report.yardstick import drift_of_yardstick
from batchbench.results import Run, load_run
from batchbench.servers import open_server

_ENDED = "ended.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that ended. cores_busy: of the machine, by anyone, ours too, in its last start.
    load: processes that wanted a core in the minute before that start.
    """

    run: Run
    cores_busy: float
    load: float

    @property
    def contaminated(self) -> bool:
        """Whether its yardstick says that the machine changed."""
        drift = drift_of_yardstick(self.run)
        return drift is not None and drift.contaminated


@dataclass(frozen=True, slots=True)
class Bench:
    """Runs plans, each on a fresh embedded server; those that ended are read from their folders.

    program: the module that asks, as records name it. kept: all that it gave, in order.
    """

    folder: Path
    program: str
    say: Callable[[str], None]
    kept: list[Kept] = field(default_factory=list)

    def run(self, plan: SweepPlan, name: str) -> Run:
        """The run of this name, gone on with where it was broken off."""
        folder = self.folder / name
        ended = folder / _ENDED
        if not ended.exists():
            self.say(f"{folder}: {len(plan.configurations)} configurations, {plan.rows:,} rows")
            load = os.getloadavg()[0]
            psutil.cpu_percent()
            self._measure(plan, folder)
            busy = psutil.cpu_percent() / 100 * (psutil.cpu_count() or 1)
            ended.write_text(json.dumps({"cores_busy": round(busy, 2), "load": round(load, 2)}))
        self.kept.append(Kept(load_run(folder), **json.loads(ended.read_text())))
        return self.kept[-1].run

    def _measure(self, plan: SweepPlan, folder: Path) -> None:
        with open_server("embedded") as server:
            asyncio.run(
                run_sweep(
                    plan,
                    server.dsn,
                    Settings(),
                    folder,
                    server_kind=server.kind,
                    command=("python", "-m", self.program),
                    resume=(folder / "run.json").exists(),
                    restart=None if server.cluster is None else server.cluster.restart,
                )
            )


def configuration_of(finalist: Finalist, rtt_ms: float = 0.0) -> Configuration:
    """As a plan has it."""
    way = finalist.way
    kind = (finalist.table, way.strategy, way.driver)
    return Configuration(*kind, finalist.chunk_rows, way.parallelism, rtt_ms)


def configurations_of(rows: Iterable[RankingRow], rtt_ms: float = 0.0) -> tuple[Configuration, ...]:
    """To be measured afresh, each once."""
    return tuple(dict.fromkeys(configuration_of(finalist_of(row), rtt_ms) for row in rows))


def surroundings(kept: Sequence[Kept]) -> Iterator[str]:
    """Where and when runs were measured, as lines of Markdown."""
    infos = [one.run.info for one in kept]
    seen = infos[-1].environment
    days = sorted(info.created for info in infos)
    servers = ", ".join(sorted({info.server.version for info in infos}))
    commits = ", ".join(sorted({info.git_revision or "unknown" for info in infos}))
    busy = sorted(one.cores_busy for one in kept)
    load = sorted(one.load for one in kept)
    seconds = sum(spent_s(one.run) for one in kept)
    yield (
        f"- Machine: {seen.cpu_count} cores, {seen.memory_mb / 1_000:,.0f} GB, {seen.platform},"
        f" {seen.python}; PostgreSQL {servers} (embedded); commit {commits}."
    )
    yield (
        f"- {len(kept)} runs from {days[0][:16]} to {days[-1][:16]} UTC, {seconds:,.0f} s together."
        f" Cores in use by anyone, ours too: {busy[0]:.1f} to {busy[-1]:.1f}; load average as each"
        f" began: {load[0]:.1f} to {load[-1]:.1f}."
    )
    bad = sum(one.contaminated for one in kept)
    yield (
        f"- {bad} of {len(kept)} runs are contaminated: their yardstick says that the machine"
        " changed meanwhile."
    )


def write_dated(path: Path | None, lines: Iterable[str], title: str) -> str:
    """The text, with its title and day; written to `path` as well, unless that is None."""
    head = [f"# {title}", "", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC.", ""]
    text = "\n".join([*head, *lines]) + "\n"
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return text
