"""What a run must keep to, as pyproject.toml or a file of its own says.

[tool.batchbench.gate]              # in gates.toml: [gate]
max_slowdown = "10%"                # against a baseline or a ref

[[tool.batchbench.gate.rule]]       # in gates.toml: [[gate.rule]]
metric = "rows_per_s"
above = 2000
table = "heart_rate"                # strategy, driver, chunk_size, parallelism narrow it as well
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from batchbench.errors import ConfigError
from batchbench.results import GOAL_PEAK_RSS_MB, GOAL_ROWS_PER_S

METRICS: Mapping[str, Literal["median", "largest"]] = {
    "rows_per_s": "median",
    "mb_per_s": "median",
    "seconds": "median",
    "cpu_s": "median",
    "p50_s": "median",
    "p95_s": "median",
    "max_s": "largest",
    "peak_rss_mb": "largest",
    "retries": "largest",
}
"""Which of a configuration's trials a rule is about."""

_NARROWING = ("table", "strategy", "driver", "chunk_size", "parallelism")
DEFAULT_SLOWDOWN = 0.10


@dataclass(frozen=True, slots=True)
class Rule:
    """A bound on a metric of every configuration that `only` leaves. above, below: one of them."""

    metric: str
    above: float | None
    below: float | None
    only: Mapping[str, object]

    @property
    def name(self) -> str:
        """ "rows_per_s > 2,000 (table heart_rate)" """
        bound = f"> {self.above:,g}" if self.above is not None else f"< {self.below:,g}"
        only = ", ".join(f"{key} {value}" for key, value in self.only.items())
        return f"{self.metric} {bound}" + (f" ({only})" if only else "")


@dataclass(frozen=True, slots=True)
class Rules:
    """max_slowdown: as a share, of a comparison with a baseline or another revision."""

    rules: tuple[Rule, ...]
    max_slowdown: float = DEFAULT_SLOWDOWN


GOAL = Rules(
    (
        Rule("rows_per_s", GOAL_ROWS_PER_S, None, {}),
        Rule("peak_rss_mb", None, GOAL_PEAK_RSS_MB, {}),
    )
)
"""Where nobody says otherwise: 10,000 rows in under 5 s and under 500 MB."""


def read_rules(path: Path | None) -> Rules:
    """Of a file; None: gates.toml or pyproject.toml of this folder, else `GOAL`.

    Raises ConfigError, naming the rule, for one that cannot be.
    """
    if path is None:
        return configured_rules() or GOAL
    section = _section(path)
    if section is None:
        raise ConfigError(f"{path} has no [gate] or [tool.batchbench.gate]; add the rules to it")
    return _rules(section, str(path))


def configured_rules() -> Rules | None:
    """Of gates.toml or pyproject.toml of this folder; None where neither has any.

    Raises ConfigError, naming the rule, for one that cannot be.
    """
    for name in ("gates.toml", "pyproject.toml"):
        section = _section(Path(name)) if Path(name).is_file() else None
        if section is not None:
            return _rules(section, name)
    return None


def _section(path: Path) -> dict[str, Any] | None:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    own = document.get("gate")
    tool = document.get("tool", {}).get("batchbench", {}).get("gate")
    found = own if own is not None else tool
    if found is not None and not isinstance(found, dict):
        raise ConfigError(f"{path}: gate is a table of rules, not {type(found).__name__}")
    return found


def _rules(section: dict[str, Any], where: str) -> Rules:
    unknown = sorted(section.keys() - {"rule", "max_slowdown"})
    if unknown:
        raise ConfigError(f"{where}: gate has no {unknown[0]!r}; it has max_slowdown and rule")
    rules = section.get("rule", [])
    if not isinstance(rules, list):
        raise ConfigError(f"{where}: write rules as [[gate.rule]]")
    made = tuple(_rule(raw, f"{where}, rule {number}") for number, raw in enumerate(rules, 1))
    slowdown = section.get("max_slowdown", DEFAULT_SLOWDOWN)
    return Rules(made, _share(slowdown, where))


def _rule(raw: dict[str, Any], where: str) -> Rule:
    unknown = sorted(raw.keys() - {"metric", "above", "below", *_NARROWING})
    if unknown:
        raise ConfigError(
            f"{where}: there is no {unknown[0]!r}; a rule has metric, above or below, and"
            f" {', '.join(_NARROWING)}"
        )
    metric, bounds = raw.get("metric"), [name for name in ("above", "below") if name in raw]
    if not isinstance(metric, str) or metric not in METRICS:
        raise ConfigError(f"{where}: metric {metric!r} is unknown; known: {', '.join(METRICS)}")
    if len(bounds) != 1 or not isinstance(raw[bounds[0]], int | float):
        raise ConfigError(f"{where}: give one number, above or below")
    only = {name: raw[name] for name in _NARROWING if name in raw}
    return Rule(metric, raw.get("above"), raw.get("below"), only)


def _share(value: object, where: str) -> float:
    try:
        share = (
            float(value.removesuffix("%")) / 100 if isinstance(value, str) else float(value)  # type: ignore[arg-type]
        )
    except (TypeError, ValueError):
        share = -1.0
    if not 0 < share < 1:
        raise ConfigError(f"{where}: max_slowdown is a share such as '10%', not {value!r}")
    return share
