"""How far runs of the same code lie apart although each is divided by its own yardstick."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from batchbench.compare import Difference, compare
from batchbench.errors import InputError
from batchbench.results import Run

PORTABILITY_FILE = "portability.json"
_SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Portability:
    """error: of the logarithm of a ratio; of 100 configurations in two runs of the same code, 95
    lay no further apart. differences: how many that was seen from. runs: their ids.
    machines: how many they ran on.
    """

    error: float
    differences: int
    runs: tuple[str, ...]
    machines: int

    @property
    def words(self) -> str:
        """ "± 8% between 3 runs of the same code on 2 machines" """
        machines = "one machine" if self.machines == 1 else f"{self.machines} machines"
        runs = f"{len(self.runs)} runs of the same code on {machines}"
        return f"± {math.expm1(self.error):.0%} between {runs}"


_STORED = TypeAdapter(Portability)


def portability(runs: Sequence[Run]) -> Portability:
    """Of runs of the same code, better on several machines and days, each as long as those that
    are to be judged: what their own trials vary counts as well.

    The largest difference seen; of 40 and more the smallest that holds 95% of further ones
    (order statistics: a further one is beyond the k-th of n with a chance of 1 - k / (n + 1)).
    Raises InputError of fewer than two runs, of any without a yardstick, and where two have no
    configuration in common.
    """
    once = {run.info.run_id: run for run in runs}
    if len(once) < 2:
        raise InputError("how far runs lie apart shows from two different runs or more")
    apart = sorted(
        abs(difference.verdict.ratio.log)
        for one, other in combinations(once.values(), 2)
        for difference in _differences(one, other)
    )
    rank = min(len(apart), math.ceil(_SHARE * (len(apart) + 1)))
    machines = {run.info.environment.machine for run in once.values()}
    return Portability(apart[rank - 1], len(apart), tuple(once), len(machines))


def _differences(one: Run, other: Run) -> tuple[Difference, ...]:
    comparison = compare(one, other)
    if not comparison.by_yardstick:
        raise InputError(
            f"runs {comparison.before} and {comparison.after} cannot be held against each other:"
            " one of them has no yardstick"
        )
    return comparison.differences


def read_portability(baseline: Path) -> Portability | None:
    """What is kept with a baseline; None where nothing is. Raises InputError where it is broken."""
    path = baseline / PORTABILITY_FILE
    if not path.is_file():
        return None
    try:
        return _STORED.validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise InputError(
            f"{path} cannot be read; measure it again with --portability RUN"
        ) from error


def portability_text(found: Portability) -> str:
    """As it is kept."""
    return json.dumps(asdict(found), indent=2) + "\n"
