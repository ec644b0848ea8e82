"""Settings, connection strings and child environments: `batchbench/config.py`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from batchbench.config import (
    METRIC_TABLES,
    DsnFound,
    Settings,
    child_environment,
    chunk_variable,
    find_dsn,
    load_settings,
    masked,
)
from batchbench.errors import ConfigError


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run in a folder without a .env."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def settings_of(**environ: str) -> Settings:
    settings, warnings = load_settings(environ=environ)
    assert warnings == []
    return settings


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(environ=environ)
    message = str(caught.value)
    assert "\n" not in message
    assert "pydantic" not in message
    return message


def test_defaults_are_those_of_the_design() -> None:
    settings = settings_of()
    assert (settings.strategy, settings.driver) == (None, None)
    assert (settings.parallelism, settings.enable_parallel, settings.writers) == (2, True, 2)
    assert settings.memory_limit_mb == 500.0
    assert (settings.max_retries, settings.initial_backoff_ms, settings.max_backoff_ms) == (
        3,
        100,
        5000,
    )
    assert (settings.reconnect_timeout_s, settings.enable_deduplication) == (60.0, False)
    sizes = [settings.chunk_size(metric) for metric in METRIC_TABLES]
    assert sizes == [8000, 8000, 6000, 6500, 5000]
    assert settings.chunk_size("anything else") == 5000


def test_the_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_PARALLELISM", "7")
    Path(".env").write_text("BATCH_PARALLELISM=9\n")
    assert Settings().parallelism == 2
    assert load_settings()[0].parallelism == 7


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        settings_of().parallelism = 3  # type: ignore[misc]


def test_strings_become_values() -> None:
    settings = settings_of(
        BATCH_STRATEGY=" copy ",
        BATCH_DRIVER="psycopg",
        BATCH_HEART_RATE_CHUNK_SIZE=" 8_001 ",
        BATCH_ENABLE_PARALLEL="false",
        BATCH_MEMORY_LIMIT_MB="64.5",
    )
    assert (settings.strategy, settings.driver) == ("copy", "psycopg")
    assert settings.chunk_size("heart_rate") == 8001
    assert settings.writers == 1
    assert settings.memory_limit_mb == 64.5
    assert settings_of(BATCH_STRATEGY="auto").strategy is None


@pytest.mark.parametrize(("metric", "table"), METRIC_TABLES.items())
def test_a_metric_is_found_by_its_name_and_by_its_table(metric: str, table: str) -> None:
    variable = f"BATCH_{metric.upper()}_CHUNK_SIZE"
    settings = settings_of(**{variable: "77"})
    for name in (metric, table, f"public.{table}", f'"public"."{table}"'):
        assert settings.chunk_size(name) == 77
        assert settings.chunk_setting(name).variable == chunk_variable(name) == variable


@pytest.mark.parametrize(
    ("variable", "table"),
    [
        ("BATCH_ORDERS_CHUNK_SIZE", "orders"),
        ("BATCH_ORDERS_CHUNK_SIZE", "shop.Orders"),
        ("BATCH_SHOP_ORDERS_CHUNK_SIZE", "shop.orders"),
        ("BATCH_MY_ORDERS_2_CHUNK_SIZE", "my -- orders.2"),
        ("BATCH__HIDDEN_CHUNK_SIZE", "_hidden"),
        ("BATCH_GRÖSSE_CHUNK_SIZE", "größe"),
        ("BATCH_GR_E_CHUNK_SIZE", "größe"),
        ("BATCH_WORKOUTS_CHUNK_SIZE", "workouts"),
    ],
)
def test_other_tables_have_variables_of_their_own(variable: str, table: str) -> None:
    settings = settings_of(**{variable: "123"})
    assert settings.chunk_size(table) == 123
    assert settings.chunk_setting(table).origin == "environment"
    assert settings.chunk_size("unrelated") == 5000


def test_the_full_name_goes_before_the_bare_one() -> None:
    settings = settings_of(BATCH_SHOP_ORDERS_CHUNK_SIZE="1", BATCH_ORDERS_CHUNK_SIZE="2")
    assert settings.chunk_size("shop.orders") == 1
    assert settings.chunk_size("store.orders") == 2


def test_the_environment_wins_over_the_file_and_both_are_named(tmp_path: Path) -> None:
    file = tmp_path / "chosen.env"
    file.write_text(
        "# comment\nexport BATCH_PARALLELISM=4\nBATCH_STRATEGY='copy' # why\nOTHER=1\n"
        "BATCH_DRIVER=\nBATCH_MAX_RETRIES=9\nBATCH_MAX_RETRIES=\n"
    )
    settings, warnings = load_settings(file, {"BATCH_PARALLELISM": "8", "BATCH_STRATEGY": " "})
    assert warnings == []
    assert (settings.parallelism, settings.strategy, settings.driver) == (8, "copy", None)
    assert settings.max_retries == 3
    assert settings.source_of("BATCH_PARALLELISM") == "environment"
    assert settings.source_of("BATCH_STRATEGY") == f"{file}, line 3"
    assert settings.source_of("BATCH_DRIVER") == "default"
    values = {name: (value, origin) for name, value, origin in settings.values()}
    assert values["BATCH_PARALLELISM"] == (8, "environment")
    assert values["BATCH_SLEEP_CHUNK_SIZE"] == (6000, "default")


def test_dotenv_of_the_folder_is_read_unless_another_is_given(tmp_path: Path) -> None:
    Path(".env").write_text("\ufeffBATCH_SLEEP_CHUNK_SIZE=11\n", encoding="utf-8")
    assert load_settings(environ={})[0].chunk_size("sleep") == 11
    (tmp_path / "other.env").write_text("")
    assert load_settings(tmp_path / "other.env", {})[0].chunk_size("sleep") == 6000


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_settings_file_that_cannot_be_read_is_an_error(content: bytes | None) -> None:
    file = Path("gone.env")
    if content:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"settings file gone\.env"):
        load_settings(file, {})


def test_a_broken_line_is_warned_about_without_its_text() -> None:
    Path(".env").write_text("BATCH_PARALLELISM=3\n'TOKEN hunter2\n")
    settings, warnings = load_settings(environ={})
    assert settings.parallelism == 3
    assert warnings == [".env, line 2: not NAME=value, ignored"]


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("BATCH_PARALELISM", "BATCH_PARALLELISM"),
        ("batch_strategy", "BATCH_STRATEGY"),
        ("BATCH_MEMORY_MB", "BATCH_MEMORY_LIMIT_MB"),
        ("BATCH_HEARTRATE_CHUNK_SIZE", "BATCH_HEART_RATE_CHUNK_SIZE"),
        ("BATCH_SLEEPS_CHUNK_SIZE", "BATCH_SLEEP_CHUNK_SIZE"),
    ],
)
def test_a_slip_is_warned_about_with_the_nearest_name(name: str, nearest: str) -> None:
    _, warnings = load_settings(environ={name: "9"})
    assert len(warnings) == 1
    assert warnings[0].startswith(name)
    assert warnings[0].endswith(f"did you mean {nearest}?")


def test_a_table_far_from_our_metrics_is_no_slip() -> None:
    assert settings_of(BATCH_INVOICES_CHUNK_SIZE="3").chunk_size("invoices") == 3


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("BATCH_HEART_RATE_CHUNK_SIZE", "0", "a whole number from 1 to 10,000,000"),
        ("BATCH_HEART_RATE_CHUNK_SIZE", "abc", "a whole number from 1 to 10,000,000"),
        ("BATCH_HEART_RATE_CHUNK_SIZE", "8000.5", "a whole number from 1 to 10,000,000"),
        ("BATCH_HEART_RATE_CHUNK_SIZE", "9" * 30, "a whole number from 1 to 10,000,000"),
        ("BATCH_ORDERS_CHUNK_SIZE", "-5", "a whole number from 1 to 10,000,000"),
        ("BATCH_PARALLELISM", "0", "a whole number from 1 to 64"),
        ("BATCH_PARALLELISM", "65", "a whole number from 1 to 64"),
        ("BATCH_MEMORY_LIMIT_MB", "15.9", "a number from 16 to 1,048,576"),
        ("BATCH_MEMORY_LIMIT_MB", "nan", "a number from 16 to 1,048,576"),
        ("BATCH_MAX_RETRIES", "-1", "a whole number from 0 to 100"),
        ("BATCH_RECONNECT_TIMEOUT_S", "inf", "a number from 0 to 86,400"),
        ("BATCH_ENABLE_PARALLEL", "maybe", "true or false"),
        ("BATCH_STRATEGY", "no such; thing", "a name of letters"),
    ],
)
def test_an_impossible_value_is_refused_in_one_sentence(
    name: str, value: str, allowed: str
) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}={value} (environment) cannot be used: it must be {allowed}")


def test_a_long_value_is_cut_and_the_file_is_named() -> None:
    Path(".env").write_text("\nBATCH_PARALLELISM=" + "x" * 500)
    with pytest.raises(ConfigError, match=r"=x{37}\.\.\. \(\.env, line 2\)"):
        load_settings(environ={})


def test_the_first_backoff_cannot_be_above_the_last() -> None:
    message = refusal(BATCH_INITIAL_BACKOFF_MS="6000")
    assert "BATCH_INITIAL_BACKOFF_MS=6000 is above BATCH_MAX_BACKOFF_MS=5000 (default)" in message
    assert "at most 5000" in message
    assert settings_of(BATCH_INITIAL_BACKOFF_MS="5000").initial_backoff_ms == 5000


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:hunter2@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u:hunter2@h1:1,h2:2/db?a=b", "postgresql://u:***@h1:1,h2:2/db?a=b"),
        ("postgresql://u@h/db?password=hunter2&x=y@z", "postgresql://u@h/db?password=***&x=y@z"),
        ("postgresql://u@h/db?pass%77ord=hunter2", "postgresql://u@h/db?pass%77ord=***"),
        ("postgres+asyncpg://u:hun@ter/2@h", "postgres+asyncpg://u:***@h"),
        ("postgresql://u:hun?ter2@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u@/db?host=/tmp/x&port=5", "postgresql://u@/db?host=/tmp/x&port=5"),
        ("host=h,h2 password=hunter2 dbname=d", "host=h,h2 password=*** dbname=d"),
        (r"host=h password = 'hunter\' 2' user=u", "host=h password = *** user=u"),
        (r"password=hun\ ter2 sslpassword=hunter2", "password=*** sslpassword=***"),
        ("host=h password='hunter2 user=u", "host=h password=***"),
        ("postgresql//u:hunter2@h/db", "postgresql//u:***@h/db"),
        ("", ""),
    ],
)
def test_passwords_are_masked(dsn: str, shown: str) -> None:
    assert masked(dsn) == shown
    assert "hunter2" not in repr(DsnFound(dsn, "--dsn"))


@given(st.text(min_size=1).map("Zq9".join))
def test_no_password_shows_whatever_it_holds(password: str) -> None:
    encoded = quote(password, safe="")
    assert masked(f"postgresql://u:{encoded}@h/db") == "postgresql://u:***@h/db"
    escaped = password.replace("\\", "\\\\").replace("'", "\\'")
    assert masked(f"host=h password='{escaped}' user=u") == "host=h password=*** user=u"


def test_a_server_is_found_in_order_option_url_libpq() -> None:
    environ = {"DATABASE_URL": "postgres://a/b", "PGHOST": "c"}
    assert find_dsn("host=x", environ) == DsnFound("host=x", "--dsn")
    assert find_dsn(None, environ) == DsnFound("postgresql://a/b", "DATABASE_URL")
    assert find_dsn(" ", {"PGHOST": "c", "PGDATABASE": "d"}) == DsnFound("", "PGHOST, PGDATABASE")
    assert find_dsn(None, {"PGSERVICE": "s"}) == DsnFound("", "PGSERVICE")
    assert find_dsn(None, {"PGUSER": "u", "PGPORT": "5", "PGHOST": ""}) is None


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg", "POSTGRES"])
def test_urls_of_other_libraries_are_understood(scheme: str) -> None:
    found = find_dsn(f"{scheme}://u:p@h/db?sslmode=disable", {})
    assert found is not None
    assert found.dsn == "postgresql://u:p@h/db?sslmode=disable"


def test_urls_of_other_databases_are_refused_without_their_password() -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL starts with mysql://") as caught:
        find_dsn(None, {"DATABASE_URL": "mysql+aiomysql://u:hunter2@h/db"})
    assert "hunter2" not in str(caught.value)


def test_a_key_value_dsn_stays_as_it_is() -> None:
    dsn = "host=h password=a://b"
    assert find_dsn(dsn, {}) == DsnFound(dsn, "--dsn")


def test_the_environment_of_a_child() -> None:
    environ = {"PATH": "/bin", "PGHOST": "h", "BATCH_DRIVER": "asyncpg", "LANG": "C"}
    child = child_environment(
        {"LANG": None, "BATCH_DRIVER": "psycopg"}, without=("PG",), environ=environ
    )
    assert child == {"PATH": "/bin", "BATCH_DRIVER": "psycopg"}
    assert "LANG" in environ
