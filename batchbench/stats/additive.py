"""Levels of configurations that did not all run in the same blocks."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=Hashable)
B = TypeVar("B", bound=Hashable)

Floats = NDArray[np.float64]

_ROUNDS = 200
_ENOUGH = 1e-6


def additive_levels(cells: Mapping[tuple[B, K], float]) -> tuple[dict[K, float], dict[B, float]]:
    """Each value as a configuration's level plus its block's: least squares of both.

    cells: a value (a log speed) by block and configuration. Levels of blocks that share no
    configuration, even over others, are not comparable. Where all ran in all blocks, levels are
    the means over blocks, less the mean of all.
    Source: two-way layout without interaction; solved by turns (backfitting), to 1e-6.
    """
    blocks = list(dict.fromkeys(block for block, _ in cells))
    names = list(dict.fromkeys(name for _, name in cells))
    at_block = np.array([blocks.index(block) for block, _ in cells], int)
    at_name = np.array([names.index(name) for _, name in cells], int)
    values = np.array(list(cells.values()), float)
    level, effect = np.zeros(len(names)), np.zeros(len(blocks))
    for _ in range(_ROUNDS):
        before = level
        effect = _means(values - level[at_name], at_block, len(blocks))
        level = _means(values - effect[at_block], at_name, len(names))
        if not len(level) or np.max(np.abs(level - before)) < _ENOUGH:
            break
    return (
        dict(zip(names, level.tolist(), strict=True)),
        dict(zip(blocks, effect.tolist(), strict=True)),
    )


def _means(values: Floats, groups: NDArray[np.intp], count: int) -> Floats:
    sums = np.bincount(groups, weights=values, minlength=count)
    means: Floats = sums / np.bincount(groups, minlength=count)
    return means
