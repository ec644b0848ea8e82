"""Loads, faults, crashes and resumes in any order, held against a model after each step.

Hypothesis chooses the steps. Every load has rows of its own, so the model is small: which of them
are good, and which were seen in the table; what was there once has to stay, once.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from batchbench.accounting import LoadResult
from batchbench.config import Settings
from batchbench.engine import LoadError, load
from batchbench.errors import BatchbenchError, ConfigError
from batchbench.events import Event, LoadStarted
from batchbench.servers import Cluster
from batchbench.sources import open_source
from batchbench.table import TableName
from tests.fixtures.faults import open_own_cluster
from tests.fixtures.loading import COMBINATIONS, execute, options, query
from tests.fixtures.servers import fresh_database
from tests.proxy import (
    COMMIT,
    READY,
    ROWS,
    Fault,
    Fired,
    Kind,
    Trigger,
    When,
    cut_commit_after,
    cut_commit_before,
    cut_commit_blind,
    open_proxy,
)

LIMIT_S = 30.0
QUICK = Settings(initial_backoff_ms=1, max_backoff_ms=20, reconnect_timeout_s=5.0)
GOOD_AND_BAD = "CREATE TABLE t (id int4, amount int4 CHECK (amount >= 0))"


@dataclass(frozen=True, slots=True)
class How:
    """A configuration of one start of a load; a resumed load may have another one."""

    combination: tuple[str, str]
    chunk_rows: int
    writers: int
    transaction: str | int
    max_retries: int


HOWS = st.builds(
    How,
    st.sampled_from(COMBINATIONS),
    st.integers(3, 12),
    st.integers(1, 3),
    st.sampled_from(("chunk", "chunk", 2, "batch")),
    st.sampled_from((0, 0, 2)),
)


@dataclass(frozen=True, slots=True)
class Harm:
    """What happens to a start: at which message of its kind, how often."""

    kind: str
    nth: int
    times: int


HARMS = st.builds(
    Harm,
    st.sampled_from(("before", "after", "blind", "half-open", "rows", "answer", "ended")),
    st.integers(2, 6),
    st.integers(1, 2),
)


@dataclass(slots=True)
class Begun:
    """A load as the model knows it. there: ids that were seen in the table."""

    path: Path
    good: frozenset[int]
    bad: frozenset[int]
    load_id: str = ""
    done: bool = False
    there: set[int] = field(default_factory=set)
    result: LoadResult | None = None

    @property
    def dead_letter(self) -> Path:
        """Where its rejected rows go."""
        return self.path.with_suffix(".rejects")

    def dead(self) -> list[int]:
        """The row numbers in it."""
        if not self.dead_letter.exists():
            return []
        return [
            json.loads(line)["row_number"] for line in self.dead_letter.read_text().splitlines()
        ]


def faults_of(harm: Harm | None, dsn: str) -> list[Fault]:
    """For the proxy. Commits of the preparation count too: nothing is sent yet then."""
    if harm is None:
        return []

    async def end(fired: Fired) -> None:
        sql = f"SELECT pg_terminate_backend({fired.backend_pid}, 5000)"
        await asyncio.to_thread(execute, dsn, sql)

    nth, times = harm.nth, harm.times
    return {
        "before": [cut_commit_before(nth, times=times)],
        "after": [cut_commit_after(nth, times=times)],
        "blind": [cut_commit_blind(nth, times=times)],
        "half-open": [cut_commit_blind(nth, times=times, half_open=True)],
        "rows": [Fault(Kind.CUT, Trigger(ROWS, nth), times=times)],
        "answer": [Fault(Kind.CUT, Trigger(READY, 9 + 3 * nth), When.BEFORE, times=times)],
        "ended": [Fault(Kind.CALL, Trigger(COMMIT, nth), When.BEFORE, times=times, call=end)],
    }[harm.kind]


class Loads(RuleBasedStateMachine):
    """See the module."""

    cluster: ClassVar[Cluster]
    begun = Bundle("begun")

    def __init__(self) -> None:
        super().__init__()
        self._stack = ExitStack()
        self._loads: list[Begun] = []
        self._next_id = 1

    @initialize()
    def make_table(self) -> None:
        """An empty database."""
        self.dsn = self._stack.enter_context(fresh_database(self.cluster))
        folder = tempfile.TemporaryDirectory(prefix="batchbench-machine-")
        self.folder = Path(self._stack.enter_context(folder))
        execute(self.dsn, GOOD_AND_BAD)

    @rule(
        target=begun,
        count=st.integers(20, 80),
        bad=st.sets(st.integers(0, 79), max_size=3),
        how=HOWS,
        harm=HARMS,
    )
    def start(self, count: int, bad: set[int], how: How, harm: Harm) -> object:
        """A new load, under a fault."""
        ids = range(self._next_id, self._next_id + count)
        self._next_id += count
        amounts = [-1 if place in bad else 5 for place in range(count)]
        path = self.folder / f"{ids[0]}.parquet"
        pq.write_table(pa.table({"id": pa.array(ids, pa.int32()), "amount": amounts}), path)
        one = Begun(
            path,
            frozenset(i for i, amount in zip(ids, amounts, strict=True) if amount >= 0),
            frozenset(place + 1 for place in bad if place < count),
        )
        self._run(one, how, harm)
        self._loads.append(one)
        return one if one.load_id else multiple()

    @rule(one=begun, how=HOWS, harm=HARMS)
    def resume(self, one: Begun, how: How, harm: Harm) -> None:
        """Go on with a load, done or not, in another way, perhaps under another fault."""
        self._run(one, how, harm)

    @rule(one=begun, how=HOWS)
    def resume_in_peace(self, one: Begun, how: How) -> None:
        """Without a fault it has to end well."""
        self._run(one, how, None)
        assert one.done

    @rule(one=begun)
    def resume_with_another_file(self, one: Begun) -> None:
        """Is refused."""
        other = self.folder / "other.parquet"
        pq.write_table(pa.table({"id": pa.array([-1], pa.int32()), "amount": [1]}), other)
        with pytest.raises(ConfigError):
            asyncio.run(self._load(one, other, HOW_PLAIN, self.dsn))

    @rule(one=begun)
    def crash(self, one: Begun) -> None:
        """The server loses all that is not durable; some load has been begun by then."""
        self.cluster.restart("immediate")

    @invariant()
    def table_is_as_the_model_says(self) -> None:
        """Each row at most once, each load's rows as it counted them, none of anybody else."""
        stored = Counter(row[0] for row in query(self.dsn, "SELECT id FROM t"))
        assert all(copies == 1 for copies in stored.values()), "doubled rows"
        there = set(stored)
        for one in self._loads:
            ours = there & one.good
            there -= ours
            assert one.there <= ours, "rows that were there are gone"
            one.there = ours
            self._check(one, ours)
        assert not there, "rows that nobody sent, or that were rejected"

    def _check(self, one: Begun, ours: set[int]) -> None:
        dead = one.dead()
        assert len(dead) == len(set(dead)), "a row is twice in the dead letter"
        assert set(dead) <= one.bad
        if one.done:
            assert ours == one.good
            assert set(dead) == one.bad
        if one.result is None:
            return
        total = one.result.total
        assert total.read == total.accounted
        assert total.committed == len(ours)
        assert total.rejected == len(dead)
        assert (total.unknown, total.duplicates, total.skipped_by_server) == (0, 0, 0)
        assert total.unwritten >= 0
        assert not one.done or total.unwritten == 0

    def _run(self, one: Begun, how: How, harm: Harm | None) -> None:
        """One start; what the load says of itself is kept for the invariant."""
        one.result = None
        try:
            one.result = asyncio.run(self._under_harm(one, how, harm))
            one.done = True
        except LoadError as error:
            one.result, one.done = error.result, False
        except BatchbenchError:
            pass  # nothing was sent by this start: no counts to check, the rows stay checked

    async def _under_harm(self, one: Begun, how: How, harm: Harm | None) -> LoadResult:
        faults = faults_of(harm, self.dsn)
        async with open_proxy(self.dsn, *faults, tolerate_outages=True) as proxy:
            try:
                return await self._load(one, one.path, how, proxy.dsn)
            finally:
                proxy.release()

    async def _load(self, one: Begun, path: Path, how: How, dsn: str) -> LoadResult:
        strategy, driver = how.combination

        def listen(event: Event) -> None:
            if isinstance(event, LoadStarted):
                one.load_id = event.load_id

        loading = load(
            open_source(path),
            {None: TableName("t")},
            dsn,
            options(
                settings=QUICK.model_copy(update={"max_retries": how.max_retries}),
                strategy=strategy,
                driver=driver,
                chunk_size=how.chunk_rows,
                parallelism=how.writers,
                transaction=how.transaction,
                on_reject="skip",
                exactly_once="ledger",
                dead_letter=one.dead_letter,
                wait_limit_s=5.0,
            ),
            resume=one.load_id or None,
            on_event=listen,
        )
        return await asyncio.wait_for(loading, LIMIT_S)

    def teardown(self) -> None:
        """Drop the database."""
        self._stack.close()


HOW_PLAIN = How(("copy", "psycopg"), 10, 1, "chunk", 0)


@pytest.fixture(scope="module")
def killable() -> Iterator[Cluster]:
    """A server of these tests' own."""
    with open_own_cluster() as cluster:
        yield cluster


@pytest.mark.timeout(120)
def test_loads_faults_and_resumes_in_any_order(killable: Cluster) -> None:
    Loads.cluster = killable
    run_state_machine_as_test(
        Loads,
        settings=settings(
            max_examples=16,
            phases=[Phase.generate],  # shrinking would take longer than a test may
            stateful_step_count=10,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
