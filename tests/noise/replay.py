"""The noise corpus, and runs replayed from it: what a shorter run of that machine would have seen.

A replay takes whole stretches of blocks of some epochs, none twice, so that what neighbours in time
and pairs of one server's life have in common stays in it. The format is in README.md.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from batchbench.stats import Ratio, ratio_of_logs

CORPUS = Path(__file__).parent / "corpus"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """Trials of one machine. about: its JSON. seconds: by arm, shape (epochs, blocks)."""

    name: str
    about: dict[str, Any]
    seconds: dict[str, Floats]

    def logs(self, one: str, other: str) -> Floats:
        """How many times as fast one arm is as the other: logarithms, shape (epochs, blocks)."""
        logs: Floats = np.log(self.seconds[other]) - np.log(self.seconds[one])
        return logs


@cache
def recordings() -> tuple[Recording, ...]:
    """All of the corpus."""
    return tuple(read(path) for path in sorted(CORPUS.glob("*.csv.gz")))


def read(path: Path) -> Recording:
    """One recording. Raises ValueError where a block lacks a trial."""
    name = path.name.removesuffix(".csv.gz")
    about = json.loads(path.with_name(f"{name}.json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode())))
    epochs, blocks = (max(int(row[key]) for row in rows) for key in ("epoch", "block"))
    seconds = {arm: np.full((epochs, blocks), np.nan) for arm in about["arms"]}
    for row in rows:
        place = int(row["epoch"]) - 1, int(row["block"]) - 1
        seconds[row["arm"]][place] = int(row["microseconds"]) / 1e6
    if any(np.isnan(values).any() for values in seconds.values()):
        raise ValueError(f"{path.name} lacks trials")
    return Recording(name, about, seconds)


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a replayed run."""

    epochs: int
    pairs: int  # of each epoch, an even number: a block and the one that reverses it stay together

    @property
    def labels(self) -> list[int]:
        """The epoch of each pair."""
        return np.repeat(np.arange(self.epochs), self.pairs).tolist()


def drawn(logs: Floats, shape: Shape, rng: np.random.Generator, *, swap: bool = False) -> Floats:
    """The pairs of one replay, as `shape.labels` tells them apart.

    swap: change the two names in every epoch by chance, as may be done where they name the same;
    the true ratio of them is then 1 whatever the corpus happened to hold.
    """
    epochs, blocks = logs.shape
    parts = []
    for epoch in rng.choice(epochs, shape.epochs, replace=False):
        start = 2 * int(rng.integers((blocks - shape.pairs) // 2 + 1))
        sign = -1 if swap and rng.random() < 0.5 else 1
        parts.append(sign * logs[epoch, start : start + shape.pairs])
    return np.concatenate(parts)


def replays(
    logs: Floats, shape: Shape, runs: int, *, swap: bool = False, added: float = 0.0, seed: int = 1
) -> list[Ratio]:
    """Ratios of so many replays. added: a difference put into each, as a logarithm."""
    rng, labels = np.random.default_rng(seed), shape.labels
    return [
        ratio_of_logs(drawn(logs, shape, rng, swap=swap) + added, epochs=labels)
        for _ in range(runs)
    ]


def share(ratios: list[Ratio], holds: Callable[[Ratio], bool]) -> float:
    """Of which part of them something holds."""
    return float(np.mean([holds(ratio) for ratio in ratios]))
