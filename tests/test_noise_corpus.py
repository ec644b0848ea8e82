"""The statistics on trials as a real machine gave them, replayed from the noise corpus."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import chain

import numpy as np
import pytest

from batchbench.stats import Finding, Ratio, drift_of, judge, looks, p_value, ratio_of_logs
from tests.noise.replay import CORPUS, Recording, Shape, drawn, recordings, replays, share

RUNS = 2_000
SAME = [("copy-1", "copy-2"), ("unnest-1", "unnest-2")]
SHAPES = [Shape(3, 10), Shape(6, 6), Shape(6, 10), Shape(10, 10)]

# One machine's dozen epochs stand for all epochs: a share of 2,000 replays is as far off as theirs.
LUCK = 0.02

recorded = pytest.mark.parametrize("recording", recordings(), ids=lambda recording: recording.name)
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def different(ratio: Ratio) -> bool:
    return judge(ratio).finding is Finding.DIFFERENT


def holds_one(ratio: Ratio) -> bool:
    return ratio.low is not None and ratio.high is not None and ratio.low <= 1 <= ratio.high


def plus(ratio: Ratio, difference: float) -> Ratio:
    """The same run, had the difference been larger by that share."""
    assert ratio.low is not None
    assert ratio.high is not None
    times = 1 + difference
    return replace(
        ratio, estimate=ratio.estimate * times, low=ratio.low * times, high=ratio.high * times
    )


@cache
def of_the_same(shape: Shape, seed: int = 1) -> list[list[Ratio]]:
    """A/A replays of every recording and couple, `RUNS` in all."""
    couples = [(recording, *names) for recording in recordings() for names in SAME]
    runs = RUNS // len(couples)
    return [replays(r.logs(a, b), shape, runs, swap=True, seed=seed) for r, a, b in couples]


def test_the_corpus_is_small_and_says_where_it_ran() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 300_000
    assert len(recordings()) >= 2
    for recording in recordings():
        assert recording.about["note"], "what else the machine did"
        assert all(len(seconds) >= 6 for seconds in recording.seconds.values()), "epochs"


@shapes
def test_the_same_under_two_names_is_not_called_different(shape: Shape) -> None:
    groups = of_the_same(shape)
    assert share(list(chain(*groups)), different) <= 0.05
    assert max(share(group, different) for group in groups) <= 0.05 + LUCK


@shapes
def test_intervals_hold_the_truth(shape: Shape) -> None:
    groups = of_the_same(shape)
    covered = share(list(chain(*groups)), holds_one)
    assert covered >= 0.93
    # Fewer epochs are helped by what is known of servers, and wider where these differ less.
    assert shape.epochs < 6 or covered <= 0.97
    assert min(share(group, holds_one) for group in groups) >= 0.93 - LUCK


@shapes
def test_what_one_replay_says_it_finds_the_next_one_does(shape: Shape) -> None:
    told = [judge(ratio).smallest or 9 for group in of_the_same(shape) for ratio in group]
    nexts = [ratio for group in of_the_same(shape, seed=2) for ratio in group]
    typical = float(np.median(told))
    assert share([plus(ratio, typical) for ratio in nexts], different) >= 0.9
    own = [plus(ratio, difference) for ratio, difference in zip(nexts, told, strict=True)]
    # these trials have heavier tails than a normal distribution
    assert share(own, different) >= 0.87


@recorded
def test_a_whole_recording_tells_copy_from_unnest_and_nothing_from_itself(
    recording: Recording,
) -> None:
    def verdict(one: str, other: str) -> Finding:
        logs = recording.logs(one, other)
        epochs = np.repeat(np.arange(len(logs)), logs.shape[1]).tolist()
        return judge(ratio_of_logs(logs.ravel(), epochs=epochs)).finding

    assert verdict("copy-1", "unnest-1") is Finding.DIFFERENT
    for one, other in SAME:
        assert verdict(one, other) is not Finding.DIFFERENT


@recorded
def test_looking_four_times_claims_no_more(recording: Recording) -> None:
    """Whole epochs come in between the looks, as in a race."""
    rng, ends = np.random.default_rng(3), [3, 6, 9, 12]
    levels = looks([end / ends[-1] for end in ends])
    shape, false, runs = Shape(ends[-1], 8), 0, 500
    for _ in range(runs):
        logs = drawn(recording.logs(*SAME[0]), shape, rng, swap=True)
        for end, level in zip(ends, levels, strict=True):
            pairs = end * shape.pairs
            ratio = ratio_of_logs(logs[:pairs], epochs=shape.labels[:pairs])
            if (p_value(ratio) or 0) <= level:
                false += 1
                break
    assert false / runs <= 0.05 + LUCK


@recorded
def test_what_a_busy_machine_gave_is_called_contaminated(recording: Recording) -> None:
    """Both cores were in other use nearly all the time; its yardstick says so."""
    seconds = recording.seconds["yardstick"]
    epochs = np.repeat(np.arange(len(seconds)), seconds.shape[1]).tolist()
    busy = float(np.mean(recording.about["cores_busy"]))
    assert busy < 1.7 or drift_of(seconds.ravel(), epochs).contaminated
