"""The evidence of what the samplers cost: what decides, and that pairs are kept whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from math import exp
from pathlib import Path

from batchbench.stats import Finding
from benchmarks.sampler_cost import Kept, Pair, cost_of, main, report

PLACE = {
    "date": "2026-11-24T10:00:00+00:00",
    "cpu": "a CPU",
    "cpu_count": 2,
    "memory_gib": 23.5,
    "platform": "Linux",
    "python": "3.11.7",
    "server": "18.6",
    "revision": "abc",
}


def pairs(ratio: float, cpu_s: float = 0.01, noise: float = 0.01) -> list[Pair]:
    """48 over eight epochs, every second of which is off by the noise. cpu_s: of a second."""
    return [
        Pair(1 + n // 6, 1e5 * ratio * exp(noise * (-1) ** (n // 6)), 1e5, cpu_s, 1.0, 7, 1.5)
        for n in range(48)
    ]


def test_what_decides() -> None:
    good = cost_of(pairs(1.0))
    assert (good.verdict.finding, good.exit_code) == (Finding.EQUIVALENT, 0)
    assert cost_of(pairs(0.9)).exit_code == 1
    assert cost_of(pairs(1.0, cpu_s=0.02)).exit_code == 1
    assert cost_of(pairs(1.0, noise=0.5)).exit_code == 5
    one_bad = [*pairs(1.0), Pair(8, 1e5, 1e5, 0.05, 1.0, 7, 1.5)]
    assert (cost_of(one_bad).worst, cost_of(one_bad).exit_code) == (0.05, 0)
    text = "\n".join(report(pairs(1.0), [PLACE], 100_000))
    assert "48 pairs over 8 lives of the server: equivalent within 3%" in text
    assert "1.00% of one core" in text


def test_pairs_are_kept_and_what_is_missing_is_measured(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "state.ndjson")
    assert (kept.pairs(), kept.places()) == ([], [])
    kept.add(PLACE)
    for pair in pairs(1.0)[:7]:
        kept.add(asdict(pair))
    words = ("--pairs", "8", "--rows", "300", "--state", str(kept.path))
    assert main([*words, "--out", str(tmp_path / "out.md")]) in (0, 1, 5)
    assert kept.pairs()[:7] == pairs(1.0)[:7]
    assert [pair.epoch for pair in kept.pairs()] == [1, 1, 1, 1, 1, 1, 2, 3]
    assert len(kept.places()) == 2
    assert "8 pairs over 3 lives" in (tmp_path / "out.md").read_text()
    before = kept.path.read_text()
    main([*words])
    assert kept.path.read_text() == before, "nothing is missing"
    assert all(json.loads(line) for line in before.splitlines())
