"""From options and the live table to what every chunk of a load goes by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from batchbench.casts import Cast, CastOptions, Fault, compile_cast
from batchbench.config import Settings
from batchbench.drivers import CAPABILITIES, Pooler
from batchbench.engine.adapting import MOST_ROWS
from batchbench.engine.keys import Hashes, by_bytes, hashable_columns, key_hashes
from batchbench.engine.pacing import PaceLimits
from batchbench.engine.policies import Policies, apply
from batchbench.engine.upserts import check_key, check_upsert, implied_conflict, returning_of
from batchbench.errors import ConfigError, InputError, TableError
from batchbench.ledger import DEFAULT_SCHEMA
from batchbench.limits import chunk_rows
from batchbench.strategies import (
    THROUGH_COPY,
    ChunkPlan,
    Columns,
    OnConflict,
    Payload,
    Returning,
    RowPlan,
    Target,
    Upsert,
    choose_strategy,
    find_strategy,
    in_key_order,
)
from batchbench.strategies.once import Once, OncePlan, keys_table
from batchbench.table import Column, Table, UniqueKey
from batchbench.wire.rows import RowEncoder, RowParts, row_encoder

DEFAULT_DRIVER = "psycopg"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """How to load. What is None comes from `settings`.

    strategy: a strategy's name or "auto". chunk_size: rows, or "auto": it adapts to measured
    rows/s, from the configured size on (see `adapting`). parallelism: writers, each with a
    connection of its own. transaction: "chunk" (each chunk its own), "batch" (all or nothing,
    one writer), or a number of chunks.
    conflict_target: columns of the unique key that on_conflict means, or the name of one unique
    index or constraint; (): the only one there is, the primary key first.
    update_columns, newer_by, skip_unchanged: see `Upsert`; newer_by implies on_conflict="update".
    dedup: which of several rows of one key stays; None: whichever on_conflict leaves (under
    "error" the others are rejects), or "last" where the settings have deduplication.
    on_reject: what a row that cannot be loaded does; None: "stop" under "batch", else "skip".
    max_rejects: more of them stop the load: a number of rows, or a share below 1.
    dead_letter: the file for them; None: rejects.ndjson in the load's folder.
    exactly_once: how a COMMIT whose answer was lost is settled; "auto": the ledger where the role
    may have one, else the transaction's status.
    pooler: what stands before the server; see `batchbench.drivers.Pooler`.
    durability: "full" switches synchronous_commit on whatever server or role say.
    wait_limit_s: a statement that takes longer has its connection cut, and counts as lost.
    pace: how the load spares a server that others use too.
    """

    settings: Settings
    strategy: str | None = None
    driver: str | None = None
    chunk_size: int | Literal["auto"] | None = None
    parallelism: int | None = None
    on_conflict: OnConflict = OnConflict.ERROR
    conflict_target: tuple[str, ...] = ()
    update_columns: tuple[str, ...] = ()
    newer_by: str | None = None
    skip_unchanged: bool = False
    dedup: Literal["first", "last"] | None = None
    transaction: Literal["chunk", "batch"] | int = "chunk"
    ignore_columns: frozenset[str] = frozenset()
    cast_options: CastOptions = field(default_factory=CastOptions)
    policies: Policies = field(default_factory=Policies)
    on_reject: Literal["skip", "stop"] | None = None
    max_rejects: int | float | None = None
    dead_letter: Path | None = None
    exactly_once: Literal["auto", "ledger", "status", "off"] = "auto"
    ledger_schema: str = DEFAULT_SCHEMA
    durability: Literal["full", "relaxed"] = "full"
    pooler: Pooler | None = None
    wait_limit_s: float = 120.0
    pace: PaceLimits = field(default_factory=PaceLimits)

    def __post_init__(self) -> None:
        if self.on_conflict not in set(OnConflict):
            raise ConfigError(
                f"on_conflict {self.on_conflict!r} is unknown; known: {', '.join(OnConflict)}"
            )
        on_conflict = OnConflict(self.on_conflict)  # of a plain text
        on_conflict = implied_conflict(on_conflict, self.upsert, self.dedup)
        object.__setattr__(self, "on_conflict", on_conflict)
        if isinstance(self.chunk_size, str) and self.chunk_size != "auto":
            raise ConfigError(f"chunk size {self.chunk_size!r} cannot work: name a number, or auto")
        for name, value in (("chunk size", self.chunk_size), ("parallelism", self.parallelism)):
            if isinstance(value, int) and value < 1:
                raise ConfigError(f"{name} {value} cannot work: it must be 1 or more")
        if isinstance(self.transaction, int) and self.transaction < 1:
            raise ConfigError(
                f"transaction {self.transaction} cannot work: name chunk, batch, or a number of"
                " chunks from 1"
            )
        if self.pace.pause_when_locks_wait and self.transaction != "chunk":
            raise ConfigError(
                f"transaction={self.transaction} keeps its locks from chunk to chunk, so that"
                " pause_when_locks_wait would wait for itself; use transaction=chunk"
            )
        if self.driver_name not in CAPABILITIES:
            raise ConfigError(
                f"driver {self.driver_name!r} is unknown; known: {', '.join(CAPABILITIES)}"
            )
        if self.strategy_name != "auto":
            find_strategy(self.strategy_name)
        if self.on_conflict is OnConflict.NOTHING and self.dedup == "last":
            raise ConfigError(
                "dedup=last cannot work under on_conflict=nothing: a row whose key is there stays"
                " as it is, so the first row of a key wins; leave dedup out, or use error or update"
            )

    @property
    def skips_rejects(self) -> bool:
        """Whether a rejected row leaves the others to be committed."""
        return (self.on_reject or ("stop" if self.transaction == "batch" else "skip")) == "skip"

    @property
    def driver_name(self) -> str:
        """The driver in use."""
        return self.driver or self.settings.driver or DEFAULT_DRIVER

    @property
    def pooler_name(self) -> Pooler:
        """What stands before the server, "auto" included."""
        return self.pooler or self.settings.pooler

    @property
    def strategy_name(self) -> str:
        """The strategy asked for, "auto" included."""
        return self.strategy or self.settings.strategy or "auto"

    @property
    def writers(self) -> int:
        """How many writers; one where `one_writer_reason` says why."""
        if self.one_writer_reason:
            return 1
        return self.parallelism or self.settings.writers

    @property
    def one_writer_reason(self) -> str:
        """Why there can be one writer only; empty where there can be more."""
        if self.transaction == "batch":
            return "transaction=batch is all or nothing"
        if self.transaction != "chunk" and self.keeps_order:
            return "the rows of a key must be written in order, and several chunks go together"
        return ""

    @property
    def one_of_each_key(self) -> Literal["first", "last"] | None:
        """Which row of a key stays over the whole load, where that needs a table of keys: without
        one, ON CONFLICT itself keeps the first under "nothing" and the last under "update".
        """
        wanted = self.dedup or ("last" if self.settings.enable_deduplication else None)
        natural: dict[OnConflict, str] = {OnConflict.NOTHING: "first", OnConflict.UPDATE: "last"}
        if self.on_conflict is OnConflict.NOTHING or wanted == natural.get(self.on_conflict):
            return None
        return wanted

    @property
    def upsert(self) -> Upsert:
        """What of a row that is there is replaced, and when."""
        return Upsert(tuple(self.update_columns), self.newer_by, self.skip_unchanged)

    @property
    def keeps_order(self) -> bool:
        """Whether it matters in which order the rows of a key are written."""
        return self.on_conflict is not OnConflict.ERROR or self.one_of_each_key is not None

    def chunk_size_for(self, table: Table, metric: str | None) -> int:
        """Configured rows a chunk, before any limit but that of the pace; of an adaptive size, the
        first.
        """
        rows = self.settings.chunk_size(metric or str(table.name))
        if isinstance(self.chunk_size, int):
            rows = self.chunk_size
        return int(min(rows, self.pace.most_chunk_rows))

    def adapts(self, table: Table, metric: str | None) -> bool:
        """Whether the chunk size follows measured rows/s."""
        if self.chunk_size is not None:
            return self.chunk_size == "auto"
        return self.settings.chunk_setting(metric or str(table.name)).adapts


@dataclass(frozen=True, slots=True)
class CastRows:
    """values: columns in canonical form. faults: of each row that does not fit the first, with
    the position of its cast. counts: what the policies altered, and how often.
    """

    values: list[pa.Array]
    faults: list[tuple[int, Fault]]
    counts: Counter[str]


@dataclass(frozen=True, slots=True, eq=False)
class ShapePlan:
    """How rows of one Arrow schema go into one table. Compared by identity.

    positions: of the source's columns that are loaded; casts: one for each.
    keys: positions among them of the columns that tell the keys of two rows apart, where chunks
    must not overtake each other; there may be none.
    chunk_rows: rows a chunk, within every limit. most_rows: of one whose size adapts, else the
    same.
    row_encoder: for Python rows; None where they have to become columns.
    """

    table: Table
    positions: tuple[int, ...]
    casts: tuple[Cast, ...]
    keys: tuple[int, ...] | None
    chunk_plan: ChunkPlan
    chunk_rows: int
    most_rows: int
    policies: Policies
    row_encoder: RowEncoder | None = None

    def cast(self, rows: pa.RecordBatch, lacking: Sequence[tuple[int, Fault]] = ()) -> CastRows:
        """Apply policies and casts to rows of this shape. lacking: faults that are known."""
        values: list[pa.Array] = []
        faults = {fault.row: (number, fault) for number, fault in lacking}
        counts: Counter[str] = Counter()
        for number, (position, cast) in enumerate(zip(self.positions, self.casts, strict=True)):
            allowed = apply(self.policies, rows.column(position))
            converted = cast.apply(allowed.values)
            values.append(converted.values)
            if allowed.counts:
                counts.update(allowed.counts)
            for fault in allowed.faults + converted.faults:
                faults.setdefault(fault.row, (number, fault))
        return CastRows(values, [faults[row] for row in sorted(faults)], counts)

    def hash_keys(self, values: Sequence[pa.Array]) -> Hashes | None:
        """One hash a row for canonical columns; None where there is nothing to go by."""
        if not self.keys:
            return None
        return key_hashes(
            [values[number] for number in self.keys],
            [self.casts[number].column for number in self.keys],
        )

    def hash_rows(self, rows: pa.RecordBatch, key: UniqueKey) -> Hashes | None:
        """The same for rows as they were read. Those that clash with none, for a NULL in their
        key, are told apart as far as 64 bits do.
        """
        numbers = [n for n in self.keys or () if self.casts[n].column.name in key.columns]
        if not numbers:
            return None
        values = [
            self.casts[number]
            .apply(apply(self.policies, rows.column(self.positions[number])).values)
            .values
            for number in numbers
        ]
        hashes = key_hashes(values, [self.casts[number].column for number in numbers])
        if not key.nulls_equal:
            null = np.logical_or.reduce(
                [array.is_null().to_numpy(zero_copy_only=False) for array in values]
            )
            hashes[null] = np.flatnonzero(null)
        return hashes

    def encode(self, values: Sequence[pa.Array]) -> Payload:
        """Encode canonical columns as one chunk."""
        types = [cast.column.type for cast in self.casts]
        return self.chunk_plan.encode(Columns(values, types))

    @property
    def streams_rows(self) -> bool:
        """Whether Python rows go as a COPY stream, see `RowPlan`."""
        return isinstance(self.chunk_plan, RowPlan) and self.chunk_plan.streams_rows

    def encode_rows(self, parts: RowParts, row_count: int, *, looked_at: bool) -> Payload:
        """Encode Python rows as one chunk; see `RowPlan`. looked_at: see `RowBatch`."""
        if self.row_encoder is None:
            raise AssertionError("rows stay rows only where they can be encoded")
        # There is an encoder for a RowPlan only; to look whether it is one takes 50 us.
        plan: RowPlan = self.chunk_plan  # type: ignore[assignment]
        encoder = replace(self.row_encoder, looks=not looked_at)
        return plan.encode_rows(encoder, parts, row_count)


@dataclass(frozen=True, slots=True)
class TablePlan:
    """What a load does with one table. metric: the target's key in a source that fans out.

    adapts: whether the chunk size follows measured rows/s, from `configured_rows` on.
    once: where one row of each key is to stay over the whole load. names_rows: see `Target`.
    returning: columns of written rows to be answered with.
    """

    table: Table
    metric: str | None
    options: LoadOptions
    strategy: str
    reason: str
    configured_rows: int
    adapts: bool = False
    once: Once | None = None
    names_rows: bool = False
    returning: tuple[str, ...] = ()

    @property
    def key(self) -> UniqueKey | None:
        """The unique key that rows are told apart by; None where they need not be."""
        if self.once is not None:
            return self.once.key
        if self.options.on_conflict is OnConflict.ERROR:
            return None
        return self.table.conflict_key(self.options.conflict_target)

    def returned(self) -> Returning:
        """What `returning` asks for. Raises TableError where no key tells the rows apart."""
        key = self.key or self.table.conflict_key(self.options.conflict_target)
        return returning_of(self.table, key, self.returning)

    def ordered_by(self, *, partial: bool) -> tuple[str, ...]:
        """Columns that tell rows apart whose order does not matter; there may be none. Where the
        newest row wins whoever writes it last, only rows that are equally new need an order; but
        not where writers could deadlock, because they do not write in the order of the key, nor
        where a newer row replaces a part only (partial: rows may leave out columns).
        """
        if self.key is None:
            return ()
        columns, options = hashable_columns(self.table, self.key), self.options
        if options.newer_by is None or not in_key_order(self.strategy):
            return columns
        if partial or options.update_columns:
            return columns
        version = self.table.column(options.newer_by)
        return columns + ((version.name,) if by_bytes(version, version.collation) else ())

    def shape(
        self,
        schema: pa.Schema,
        source: str,
        omitted: frozenset[str] = frozenset(),
        *,
        partial: bool = False,
    ) -> ShapePlan:
        """Compile for rows of `schema` without some columns. partial: whether other rows leave out
        others. Raises InputError, TableError.
        """
        positions, columns = self._match(schema, source, omitted)
        target = self._target(columns, whole=not omitted)
        if self.once is not None:
            plan: ChunkPlan = OncePlan(target, self.once)
        else:
            plan = find_strategy(self.strategy).plan(target)
        limit = CAPABILITIES[self.options.driver_name].parameter_limit
        casts = tuple(
            compile_cast(schema.field(position).type, column, self.options.cast_options)
            for position, column in zip(positions, columns, strict=True)
        )
        rows = chunk_rows(self.configured_rows, plan.use, limit)
        names, keys = [column.name for column in columns], None
        if self.key is not None:
            keys = tuple(names.index(name) for name in self.ordered_by(partial=partial))
        encoder = None
        if keys is None and positions == tuple(range(len(schema))) and isinstance(plan, RowPlan):
            encoder = self._row_encoder(columns)
        most = rows
        if self.adapts:
            paced = int(min(max(rows, MOST_ROWS), self.options.pace.most_chunk_rows))
            most = chunk_rows(paced, plan.use, limit)
        policies = self.options.policies
        return ShapePlan(self.table, positions, casts, keys, plan, rows, most, policies, encoder)

    def _row_encoder(self, columns: tuple[Column, ...]) -> RowEncoder | None:
        """None where the options ask for more than encoding."""
        if self.options.policies != Policies():
            return None
        return row_encoder([column.type for column in columns])

    def _match(
        self, schema: pa.Schema, source: str, omitted: frozenset[str]
    ) -> tuple[tuple[int, ...], tuple[Column, ...]]:
        """Find the column of every source column, by name."""
        names, known = schema.names, {c.name: c for c in self.table.columns}
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"{source}: column {twice[0]!r} is there twice; rename one of them")
        unknown = [n for n in names if n not in known and n not in self.options.ignore_columns]
        if unknown:
            raise InputError(
                f"{source}: table {self.table.name} has no column {', '.join(map(repr, unknown))};"
                f" it has {', '.join(known)}; to leave the data out, name it in --ignore-columns"
            )
        loaded = [(i, known[n]) for i, n in enumerate(names) if n in known]
        loaded = [(i, c) for i, c in loaded if c.name not in self.options.ignore_columns]
        self._refuse_filled(source, [column for _, column in loaded])
        missing = [c.name for c in self.table.columns if c.required and c.name not in names]
        if missing:
            raise InputError(
                f"{source} has no column {', '.join(map(repr, missing))}, which table"
                f" {self.table.name} needs (NOT NULL without a default); add it to the data"
            )
        if not loaded:
            raise InputError(f"{source} has no column that table {self.table.name} takes")
        loaded = [(i, c) for i, c in loaded if c.name not in omitted]
        return tuple(i for i, _ in loaded), tuple(column for _, column in loaded)

    def _refuse_filled(self, source: str, columns: list[Column]) -> None:
        for column in columns:
            if column.generated or column.identity == "a":
                raise InputError(
                    f"{source}: the server fills column {column.name!r} of table"
                    f" {self.table.name} itself; leave it out with --ignore-columns"
                )

    def _target(self, columns: tuple[Column, ...], *, whole: bool) -> Target:
        on_conflict, key, upsert = self.options.on_conflict, self.key, self.options.upsert
        if key is not None:
            check_key(self.table, key, columns, f"on_conflict={on_conflict}")
            if whole:  # a row may lack what it would update
                check_upsert(self.table, key, columns, upsert)
        returning = None
        if self.returning:
            returning = self.returned()
            check_key(self.table, returning.key, columns, "returning")
        clashing = None if on_conflict is OnConflict.ERROR else key
        return Target(
            self.table, columns, on_conflict, clashing, self.names_rows, upsert, returning
        )


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """A load as it will run. tables: by target key. notices: what a person should know.

    schema, shape: of a source of one table, and how its rows go there.
    """

    options: LoadOptions
    tables: dict[str | None, TablePlan]
    notices: tuple[str, ...] = ()
    schema: pa.Schema | None = None
    shape: ShapePlan | None = None

    def noting(self, *notices: str) -> LoadPlan:
        """The plan with more notices."""
        return replace(self, notices=self.notices + notices)


def plan_table(
    table: Table, metric: str | None, options: LoadOptions, load_id: str = ""
) -> TablePlan:
    """Choose the strategy for a table.

    Raises TableError for a table with rewrite rules, or without the key that the options need.
    """
    if table.rules:
        raise TableError(
            f"table {table.name} has the rule {table.rules[0]!r}: INSERT obeys rules and COPY does"
            " not; replace the rule by a trigger, or load into the table behind it"
        )
    strategy, reason = options.strategy_name, "as asked"
    if strategy == "auto":
        clashes = options.on_conflict is not OnConflict.ERROR
        key = table.conflict_key(options.conflict_target) if clashes else None
        strategy, reason = choose_strategy(table, options.on_conflict, options.upsert, key)
    once = None
    if options.one_of_each_key is not None:
        if strategy not in THROUGH_COPY:
            raise ConfigError(
                f"dedup over a whole load goes through COPY; strategy {strategy} ({reason}) cannot"
            )
        strategy, reason = "copy", "through a table of the keys written so far"
        key = table.conflict_key(options.conflict_target)
        if not key.plain:
            raise ConfigError(f"dedup over a whole load needs a key of columns, not {key}")
        once = Once(
            key,
            keys_table(options.ledger_schema, load_id, table),
            options.one_of_each_key == "last",
        )
    rows, adapts = options.chunk_size_for(table, metric), options.adapts(table, metric)
    return TablePlan(table, metric, options, strategy, reason, rows, adapts, once)
