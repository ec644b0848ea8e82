"""Settings from `BATCH_*`, connection strings, and the environment of child processes.

The only module that reads the environment. Every function that does takes an `environ` for
tests; None means the process's own.
"""

from __future__ import annotations

import ctypes
import difflib
import os
import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin
from urllib.parse import unquote_plus

from dotenv.parser import parse_stream
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from batchbench.errors import ConfigError

PREFIX = "BATCH_"

# Source: glibc's malloc.h.
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
_CHUNK_SUFFIX = "_CHUNK_SIZE"

METRIC_TABLES: Mapping[str, str] = {
    "heart_rate": "heart_rate_metrics",
    "blood_pressure": "blood_pressure_metrics",
    "sleep": "sleep_metrics",
    "activity": "activity_metrics",
    "workout": "workouts",
}
"""The five metrics with settings of their own, and the tables they are stored in."""

OTHER_CHUNK_ROWS = 5_000
"""Chunk size of a table that no variable names, and the first one where a variable says auto."""


def _auto_is_none(value: object) -> object:
    text = value.strip() if isinstance(value, str) else value
    return None if text == "auto" else text


ChunkRows: TypeAlias = Annotated[
    int | None, Field(ge=1, le=10_000_000), BeforeValidator(_auto_is_none)
]
PlugName: TypeAlias = Annotated[
    Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$")] | None, BeforeValidator(_auto_is_none)
]


class Settings(BaseSettings):
    """How batches are written. The constructor is pure; `load_settings` reads the environment.

    strategy, driver: None means that batchbench chooses. Whether a plug of that name exists is
        for the registries to say, since third parties add to them.
    parallelism: writers while `enable_parallel` is true; see `writers`.
    ..._chunk_size: rows a chunk; None means that it adapts while a load runs.
    table_chunk_size: the same of other tables, by the middle of BATCH_<T>_CHUNK_SIZE.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix=PREFIX)

    strategy: PlugName = None
    driver: PlugName = None
    enable_parallel: bool = True
    parallelism: Annotated[int, Field(ge=1, le=64)] = 2
    memory_limit_mb: Annotated[float, Field(ge=16, le=1_048_576, allow_inf_nan=False)] = 500.0
    max_retries: Annotated[int, Field(ge=0, le=100)] = 3
    initial_backoff_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 100
    max_backoff_ms: Annotated[int, Field(ge=1, le=3_600_000)] = 5_000
    reconnect_timeout_s: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] = 60.0
    enable_deduplication: bool = False
    pooler: Literal["auto", "transaction", "session", "none"] = "auto"
    heart_rate_chunk_size: ChunkRows = 8_000
    blood_pressure_chunk_size: ChunkRows = 8_000
    sleep_chunk_size: ChunkRows = 6_000
    activity_chunk_size: ChunkRows = 6_500
    workout_chunk_size: ChunkRows = 5_000
    table_chunk_size: Mapping[str, ChunkRows] = Field(default_factory=dict)

    _origins: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments only: a constructor reads nothing from its surroundings."""
        return (init_settings,)

    @property
    def writers(self) -> int:
        """Parallel writers to use: 1 where parallel writing is switched off."""
        return self.parallelism if self.enable_parallel else 1

    def chunk_size(self, metric_or_table: str) -> int:
        """Rows a chunk for a metric ("sleep") or a table ("sleep_metrics", "public.orders"); where
        it adapts, those that it starts with.

        Of `schema.table`, the full name's variable comes first, then the bare table's.
        """
        return self.chunk_setting(metric_or_table).value

    def chunk_setting(self, metric_or_table: str) -> ChunkSetting:
        """What `chunk_size` answers, and the variable and origin that it comes from."""
        for name in _suffixes(metric_or_table):
            for key in _keys(name):
                if key in self.table_chunk_size:
                    return self._chunk_setting(key, self.table_chunk_size[key])
            metric = metric_of(name)
            if metric is not None:
                rows = getattr(self, f"{metric}_chunk_size")
                return self._chunk_setting(metric.upper(), rows)
        return ChunkSetting(chunk_variable(metric_or_table), OTHER_CHUNK_ROWS, "default")

    def _chunk_setting(self, key: str, rows: int | None) -> ChunkSetting:
        variable = _chunk_variable(key)
        origin = self.source_of(variable)
        return ChunkSetting(variable, rows or OTHER_CHUNK_ROWS, origin, adapts=rows is None)

    def source_of(self, variable: str) -> str:
        """Where a variable's value comes from: "environment", "FILE, line N" or "default"."""
        return self._origins.get(variable, "default")

    def values(self) -> Iterator[tuple[str, object, str]]:
        """Every variable that counts, as (name, value, origin), chunk sizes last."""
        for name in _FIELDS:
            variable = PREFIX + name.upper()
            yield variable, getattr(self, name), self.source_of(variable)
        for key, rows in sorted(self.table_chunk_size.items()):
            variable = _chunk_variable(key)
            yield variable, rows, self.source_of(variable)


@dataclass(frozen=True, slots=True)
class ChunkSetting:
    """A chunk size in rows, the variable that sets it (or would), and where its value is from.

    adapts: whether the variable says auto; `value` is where it starts then.
    """

    variable: str
    value: int
    origin: str
    adapts: bool = False

    @property
    def text(self) -> str:
        """The value as a `.env` file writes it."""
        return "auto" if self.adapts else str(self.value)


_FIELDS = tuple(name for name in Settings.model_fields if name != "table_chunk_size")
_KNOWN = tuple(PREFIX + name.upper() for name in _FIELDS)


def metric_of(metric_or_table: str) -> str | None:
    """The one of our five metrics that a metric's or table's name means, else None."""
    for metric, table in METRIC_TABLES.items():
        if metric_or_table in (metric, table):
            return metric
    return None


def chunk_variable(metric_or_table: str) -> str:
    """The variable that sets a table's chunk size: "my orders" -> BATCH_MY_ORDERS_CHUNK_SIZE."""
    metric = next(filter(None, map(metric_of, _suffixes(metric_or_table))), None)
    return _chunk_variable(_key(metric or metric_or_table))


def _chunk_variable(key: str) -> str:
    return PREFIX + key + _CHUNK_SUFFIX


def _key(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name).strip("_").upper()


def _keys(name: str) -> tuple[str, str]:
    # A shell cannot set a variable with a non-ASCII name, so the ASCII spelling counts as well.
    return _key(name), _key(re.sub(r"[^\x00-\x7f]+", "_", name))


def _suffixes(name: str) -> Iterator[str]:
    """The name, then what follows each of its dots: the schema-less name is among these."""
    yield name
    for dot in re.finditer(r"\.", name):
        yield name[dot.end() :].strip('"')


@dataclass(frozen=True, slots=True)
class _Given:
    """A variable as it was set, before it was understood."""

    text: str
    origin: str


def load_settings(
    env_file: Path | None = None, environ: Mapping[str, str] | None = None
) -> tuple[Settings, list[str]]:
    """Read the settings from the environment, then from a file of NAME=value lines.

    env_file: None means `.env` of the current folder, where there is one.
    Empty values count as unset. Returns the settings, and warnings to show: names that are not
    ours, lines that could not be read.
    Raises ConfigError, one sentence, where the given file is missing or a value cannot work.
    """
    given, warnings = _from_file(env_file)
    for name, text in (os.environ if environ is None else environ).items():
        if name.upper().startswith(PREFIX) and text.strip():
            given[name] = _Given(text, "environment")
    warnings += [warning for name in sorted(given) if (warning := _doubt(name))]
    return _settings({name: given[name] for name in given if _is_ours(name)}), warnings


def _from_file(env_file: Path | None) -> tuple[dict[str, _Given], list[str]]:
    path = env_file or Path(".env")
    if env_file is None and not path.is_file():
        return {}, []
    try:
        with path.open(encoding="utf-8-sig") as stream:
            bindings = list(parse_stream(stream))
    except OSError as error:
        raise ConfigError(
            f"the settings file {path} cannot be read: {error.strerror}; check --env-file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"the settings file {path} is not UTF-8 text; save it as UTF-8"
        ) from error
    given: dict[str, _Given] = {}
    warnings = []
    for binding in bindings:
        text = binding.original.string
        blank_lines = text[: len(text) - len(text.lstrip())].count("\n")
        origin = f"{path}, line {binding.original.line + blank_lines}"
        if binding.error:
            # The text itself stays out: the line may hold a secret of another program.
            warnings.append(f"{origin}: not NAME=value, ignored")
        elif binding.key and binding.key.upper().startswith(PREFIX):
            if (binding.value or "").strip():
                given[binding.key] = _Given(binding.value or "", origin)
            else:
                given.pop(binding.key, None)
    return given, warnings


def _is_ours(name: str) -> bool:
    return name in _KNOWN or _table_key(name) != ""


def _table_key(name: str) -> str:
    """The table's part of BATCH_<T>_CHUNK_SIZE, "" for any other name."""
    if not (name.startswith(PREFIX) and name.endswith(_CHUNK_SUFFIX)):
        return ""
    return _key(name[len(PREFIX) : -len(_CHUNK_SUFFIX)])


def _doubt(name: str) -> str | None:
    """A warning about a name that is unknown, or known but likely a slip."""
    if name in _KNOWN:
        return None
    table = _table_key(name)
    if not table:
        near = max(_KNOWN, key=lambda known: _likeness(known, name.upper()))
        return f"{name} is not a setting of batchbench and is ignored; did you mean {near}?"
    if table.lower() in METRIC_TABLES.values():
        return None
    metrics = [metric.upper() for metric in METRIC_TABLES]
    close = difflib.get_close_matches(table, metrics, n=1, cutoff=0.8)
    if not close:
        return None
    return (
        f"{name} sets the chunk size of a table named {table.lower()}; "
        f"did you mean {_chunk_variable(close[0])}?"
    )


def _likeness(known: str, name: str) -> float:
    return difflib.SequenceMatcher(None, known[len(PREFIX) :], name[len(PREFIX) :]).ratio()


def _settings(given: Mapping[str, _Given]) -> Settings:
    values: dict[str, Any] = {"table_chunk_size": {}}
    origins: dict[str, str] = {}
    for name, found in given.items():
        if name in _KNOWN:
            values[name[len(PREFIX) :].lower()] = found.text.strip()
            origins[name] = found.origin
        else:
            key = _table_key(name)
            values["table_chunk_size"][key] = found.text.strip()
            origins[_chunk_variable(key)] = found.origin
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, origins)) from error
    settings._origins = origins
    _check_backoff(settings)
    return settings


def _sentence(error: ValidationError, origins: Mapping[str, str]) -> str:
    first = error.errors()[0]
    field, *rest = first["loc"]
    if field == "table_chunk_size":
        variable = _chunk_variable(str(rest[0]))
        allowed = _allowed(Settings.model_fields["heart_rate_chunk_size"])
    else:
        variable = PREFIX + str(field).upper()
        allowed = _allowed(Settings.model_fields[str(field)])
    text = str(first["input"])
    shown = text if len(text) <= 40 else text[:37] + "..."
    return f"{variable}={shown} ({origins[variable]}) cannot be used: it must be {allowed}"


def _allowed(field: FieldInfo) -> str:
    if field.annotation is bool:
        return "true or false"
    if get_origin(field.annotation) is Literal:
        return " or ".join(get_args(field.annotation))
    if field.annotation not in (int, float, int | None):
        return 'a name of letters, digits, "_", "." and "-", or auto'
    low = next(m.ge for m in field.metadata if hasattr(m, "ge"))
    high = next(m.le for m in field.metadata if hasattr(m, "le"))
    kind = "a number" if field.annotation is float else "a whole number"
    auto = ", or auto" if field.annotation == int | None else ""
    return f"{kind} from {low:,} to {high:,}{auto}"


def _check_backoff(settings: Settings) -> None:
    first, last = settings.initial_backoff_ms, settings.max_backoff_ms
    if first > last:
        name = "BATCH_MAX_BACKOFF_MS"
        raise ConfigError(
            f"BATCH_INITIAL_BACKOFF_MS={first} is above {name}={last} "
            f"({settings.source_of(name)}): it can be at most {last}, or raise {name}"
        )


# --- connection strings ---------------------------------------------------------------------

SECRETS = (
    "password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key",
)  # fmt: skip
_SECRET_PAIR = re.compile(
    rf"\b({'|'.join(SECRETS)})(\s*=\s*)('(?:[^'\\]|\\.)*'?|(?:\\.?|[^\s\\])*)", re.I | re.S
)
_URL_LOGIN = re.compile(r"\b([A-Za-z][\w+.-]*:/{1,2}[^:@/\s]*):.*@")
_QUERY = re.compile(r"\?(?:[\w%+]+=[^&]*)(?:&[\w%+]+=[^&]*)*&?$", re.S)
_LIBPQ_TARGETS = ("PGHOST", "PGSERVICE", "PGDATABASE")


def masked(dsn: str) -> str:
    """The DSN, a URL or key=value pairs, with *** for passwords; fit for logs and messages.

    Rather hides too much than too little: in a URL whose password is not percent-encoded,
    everything up to the last @ is taken for the password.
    """
    scheme, separator, rest = dsn.partition("://")
    if separator and re.fullmatch(r"\s*[A-Za-z][\w+.-]*", scheme):
        query = _QUERY.search(rest)
        if query and "@" in query.group():  # of the password, which has a ? then, or of a value
            rest = _without_password(rest)
            query = _QUERY.search(rest)
        pairs = query.group() if query else ""
        place = _without_password(rest[: query.start()] if query else rest)
        return scheme + separator + _masked_pairs(place) + _masked_pairs(pairs)
    return without_passwords(dsn)


def without_passwords(text: str) -> str:
    """A message, *** for the passwords of connection strings in it, whole ones or parts. Hides
    too much rather than too little.
    """
    pairs = _SECRET_PAIR.sub(r"\1\2***", _URL_LOGIN.sub(r"\1:***@", text))
    return re.sub(r":[^:\s]*@", ":***@", pairs)


def _without_password(place: str) -> str:
    return re.sub(r"^([^:@/?]*):.*@", r"\1:***@", place, flags=re.S)


def _masked_pairs(text: str) -> str:
    return "&".join(map(_masked_pair, text.split("&")))


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    secret = unquote_plus(name.lstrip("?")).lower() in SECRETS
    return f"{name}{equals}***" if secret else pair


@dataclass(frozen=True, slots=True, repr=False)
class DsnFound:
    """A connection string and where it comes from: "--dsn", "DATABASE_URL" or "PGHOST, ...".

    dsn: "" means that libpq resolves everything from its own PG* variables.
    """

    dsn: str
    origin: str

    def __repr__(self) -> str:
        return f"DsnFound({masked(self.dsn)!r}, {self.origin!r})"


def find_dsn(dsn: str | None, environ: Mapping[str, str] | None = None) -> DsnFound | None:
    """The server to connect to: the option's, else DATABASE_URL's, else libpq's PG* variables'.

    PGUSER, PGPORT or PGPASSWORD alone name no server. Returns None where nothing names one.
    Raises ConfigError on a URL of another database.
    """
    environ = os.environ if environ is None else environ
    if dsn is not None and dsn.strip():
        return DsnFound(_libpq_dsn(dsn, "--dsn"), "--dsn")
    if environ.get("DATABASE_URL", "").strip():
        return DsnFound(_libpq_dsn(environ["DATABASE_URL"], "DATABASE_URL"), "DATABASE_URL")
    targets = [name for name in _LIBPQ_TARGETS if environ.get(name)]
    return DsnFound("", ", ".join(targets)) if targets else None


def _libpq_dsn(dsn: str, origin: str) -> str:
    """The DSN as libpq reads it: SQLAlchemy's `postgresql+asyncpg://` loses its driver."""
    scheme, separator, rest = dsn.strip().partition("://")
    if not separator or "=" in scheme:
        return dsn.strip()
    if not re.fullmatch(r"postgres(ql)?(\+\w+)?", scheme, re.I):
        raise ConfigError(
            f"{origin} starts with {scheme.split('+')[0][:20]}://, which is no PostgreSQL URL; "
            "write postgresql://USER@HOST:PORT/DATABASE"
        )
    return f"postgresql://{rest}"


def child_environment(
    changes: Mapping[str, str | None] | None = None,
    *,
    without: Collection[str] = (),
    environ: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """A copy of the environment for a child process.

    without: prefixes of names to leave out, such as "PG". changes: values to set; None removes.
    """
    environ = os.environ if environ is None else environ
    kept = {k: v for k, v in environ.items() if not k.startswith(tuple(without))}
    for name, value in (changes or {}).items():
        if value is None:
            kept.pop(name, None)
        else:
            kept[name] = value
    return kept


def step_summary(environ: Mapping[str, str] | None = None) -> Path | None:
    """The file that GitHub Actions shows as the step's summary; None anywhere else."""
    found = (os.environ if environ is None else environ).get("GITHUB_STEP_SUMMARY")
    return Path(found) if found else None


def choose_allocator(environ: MutableMapping[str, str] | None = None) -> None:
    """Let memory that was freed go back to the system, so that a load's peak is what it holds.

    Arrow takes the system's allocator, unless the user chose one: its own keeps about 40 MB more.
    glibc's gets one arena instead of one a thread, and gives large blocks a mapping of their own;
    left alone, it raises that size with each such block that is freed. To be called before
    pyarrow is imported, in a process of ours only.
    """
    (os.environ if environ is None else environ).setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def docker_host(environ: Mapping[str, str] | None = None) -> str:
    """Where a Docker client looks for its engine."""
    environ = os.environ if environ is None else environ
    return environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
