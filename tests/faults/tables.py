"""Tables that bite, and tables that change under a load."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from batchbench.engine import LoadError
from batchbench.errors import TableError
from batchbench.strategies import OnConflict
from tests.faults.cases import Case, make_table, never, note_fired, nothing, on_wire, settle
from tests.faults.invariants import Expected
from tests.faults.scene import Scene
from tests.faults.setup import Setup
from tests.faults.wire import ROWS, some_chunk, some_commit
from tests.proxy import QUERY, Fault, Kind, Passing, Trigger, When, cut_commit_blind, open_proxy

ALL_GOOD: dict[str, Any] = {"bad": {}}
TAKEN: dict[str, Any] = {"bad": {}, "keyed": True, "on_conflict": OnConflict.NOTHING}


def cut_somewhere(scene: Scene) -> list[Fault]:
    """Beside what the table does, the network fails too."""
    return [Fault(Kind.CUT, Trigger(ROWS, some_chunk(scene)))]


def trigger_sql(name: str, body: str, when: str = "BEFORE INSERT ON t FOR EACH ROW") -> str:
    """A trigger on the table."""
    return (
        f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$;"
        f" CREATE TRIGGER {name} {when} EXECUTE FUNCTION {name}()"
    )


def dropped(setup: Setup) -> Expected:
    """Each seventh row is dropped by the trigger."""
    return Expected.of(setup, skipped=frozenset(n for n in setup.rows() if n % 7 == 0))


def duplicates(setup: Setup) -> Expected:
    """The keys of each fifth row are there already."""
    return Expected.of(setup, duplicates=frozenset(n for n in setup.rows() if n % 5 == 0))


def _holds_keys(scene: Scene) -> str:
    last = scene.setup.row_count
    return f"INSERT INTO t SELECT -n, n, 0, 'old' FROM generate_series(5, {last}, 5) AS n"


def _drops(scene: Scene) -> str:
    return trigger_sql("drops", "IF NEW.row_id % 7 = 0 THEN RETURN NULL; END IF; RETURN NEW;")


def _floods(scene: Scene) -> str:
    return trigger_sql("floods", "RAISE NOTICE '%', repeat('x', 8000); RETURN NEW;")


def _refuses(scene: Scene) -> str:
    """A trigger that raises an error of its own."""
    return trigger_sql(
        "refuses", "IF NEW.row_id % 50 = 7 THEN RAISE EXCEPTION 'no'; END IF; RETURN NEW;"
    )


def _defers(scene: Scene) -> str:
    return "ALTER TABLE t ADD UNIQUE (key) DEFERRABLE INITIALLY DEFERRED"


def _secures(scene: Scene) -> str:
    """Row security: the role that loads may not insert each fiftieth row."""
    scene.role = "faults_loader"
    return """
        DO $$ BEGIN CREATE ROLE faults_loader LOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        DO $$ BEGIN EXECUTE format('GRANT ALL ON DATABASE %I TO faults_loader',
            current_database()); END $$;
        GRANT ALL ON t TO faults_loader;
        ALTER TABLE t ENABLE ROW LEVEL SECURITY;
        CREATE POLICY most ON t TO faults_loader USING (true) WITH CHECK (row_id % 50 <> 7)
    """


_RULES = (
    "CREATE RULE loses AS ON INSERT TO t DO INSTEAD NOTHING",
    "CREATE RULE loses AS ON INSERT TO t WHERE NEW.row_id % 7 = 0 DO INSTEAD NOTHING",
    "CREATE RULE doubles AS ON INSERT TO t WHERE NEW.row_id < 9000 DO ALSO INSERT INTO t VALUES"
    " (NEW.row_id + 10000, NEW.key + 10000, 1, 'doubled')",
)


def _each_fiftieth(kind: str) -> dict[int, str]:
    return dict.fromkeys(range(7, 300, 50), kind)


def _poison(where: str, rng: random.Random) -> dict[int, str]:
    numbers = {
        "first": [1],
        "last": [300],
        "first and last": [1, 300],
        "all": range(1, 301),
        "half": rng.sample(range(1, 301), 150),
    }[where]
    return {number: rng.choice(("check", "null", "range")) for number in sorted(numbers)}


def _poisons() -> list[dict[int, str]]:
    rng = random.Random(26)
    return [
        _poison(where, rng) for where in ("first", "last", "first and last", "all", "half", "half")
    ]


def _begins_anew(passing: Passing) -> bool:
    return QUERY(passing) and passing.query.startswith("BEGIN")


async def altered(case: Case, scene: Scene) -> None:
    """ALTER TABLE ... TYPE real between two chunks: the load stops, and what is there is whole."""
    make_table(case, scene)

    async def alter(fired: object) -> None:
        await asyncio.to_thread(scene.sql, "ALTER TABLE t ALTER amount TYPE real")

    between = Trigger(_begins_anew, scene.rng.randint(1, scene.setup.commits - 1), since=ROWS)
    fault = Fault(Kind.CALL, between, When.BEFORE, call=alter)
    async with open_proxy(scene.dsn, fault) as proxy:
        scene.proxy = proxy
        outcome = await scene.load(proxy.dsn)
        scene.tally.fired += len(proxy.fired)
    scene.claim(scene.tally.fired == 1, "the fault never happened")
    cause = outcome.error.cause if isinstance(outcome.error, LoadError) else outcome.error
    scene.claim(isinstance(cause, TableError), f"not stopped by a TableError: {cause!r}")
    await settle(case, scene, outcome)


async def ruled(case: Case, scene: Scene) -> None:
    """A rewrite rule: INSERT would obey it and COPY would not, so nothing is sent by either."""
    make_table(case, scene)
    outcome = await scene.load(scene.dsn)
    refused = isinstance(outcome.error, TableError) and "rule" in str(outcome.error)
    scene.claim(refused and outcome.result is None, f"not refused: {outcome.error!r}")
    note_fired(case, scene, int(refused))
    scene.judge(outcome)


CASES = (
    Case(
        "BEFORE trigger drops rows",
        on_wire(cut_somewhere),
        ALL_GOOD,
        prepare=_drops,
        expected=dropped,
    ),
    Case(
        "duplicates and a cut",
        on_wire(cut_somewhere),
        {**TAKEN, "strategy": ["values", "unnest", "copy", "optimistic"]},
        runs=3,
        prepare=_holds_keys,
        expected=duplicates,
    ),
    Case(
        "duplicates and a lost COMMIT",
        on_wire(lambda s: [cut_commit_blind(some_commit(s), since=ROWS)]),
        {**TAKEN, "strategy": ["values", "unnest", "copy", "optimistic"]},
        runs=3,
        prepare=_holds_keys,
        expected=duplicates,
        lost_commit=True,
    ),
    Case("NOTICE flood", nothing, prepare=_floods, fixed={"row_count": 300}),
    Case("NOTICE flood and a cut", on_wire(cut_somewhere), prepare=_floods),
    Case(
        "a trigger raises",
        on_wire(cut_somewhere),
        {"bad": _each_fiftieth("raised"), "row_count": 300},
        prepare=_refuses,
    ),
    Case(
        "deferred unique constraint",
        on_wire(cut_somewhere),
        {"keyed": False, "bad": _each_fiftieth("twin"), "row_count": 300},
        prepare=_defers,
    ),
    Case(
        "row security",
        on_wire(cut_somewhere),
        {
            "bad": _each_fiftieth("secured"),
            "row_count": 300,
            "strategy": ["values", "unnest"],
        },
        prepare=_secures,
    ),
    Case("poison rows", nothing, {"bad": _poisons(), "row_count": 300}, runs=3),
    Case("poison rows and a cut", on_wire(cut_somewhere), {"bad": _poisons(), "row_count": 300}),
    Case(
        "rewrite rule, refused",
        nothing,
        {"version": ["pg18", "pg15"]},
        prepare=lambda scene: scene.rng.choice(_RULES),
        play=ruled,
    ),
    Case(
        "ALTER TABLE between chunks",
        nothing,
        {"parallelism": 1, "transaction": ["chunk", 3], "bad": {}, "exactly_once": "ledger"},
        play=altered,
        must_finish=never,
    ),
)
