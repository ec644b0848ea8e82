"""The adaptive chunk size, held against simulated servers: pure, and the same on every machine."""

from __future__ import annotations

import math
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchbench.engine.adapting import MOST_ROWS, AdaptiveSize, FixedSize
from tests.fixtures.pipeline import Network, Simulated, simulate

SIZES = (250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000)
NETWORKS = {
    "loopback": Network(0.002, 2.5e-6),
    "slow flush": Network(0.010, 2.5e-6),
    "5 ms away": Network(0.017, 2.5e-6),
    "trigger": Network(0.003, 40e-6),
    "wide rows": Network(0.002, 40e-6, encode_s_a_row=10e-6),
    "values": Network(0.002, 12e-6, most=5_461, encode_s_a_row=3e-6),
    "dip": Network(0.002, 2.5e-6, dip=(3_000, 5_000, 1.3)),
    "slow client": Network(0.002, 1e-6, encode_s_a_row=2e-6),
}


def run(sizing: AdaptiveSize | FixedSize, network: Network, rows: int, seed: int) -> Simulated:
    return simulate(sizing, rows, 2, network.server(seed), network.encode_s_a_row)


def best_of(network: Network) -> int:
    """The smallest fixed size that is as good as any, by loads of 50 of its own chunks."""

    def speed(size: int) -> float:
        return fmean(size / run(FixedSize(size), network, 50 * size, n).seconds for n in range(4))

    speeds = {size: speed(size) for size in SIZES if size <= network.most}
    return min(size for size in speeds if speeds[size] >= 0.98 * max(speeds.values()))


@pytest.mark.parametrize("start", [1_000, 8_000])
@pytest.mark.parametrize("name", NETWORKS)
def test_as_fast_as_the_best_fixed_size_ramp_included(name: str, start: int) -> None:
    """Loads of 50 best chunks; over 12 seeds, which differ by about 5 %."""
    network = NETWORKS[name]
    best = best_of(network)
    ratios = []
    for seed in range(100, 112):
        adaptive = run(AdaptiveSize(start, network.most), network, 50 * best, seed)
        fixed = run(FixedSize(best), network, 50 * best, seed)
        ratios.append(math.log(fixed.seconds / adaptive.seconds))
    assert math.exp(fmean(ratios)) >= 0.9


def test_a_dip_between_is_jumped() -> None:
    network = Network(0.02, 1e-6, noise=0.0, stalls=0.0, dip=(1_500, 3_000, 2.0))
    sizing = AdaptiveSize(1_000, 10_000_000)
    run(sizing, network, 2_000_000, 1)
    assert sizing.row_count >= 16_000


def test_quiet_servers_settle_on_the_fastest_size() -> None:
    network = Network(0.01, 10e-6, noise=0.0, stalls=0.0, dip=(10_000, 10**8, 1.5))
    sizing = AdaptiveSize(1_000, 10_000_000)
    run(sizing, network, 2_000_000, 1)
    assert (sizing.row_count, sizing.settled) == (8_000, True)


def test_it_settles_and_then_rarely_looks() -> None:
    """Where all sizes are as fast, moving is by chance; looking must still become rare."""
    for seed in range(5):
        sizing = AdaptiveSize(1_000, 10_000_000)
        run(sizing, Network(0.0, 10e-6, noise=0.05, stalls=0.0), 500_000, seed)
        assert sizing.settled
        cuts = run(sizing, Network(0.0, 10e-6, noise=0.05, stalls=0.0), 500_000, seed + 9).cuts
        others = sum(rows for rows in cuts if rows != sizing.row_count)
        assert others <= sum(cuts) / 10


def test_a_server_that_changed_is_found_again() -> None:
    """Large chunks are best for ten seconds, then four times as slow as small ones."""

    def chunk_s(rows: int, at_s: float) -> float:
        return (0.01 + rows * 2e-6) * (4 if at_s > 10 and rows > 20_000 else 1)

    sizing = AdaptiveSize(1_000, 10_000_000)
    cuts = simulate(sizing, 15_000_000, 2, chunk_s).cuts
    assert max(cuts) > 20_000 >= sizing.row_count
    assert fmean(cuts[-30:]) <= 20_000


def test_few_sizes_are_ever_used() -> None:
    for seed in range(5):
        sizing = AdaptiveSize(1_000, 5_461, probe_chunks=2, cold_chunks=2)
        cuts = run(sizing, NETWORKS["values"], 1_000_000, seed).cuts
        assert set(cuts) <= {62, 125, 250, 500, 1_000, 2_000, 4_000, 5_461}


def test_chunks_that_prepare_a_statement_are_not_timed() -> None:
    def chunk_s(rows: int, at_s: float) -> float:
        first = rows not in warm
        warm.add(rows)
        return rows * 1e-6 + 0.01 + (10.0 if first else 0.0)

    warm: set[int] = set()
    sizing = AdaptiveSize(1_000, 10_000_000, cold_chunks=1)
    simulate(sizing, 3_000_000, 1, chunk_s)
    assert sizing.row_count > 16_000


@given(
    start=st.integers(1, 20_000),
    most=st.integers(1, 2_000_000),
    bounds=st.lists(st.integers(1, 300_000), max_size=3),
    outcomes=st.lists(st.one_of(st.none(), st.floats(1e-4, 10)), min_size=1, max_size=300),
)
@settings(max_examples=60)
def test_no_limit_is_ever_passed_whatever_the_server_does(
    start: int, most: int, bounds: list[int], outcomes: list[float | None]
) -> None:
    sizing = AdaptiveSize(start, most)
    limit = min(most, max(start, MOST_ROWS))
    under_way: list[int] = []
    for number, seconds in enumerate(outcomes):
        if bounds and number % 50 == 49:
            limit = min(limit, bounds[-1])
            sizing.bound(bounds.pop())
        under_way.append(sizing.cut())
        assert 1 <= under_way[-1] <= limit
        if len(under_way) > 5:
            sizing.wrote(under_way.pop(0), seconds)
    assert 1 <= sizing.row_count <= limit


def test_a_bound_that_wavers_leaves_one_size() -> None:
    sizing = AdaptiveSize(1_000, 10_000_000)
    cut = set()
    for bound in (13_000, 12_990, 13_010, 12_700):
        sizing.bound(bound)
        simulate(sizing, 500_000, 2, lambda rows, at_s: 0.05 + rows * 1e-6)
        cut.add(sizing.row_count)
    assert cut == {8_000}


def test_disturbed_chunks_end_a_probe_and_teach_nothing() -> None:
    sizing = AdaptiveSize(1_000, 10_000_000)
    cuts = [sizing.cut() for _ in range(16)]
    for rows in cuts:
        sizing.wrote(rows, 0.02)
    probes = [rows for rows in (sizing.cut() for _ in range(4)) if rows != 1_000]
    assert probes == [4_000, 4_000]
    for rows in probes:
        sizing.wrote(rows, None)
    assert sizing.row_count == 1_000
    assert sizing.cut() == 4_000  # it is tried again
    assert not sizing.settled


def test_a_fixed_size_is_fixed() -> None:
    sizing = FixedSize(500)
    sizing.bound(10)
    sizing.wrote(500, 9.0)
    assert (sizing.cut(), sizing.row_count, sizing.settled) == (500, 500, True)


def test_a_probe_whose_rows_never_come_is_given_up() -> None:
    """Rows of a rare shape may wait for others until the load ends."""
    sizing = AdaptiveSize(1_000, 10_000_000)
    lost = 0
    for _ in range(2_000):
        rows = sizing.cut()
        if rows == 1_000:
            sizing.wrote(rows, 0.02)
        else:
            lost += 1
    assert lost == 4  # two probes
    assert sizing.row_count == 1_000
