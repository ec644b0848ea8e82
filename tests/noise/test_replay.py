"""The statistics on recorded noise: nothing is claimed of nothing, and what is there is found."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from batchbench.stats import drift_of, hopeless, looks, ratio_of_logs
from tests.noise import __main__ as evidence
from tests.noise.checks import OTHER, SAME, SHAPES, check
from tests.noise.replay import CORPUS, Recording, Shape, drawn, read, recordings

RUNS = 1_000

# 5 % of 1,000 replays are 50 +- 7; that they share a few hundred pairs adds as much again.
LUCK = 0.025
PARTS = tuple(
    (recording, pair, shape) for recording in recordings() for pair in SAME for shape in SHAPES
)


@pytest.fixture(params=recordings(), ids=lambda recording: recording.name)
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each recording of the corpus."""
    assert isinstance(request.param, Recording)
    return request.param


def _name(value: object) -> str:
    if isinstance(value, Recording):
        return value.name
    if isinstance(value, Shape):
        return f"{value.epochs}x{value.pairs}"
    return "-".join(value) if isinstance(value, tuple) else str(value)


def test_the_corpus_is_there_and_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000
    assert sum(r.seconds["copy-1"].size for r in recordings()) >= 500
    assert all(len(r.seconds["copy-1"]) >= 6 for r in recordings())


def test_recorded_differences_are_those_of_the_arms(recording: Recording) -> None:
    """The whole of a recording knows which arms are the same, and which is the faster."""
    epochs, blocks = recording.logs(*SAME[0]).shape
    labels = Shape(epochs, blocks).labels
    for pair in SAME:
        ratio = ratio_of_logs(recording.logs(*pair).ravel(), epochs=labels, confidence=0.999)
        assert ratio.low is not None
        assert ratio.high is not None
        assert ratio.low <= 1 <= ratio.high
    for pair in (*OTHER, ("copy-1", "unnest-1")):
        ratio = ratio_of_logs(recording.logs(*pair).ravel(), epochs=labels)
        assert ratio.low is not None
        assert ratio.low > 1, pair


@pytest.mark.parametrize(("recording", "pair", "shape"), PARTS, ids=_name, indirect=["recording"])
def test_nothing_is_claimed_of_the_same_and_what_is_added_is_found(
    recording: Recording, pair: tuple[str, str], shape: Shape
) -> None:
    seen = check(recording, *pair, shape, RUNS)
    assert seen.claimed <= 0.05 + LUCK
    assert seen.covered >= 0.95 - LUCK
    assert seen.found is not None
    assert seen.found >= 0.9 - LUCK


@pytest.mark.parametrize("pair", OTHER, ids=_name)
@pytest.mark.parametrize("shape", [s for s in SHAPES if s.epochs >= 6], ids=_name)
def test_intervals_hold_the_truth_of_what_differs(
    recording: Recording, pair: tuple[str, str], shape: Shape
) -> None:
    assert 0.95 - LUCK <= check(recording, *pair, shape, RUNS).covered <= 0.95 + 1.5 * LUCK


def _dropped_at(logs: np.ndarray, shape: Shape, ends: list[int], *, swap: bool) -> list[int]:
    """At which look, from 1, each race over epochs drops the arm; 0: never."""
    levels = looks([end / ends[-1] for end in ends])
    rng, labels = np.random.default_rng(3), np.array(shape.labels)
    return [
        next(
            (
                number
                for number, (end, level) in enumerate(zip(ends, levels, strict=True), 1)
                if hopeless(
                    ratio_of_logs(pairs[labels < end], epochs=labels[labels < end].tolist()), level
                )
            ),
            0,
        )
        for pairs in (drawn(logs, shape, rng, swap=swap) for _ in range(RUNS // 2))
    ]


@pytest.mark.parametrize("pair", SAME, ids=_name)
def test_a_race_keeps_who_is_as_fast(recording: Recording, pair: tuple[str, str]) -> None:
    dropped = _dropped_at(recording.logs(*pair), Shape(8, 6), [2, 4, 6, 8], swap=True)
    assert np.mean(np.array(dropped) > 0) <= 0.05


def test_a_race_soon_drops_who_is_slower(recording: Recording) -> None:
    """unnest takes 40 % longer than copy here."""
    logs = recording.logs("unnest-1", "copy-1")
    dropped = np.array(_dropped_at(logs, Shape(8, 6), [2, 4, 6, 8], swap=False))
    assert (dropped > 0).all()
    assert np.mean(dropped <= 2) >= 0.85


@pytest.mark.parametrize("name", ["2026-11-24-first", "2026-11-24-second"])
def test_a_busy_machine_is_said_to_be_one(name: str) -> None:
    """While these were recorded, other work came and went: a load took up to 3.7 times as long."""
    seconds = read(CORPUS / f"{name}.csv.gz").seconds["yardstick"]
    epochs = np.repeat(np.arange(len(seconds)), seconds.shape[1]).tolist()
    assert drift_of(seconds.ravel(), epochs).contaminated


def test_a_replay_is_a_part_of_the_recording() -> None:
    logs = np.arange(40.0).reshape(4, 10)
    rng = np.random.default_rng(1)
    for _ in range(50):
        pairs = drawn(logs, Shape(3, 4), rng).reshape(3, 4)
        assert (np.diff(pairs) == 1).all(), "blocks stay in order"
        assert (pairs[:, 0] % 2 == 0).all(), "a block stays with the one that reverses it"
        assert len(set(pairs[:, 0] // 10)) == 3, "no epoch twice"
    swapped = np.concatenate([drawn(logs + 1, Shape(4, 2), rng, swap=True) for _ in range(50)])
    assert 100 < (swapped > 0).sum() < 300


def test_a_recording_that_lacks_a_trial_is_refused(tmp_path: Path) -> None:
    name = recordings()[0].name
    text = gzip.decompress((CORPUS / f"{name}.csv.gz").read_bytes()).decode()
    short = text.rstrip("\n").rsplit("\n", 1)[0]
    (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(short.encode()))
    (tmp_path / f"{name}.json").write_text((CORPUS / f"{name}.json").read_text())
    with pytest.raises(ValueError, match="lacks trials"):
        read(tmp_path / f"{name}.csv.gz")


def test_the_evidence_names_every_line() -> None:
    checks = [check(recordings()[0], *pair, Shape(6, 6), 50) for pair in (SAME[0], OTHER[0])]
    text = "\n".join(evidence.report(checks, 50))
    assert f"## {recordings()[0].name}\n" in text
    assert "16 epochs of 14 blocks" in text
    assert "| A/A | copy-1 against copy-2 | 6 x 6 |" in text
    assert "| A/B | copy-1 against copy-more | 6 x 6 |" in text
    assert text.count("A/A claims a difference in") == 2, "of the recording, and of all"
