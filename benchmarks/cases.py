"""What is measured: tables x sources x writers, and the ways of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from batchbench.strategies import strategy_names
from benchmarks import ways
from benchmarks.data import FORMS, Form
from benchmarks.duplicates import DUPLICATES, NONE, Duplicates
from benchmarks.ground import Ground
from benchmarks.ours import OurWay
from benchmarks.tables import TABLES, BenchTable
from benchmarks.ways import Skipped, Way


@dataclass(frozen=True, slots=True)
class Case:
    """One table from one source, with some of its keys there before.

    ours: batchbench's ways. writers: of the limit, for each number that one of ours has.
    size: rows, as a share of the rows asked for: wider tables get fewer.
    converting: whether peers that need another form are measured too.
    """

    table: BenchTable
    form: Form
    ours: tuple[OurWay, ...]
    duplicates: Duplicates = NONE
    size: float = 1.0
    converting: bool = False

    @property
    def name(self) -> str:
        """As --case takes it: table/source, and what is there before."""
        tail = f"/{self.duplicates.name}" if self.table.key else ""
        return f"{self.table.name}/{self.form}{tail}"

    @property
    def title(self) -> str:
        """For people."""
        before = f", {self.duplicates.label}" if self.table.key else ""
        keyed = " (ON CONFLICT DO NOTHING)" if self.table.key else ""
        return f"{self.table.name}{keyed} from {_FORM_TITLES[self.form]}{before}"

    def ways(self, ground: Ground) -> tuple[list[Way], list[Skipped]]:
        """All ways, the limit first, and those that cannot run."""
        writers = sorted({1} | {ours.writers for ours in self.ours})
        found: list[Way | Skipped] = [
            ways.limit_way(ground, self.table, count, self.duplicates) for count in writers
        ]
        found += [ways.our_way(ours) for ours in self.ours]
        peers = ways.peers_of(self.table, self.form, converting=self.converting)
        found += [ways.peer_way(peer, self.table) for peer in peers]
        usable = [way for way in found if isinstance(way, Way)]
        return usable, [way for way in found if isinstance(way, Skipped)]


_FORM_TITLES = {
    "tuples": "Python tuples",
    "arrow": "Arrow",
    "parquet": "a Parquet file",
    "csv": "a CSV file",
}
# Against the server alone a load must be long enough for connecting not to count.
_STRETCH: dict[Form, float] = {"tuples": 2.5, "arrow": 5.0, "parquet": 5.0, "csv": 2.5}
_SIZES = {"activity36": 0.5, "flights": 0.75, "events": 0.75, "heart_rate_keyed": 0.5}

# VALUES loses to all of them, and costs the time of several
_STRATEGIES = tuple(
    OurWay(name, "psycopg", per_chunk=True) for name in strategy_names() if name != "values"
)
_PLAIN: dict[Form, tuple[OurWay, ...]] = {
    "tuples": (ways.COPY, ways.VALUES),
    "arrow": (
        ways.COPY,
        ways.COPY_2,
        ways.COPY_CHUNKS,
        ways.COPY_CHUNKS_LEDGER,
        ways.COPY_ASYNCPG,
        ways.UNNEST,
        ways.VALUES,
    ),
    "parquet": (ways.COPY, ways.COPY_2, ways.COPY_CHUNKS, ways.COPY_CHUNKS_LEDGER),
    "csv": (ways.COPY, ways.COPY_2),
}
_MORE = (ways.UNNEST_ASYNCPG, ways.VALUES_ASYNCPG, ways.COPY_ASYNCPG_2)


def short_cases() -> list[Case]:
    """What `make bench` runs: every table, every source, every kind of duplicates, each once."""
    heart_rate = [
        Case(TABLES["heart_rate"], form, _PLAIN[form], size=_STRETCH.get(form, 1.0))
        for form in FORMS
    ]
    keyed = [_keyed("arrow", duplicates) for duplicates in DUPLICATES.values()]
    wide = [
        _plain("activity36", "arrow", (ways.COPY,)),
        _plain("flights", "parquet", (ways.COPY,)),
        _plain("flights", "csv", (ways.COPY,)),
        _plain("events", "tuples", (ways.COPY,)),
        _plain("events", "arrow", (ways.COPY,)),
    ]
    return [*heart_rate, *keyed, *wide]


def full_cases() -> list[Case]:
    """Every table from every source, peers that convert included."""
    plain = [
        Case(table, form, (*_PLAIN[form], *(_MORE if form == "arrow" else ())),
             size=_SIZES.get(table.name, 1.0), converting=True)
        for table in TABLES.values() if not table.key
        for form in FORMS
    ]  # fmt: skip
    keyed = [
        _keyed(form, duplicates, converting=True)
        for form in FORMS
        for duplicates in DUPLICATES.values()
        if form == "arrow" or duplicates is NONE
    ]
    return plain + keyed


def chosen(cases: Sequence[Case], patterns: Sequence[str]) -> list[Case]:
    """Cases whose name has one of the patterns in it; all without a pattern."""
    return [c for c in cases if not patterns or any(pattern in c.name for pattern in patterns)]


def _plain(table: str, form: Form, ours: tuple[OurWay, ...]) -> Case:
    return Case(TABLES[table], form, ours, size=_SIZES[table])


def _keyed(form: Form, duplicates: Duplicates, *, converting: bool = False) -> Case:
    table = TABLES["heart_rate_keyed"]
    ours = (ways.AUTO, ways.AUTO_CHUNKS, *_STRATEGIES)
    if duplicates is NONE:
        ours = (*ours, ways.AUTO_CHUNKS_LEDGER)
    size = _SIZES[table.name]
    if duplicates.name == "chunks":  # one chunk of twenty: there have to be twenty
        size *= 2
    return Case(table, form, ours, duplicates, size=size, converting=converting)
