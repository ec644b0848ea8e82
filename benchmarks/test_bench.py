"""The main ways under pytest-benchmark, and tests of the benchmark itself.

`pytest benchmarks/ --benchmark-enable --benchmark-only` measures; without these options every
way loads a few rows once and they are checked. Comparable ratios come from `make bench`, which
interleaves: pytest-benchmark runs one way after the other.
"""

from __future__ import annotations

import psycopg
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks import ways
from benchmarks.cases import Case, full_cases, short_cases
from benchmarks.data import FORMS, Inputs
from benchmarks.duplicates import NONE
from benchmarks.ground import Ground, LandedWrongError
from benchmarks.measure import Plan, measure
from benchmarks.ours import OurWay
from benchmarks.peers import PEERS
from benchmarks.results import CaseResult, Sample, WayResult
from benchmarks.tables import TABLES
from benchmarks.wanted import held_against

pytestmark = [
    pytest.mark.filterwarnings("default"),  # peers may warn; it is not ours to fail on
    pytest.mark.timeout(600),
]

_MEASURED_ROWS = 100_000
_CHECKED_ROWS = 500
_ROUNDS = 5


def _main_ways() -> list[tuple[Case, str]]:
    """The first cases of every source, by every way that runs at full size; and keyed ones."""
    found = []
    for case in short_cases():
        names = [ours.name for ours in case.ours]
        peers = ways.peers_of(case.table, case.form, converting=False)
        names += [peer.name for peer in peers if peer.most_values is None]
        names.append(ways.limit_name(1, staged=case.duplicates is not NONE))
        found += [(case, name) for name in names]
    return found


@pytest.mark.parametrize(
    ("case", "way_name"), [pytest.param(c, n, id=f"{c.name}: {n}") for c, n in _main_ways()]
)
def test_load(
    case: Case, way_name: str, ground: Ground, inputs: Inputs, benchmark: BenchmarkFixture
) -> None:
    found, skipped = case.ways(ground)
    for one in skipped:
        if one.name == way_name:
            pytest.skip(one.reason)
    way = next(way for way in found if way.name == way_name)
    asked = _CHECKED_ROWS if benchmark.disabled else round(_MEASURED_ROWS * case.size)
    row_count = ground.keep_rows(case.table, asked)
    data = inputs.get(case.table, case.form, row_count)
    benchmark.group = case.name
    benchmark.extra_info.update(rows=row_count, transaction=way.transaction, writers=way.writers)
    if way.kind == "limit":
        ground.server_files(case.table, row_count, way.writers)

    def clean() -> tuple[tuple[object, ...], dict[str, object]]:
        ground.reset(case.table, row_count, case.duplicates)
        return (ground.dsn, case.table, data), {}

    def loaded(*_: object) -> None:
        ground.check(case.table, row_count, case.duplicates)

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        way.load, setup=clean, teardown=loaded, rounds=_ROUNDS, warmup_rounds=0, iterations=1
    )


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE heart_rate SET heart_rate = heart_rate + 1 WHERE ctid = '(0,7)'",
        "UPDATE heart_rate SET context = NULL WHERE ctid = (SELECT min(ctid) FROM heart_rate"
        " WHERE context IS NOT NULL)",
        "DELETE FROM heart_rate WHERE ctid = '(0,7)'",
        "INSERT INTO heart_rate SELECT * FROM heart_rate WHERE ctid = '(0,7)'",
    ],
)
def test_wrong_rows_are_found(change: str, ground: Ground, inputs: Inputs) -> None:
    table = TABLES["heart_rate"]
    ground.keep_rows(table, _CHECKED_ROWS)
    ground.reset(table, _CHECKED_ROWS)
    ways.COPY.load(ground.dsn, table, inputs.get(table, "arrow", _CHECKED_ROWS))
    ground.check(table, _CHECKED_ROWS)
    with psycopg.connect(ground.dsn) as connection:
        assert connection.execute(change.encode()).rowcount == 1
    with pytest.raises(LandedWrongError):
        ground.check(table, _CHECKED_ROWS)


def test_a_way_that_loses_rows_has_failed(
    ground: Ground, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(TABLES["heart_rate"], "tuples", (ways.COPY,))

    def half(self: OurWay, dsn: str, table: object, data: object) -> None:
        kept = inputs.get(case.table, "tuples", _CHECKED_ROWS // 2)
        self.result(dsn, case.table, kept)

    monkeypatch.setattr(OurWay, "load", half)
    plan = Plan(rows=_CHECKED_ROWS, repeats=1, seed=0, stretch=0.001)
    result = measure(case, ground, inputs, plan, lambda _: None)
    assert "LandedWrongError" in result.failures[ways.COPY.name]
    assert not any(way.failure for way in result.ways if way.kind != "ours")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["heart_rate", "activity36", "flights", "events"])
def test_every_form_holds_the_same_rows(form: str, name: str, inputs: Inputs) -> None:
    table = TABLES[name]
    wanted = inputs.get(table, "tuples", 700).tuple_list()
    got = next(inputs.get(table, one, 700) for one in FORMS if one == form)
    assert got.tuple_list() == wanted
    first = inputs.get(table, "tuples", 70).tuple_list()
    assert first == wanted[:70]


def test_ratios_are_paired_by_round() -> None:
    fast = WayResult("a", "ours", 1, "one", 100, (Sample(0, 0, 1.0), Sample(1, 0, 4.0)))
    slow = WayResult("b", "peer", 1, "one", 50, (Sample(1, 1, 8.0), Sample(0, 1, 1.0)))
    ratio = fast.over(slow)
    assert (ratio.median, ratio.low, ratio.high, ratio.pairs) == (3.0, 2.0, 4.0, 2)


def test_what_was_not_measured_is_not_met() -> None:
    lines = held_against([], None, None)
    assert len(lines) == 19
    assert all(line.met is None for line in lines)


def test_a_ratio_is_held_against_the_goal() -> None:
    def way(name: str, kind: str, seconds: float) -> WayResult:
        return WayResult(name, kind, 1, "one", 100, (Sample(0, 0, seconds),))

    found = (way(ways.LIMIT, "limit", 1.0), way(ways.COPY.name, "ours", 1.1))
    case = CaseResult("heart_rate/arrow", "", 100, 6, found, {})
    verdicts = {line.what: line.met for line in held_against([case], None, None)}
    assert verdicts["Arrow -> copy, no index, 1 writer(s), against the server alone"] is True
    assert list(verdicts.values()).count(None) == len(verdicts) - 1


def test_every_peer_is_in_the_short_run_or_the_full_one() -> None:
    served = {
        peer.name
        for case in full_cases()
        for peer in ways.peers_of(case.table, case.form, converting=case.converting)
    }
    assert served == {peer.name for peer in PEERS}
