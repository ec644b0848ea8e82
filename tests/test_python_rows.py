"""Python rows that never become columns: the same bytes, the same refusals."""

from __future__ import annotations

import datetime as dt
import json
import struct
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asyncpg.pgproto import pgproto
from hypothesis import given
from hypothesis import strategies as st

from batchbench.accounting import LoadResult
from batchbench.casts import CastOptions
from batchbench.engine import LoadError, load
from batchbench.engine.content import ColumnContent, RowContent
from batchbench.engine.reading import Step, encoded_steps, in_memory
from batchbench.errors import WriteError
from batchbench.sources import open_source
from batchbench.table import PgType, TableName
from batchbench.wire import COPY_HEADER, COPY_TRAILER
from batchbench.wire.rows import PIECE_BYTES, RowEncoder, RowStream, row_encoder
from tests.fixtures.loading import execute, options, query
from tests.test_chunks import plan_of

UTC = dt.UTC
KINDS = (
    "i2 int2, i4 int4, i8 int8, f float8, b bool, t text, v varchar(40), u uuid, tz timestamptz,"
    " ts timestamp, d date, y bytea, j jsonb"
)
NAMES = [column.split()[0] for column in KINDS.split(", ")]
drivers = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
strategies = pytest.mark.parametrize("strategy", ["copy", "values"])


def integers(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
ROW = st.tuples(
    *(
        st.none() | values
        for values in (
            integers(16),
            integers(32),
            integers(64),
            st.floats(),
            st.booleans(),
            text,
            text,
            st.uuids(),
            st.datetimes(timezones=st.sampled_from([UTC, dt.timezone(dt.timedelta(hours=-7))])),
            st.datetimes(),
            st.dates(),
            st.binary(max_size=40),
            st.sampled_from(['{"a": [1, null]}', "7", '"é"']),
        )
    )
)


def sent(into: RowEncoder, rows: Sequence[tuple[Any, ...]]) -> bytes | None:
    """The rows as they are sent where they are looked at on their way; None unless all are."""
    stream = RowStream(replace(into, looks=True), [rows])
    body = b"".join(stream.ready())
    assert stream.byte_count == len(body)
    rows_only = body.removeprefix(COPY_HEADER).removesuffix(COPY_TRAILER)
    return rows_only if stream.sent_rows == len(rows) else None


def encoder(kind: str) -> RowEncoder:
    found = row_encoder([PgType(kind, 0, 0, kind, kind)])
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("int2", [32767, None], [32768, True, 1.0, "1"]),
        ("int4", [-(2**31)], [2**31, -(2**31) - 1, False]),
        ("int8", [2**63 - 1], [2**63]),
        ("float8", [1.5, float("nan")], [1, True]),
        ("bool", [True], [1]),
        ("date", [dt.date(2024, 1, 1)], [dt.datetime(2024, 1, 1, 5)]),
        ("timestamptz", [dt.datetime(2024, 1, 1, tzinfo=UTC)], [dt.date(2024, 1, 1), "now"]),
        ("uuid", [uuid.UUID(int=1), pgproto.UUID(str(uuid.UUID(int=1))), None], []),
        ("text", ["é", None, ""], [5, 0.0, b"x", "\ud800", "a\0b"]),
        ("bytea", [b"x"], [bytearray(b"x"), "x"]),
        ("jsonb", ["{}"], [{}, 1]),
    ],
)
def test_only_what_goes_in_unchanged_fits(
    column: str, good: Sequence[object], bad: Sequence[object]
) -> None:
    into = encoder(column)
    fine = [(value,) for value in good]
    assert into.value_bytes(fine) is not None
    assert sent(into, fine) == b"".join(into.pieces(fine))
    assert into.first_bytes(fine) is not None
    for value in bad:
        assert into.value_bytes([(good[0],), (value,)]) is None, value
        if value != "a\0b":  # the server refuses that
            assert sent(into, [(good[0],), (value,)]) is None, value
            assert into.first_bytes([(good[0],), (value,)]) is None, value


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("uuid", "00000000-0000-0000-0000-000000000000"),
        ("timestamptz", dt.datetime(2024, 1, 1)),
        ("timestamp", dt.datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_only_a_dumper_can_tell_is_a_row_error_without_the_value(
    column: str, value: object
) -> None:
    into = encoder(column)
    for encode in (lambda: list(into.pieces([(value,)])), lambda: into.parameters([(value,)])):
        with pytest.raises(WriteError) as caught:
            encode()
        assert caught.value.sqlstate == "22000"
        assert caught.value.__cause__ is None
        assert str(value) not in str(caught.value)


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("uuid", uuid.UUID(int=1), str(uuid.UUID(int=1))),
        ("timestamptz", dt.datetime(2024, 1, 1, tzinfo=UTC), dt.datetime(2024, 1, 1)),
        ("timestamp", dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=UTC)),
    ],
)
def test_what_all_rows_have_is_for_the_casts_what_some_have_costs_those(
    column: str, good: object, bad: object
) -> None:
    into = encoder(column)
    assert into.value_bytes([(bad,), (None,), (bad,)]) is None
    assert into.value_bytes([(bad,), (good,)]) == 0
    assert into.value_bytes([(None,), (None,)]) == 0


@pytest.mark.parametrize("width", [1, 4])
def test_rows_of_another_width_are_not_encoded(width: int) -> None:
    """Neither where few of the columns are looked at, nor where rows make up for each other."""
    into = RowEncoder(("int4", "text") * width)
    row = (1, "x") * width
    for other in ([row[:-1]], [row, (*row, 1)], [(*row, 1), row[:-1]]):
        assert sent(into, other) is None
        assert into.value_bytes(other) is None


def test_a_stream_ends_in_order_ahead_of_the_piece_that_is_refused() -> None:
    into = replace(encoder("int4"), looks=True)
    rows: list[tuple[object]] = [(i,) for i in range(20_000)]
    rows[12_345] = (1 << 31,)
    stream = RowStream(into, [rows[:9_000], rows[9_000:]])
    body = b"".join(stream.ready())
    assert 12_345 - 1_024 < stream.sent_rows <= 12_345
    row_bytes = 2 + 4 + 4
    assert len(body) == len(COPY_HEADER) + stream.sent_rows * row_bytes + len(COPY_TRAILER)
    assert body.endswith(COPY_TRAILER)
    with pytest.raises(WriteError):
        list(RowStream(encoder("int4"), [[("no number",)]]).ready())


def test_a_stream_that_was_begun_ahead_is_whole_each_time_it_is_sent() -> None:
    into, asked = replace(encoder("int4"), looks=True), []

    class Rows(list[tuple[int]]):
        """Tells which of them were taken to be encoded."""

        def __getitem__(self, place: Any) -> Any:
            asked.append(place)
            return super().__getitem__(place)

    before, stream = RowStream(into, [[(0,)]]), RowStream(into, [Rows((i,) for i in range(20_000))])
    whole = b"".join(stream.ready())
    asked.clear()
    before.following = stream
    list(before.ready())
    assert not asked
    before.sent()
    ahead = len(asked)
    assert 0 < ahead <= 10
    assert b"".join(stream.ready()) == whole
    assert stream.sent_rows == 20_000
    assert len({place.start for place in asked}) == len(asked)  # none twice
    before.sent()  # it follows no more
    assert b"".join(stream.ready()) == whole


def test_types_without_a_quick_dumper_have_no_encoder() -> None:
    assert row_encoder([PgType("numeric", 0, 0, "numeric", "numeric")]) is None


def test_a_stream_comes_in_bounded_pieces_and_can_be_sent_again() -> None:
    rows = [("x" * 1_000,)] * 1_000
    stream = RowStream(encoder("text"), [rows])
    first = [bytes(piece) for piece in stream.ready()]
    assert max(map(len, first)) < PIECE_BYTES + 2_000
    assert stream.sent_rows == 1_000
    body = b"".join(first)
    assert stream.byte_count == len(body)
    assert (
        body == COPY_HEADER + (struct.pack(">hi", 1, 1_000) + b"x" * 1_000) * 1_000 + COPY_TRAILER
    )
    assert b"".join(stream.ready()) == body


@strategies
@drivers
async def test_the_server_has_what_the_rows_say(dsn18: str, strategy: str, driver: str) -> None:
    """Every value, as psycopg reads it back; the rows are those of Hypothesis."""
    execute(dsn18, f"CREATE TABLE t (n int4, {KINDS})")
    rows: list[tuple[Any, ...]] = []

    @given(st.lists(ROW, min_size=1, max_size=20))
    def collect(drawn: list[tuple[Any, ...]]) -> None:
        rows.extend([(n, *row) for n, row in enumerate(drawn, len(rows))])

    collect()
    result = await load(
        open_source(rows, columns=["n", *NAMES]),
        {None: TableName("t")},
        dsn18,
        options(strategy=strategy, driver=driver, chunk_size=500, parallelism=1),
    )
    assert result.total.committed == len(rows)
    listed = ", ".join("j::text" if name == "j" else name for name in NAMES)
    stored = query(dsn18, f"SELECT n, {listed} FROM t ORDER BY n")
    for row, found in zip(rows, stored, strict=True):
        for sent, got in zip(row, found, strict=True):
            same = sent == got or (sent != sent and got != got)
            assert same, (sent, got)


@strategies
@drivers
async def test_a_bad_value_takes_its_own_row_only(dsn: str, strategy: str, driver: str) -> None:
    """One becomes a column because a look shows it, the others fail at the server."""
    execute(dsn, "CREATE TABLE t (i int4 CHECK (i <> 77), s text, u uuid)")
    ident = uuid.uuid4()
    rows: list[tuple[Any, ...]] = [(i, f"text {i}", ident) for i in range(1_000)]
    rows[77] = (77, "checked by the server", ident)
    rows[300] = (3_000_000_000, "too long", ident)
    rows[500] = (500, "nul \0", ident)
    result = await load(
        open_source(rows, columns=["i", "s", "u"]),
        {None: TableName("t")},
        dsn,
        options(strategy=strategy, driver=driver, chunk_size=100, parallelism=2),
    )
    assert (result.total.read, result.total.committed, result.total.rejected) == (1_000, 997, 3)
    assert query(dsn, "SELECT count(*), count(DISTINCT i), sum(i) FROM t") == [
        (997, 997, sum(range(1_000)) - 77 - 300 - 500)
    ]


@strategies
@drivers
async def test_a_row_that_its_dumper_refuses_goes_alone(
    dsn: str, tmp_path: Path, strategy: str, driver: str
) -> None:
    execute(dsn, "CREATE TABLE t (i int4, u uuid)")
    rows: list[tuple[Any, ...]] = [(i, uuid.uuid4()) for i in range(2_500)]
    rows[2_123] = (2_123, "no uuid")
    result = await load(
        open_source(rows, columns=["i", "u"]),
        {None: TableName("t")},
        dsn,
        options(strategy=strategy, driver=driver, chunk_size=500, dead_letter=tmp_path / "rejects"),
    )
    assert (result.total.committed, result.total.rejected) == (2_499, 1)
    assert query(dsn, "SELECT count(*) FROM t WHERE i = 2123") == [(0,)]
    (rejected,) = (tmp_path / "rejects").read_text().splitlines()
    assert json.loads(rejected)["row_number"] == 2_124


async def test_one_transaction_takes_the_rows_beside_one_that_its_dumper_refuses(
    dsn18: str, tmp_path: Path
) -> None:
    """Parameters are encoded before they are sent: that is a failure of the row too."""
    execute(dsn18, "CREATE TABLE t (i int4, u uuid)")
    rows: list[tuple[Any, ...]] = [(i, uuid.uuid4()) for i in range(2_500)]
    rows[2_123] = (2_123, "no uuid")
    result = await load(
        open_source(rows, columns=["i", "u"]),
        {None: TableName("t")},
        dsn18,
        options(
            strategy="values",
            chunk_size=500,
            transaction="batch",
            on_reject="skip",
            dead_letter=tmp_path / "rejects",
        ),
    )
    assert (result.total.committed, result.total.rejected) == (2_499, 1)


@drivers
async def test_rows_of_a_list_may_have_to_become_columns_on_the_way(
    dsn18: str, tmp_path: Path, driver: str
) -> None:
    """In the middle of a chunk; in one transaction, and in the rows' order."""
    execute(dsn18, "CREATE TABLE t (n int8 GENERATED ALWAYS AS IDENTITY, i int4, f float8)")
    rows: list[tuple[Any, ...]] = [(i, i / 4 if i < 5_700 else i) for i in range(10_000)]
    rows[7_000] = (7_000, "no number")
    result = await load(
        open_source(rows, columns=["i", "f"]),
        {None: TableName("t")},
        dsn18,
        options(
            strategy="copy",
            driver=driver,
            chunk_size=1_500,
            parallelism=1,
            transaction="batch",
            on_reject="skip",
            dead_letter=tmp_path / "rejects",
        ),
    )
    assert (result.total.committed, result.total.rejected) == (9_999, 1)
    assert query(dsn18, "SELECT array_agg(i ORDER BY n) FROM t") == [
        ([i for i in range(10_000) if i != 7_000],)
    ]
    assert query(dsn18, "SELECT sum(f) FROM t WHERE i >= 5700") == [
        (sum(range(5_700, 10_000)) - 7_000,)
    ]
    (rejected,) = (tmp_path / "rejects").read_text().splitlines()
    assert json.loads(rejected)["row_number"] == 7_001


@drivers
@pytest.mark.parametrize("transaction", ["chunk", "batch", 4])
async def test_a_value_that_a_cast_can_read_on_the_way_costs_nobody_anything(
    dsn18: str, driver: str, transaction: Any
) -> None:
    """Not even where a rejected row would stop the load."""
    execute(dsn18, "CREATE TABLE t (i int4, f float8)")
    rows: list[tuple[Any, ...]] = [(i, i / 4) for i in range(10_000)]
    rows[3_333] = (3_333, 1)
    result = await load(
        open_source(rows, columns=["i", "f"]),
        {None: TableName("t")},
        dsn18,
        options(
            strategy="copy",
            driver=driver,
            chunk_size=4_000,
            transaction=transaction,
            on_reject="stop",
        ),
    )
    assert (result.total.read, result.total.committed) == (10_000, 10_000)
    assert query(dsn18, "SELECT count(DISTINCT i), count(*) FROM t") == [(10_000, 10_000)]
    assert query(dsn18, "SELECT f FROM t WHERE i = 3333") == [(1.0,)]


@drivers
async def test_rows_refused_on_the_way_are_written_once_where_the_transaction_is_tried_again(
    dsn18: str, driver: str
) -> None:
    """The server fails, once, at the rows that had become columns; then those ahead of them are
    sent again too.
    """
    execute(
        dsn18,
        "CREATE TABLE t (i int4, f float8); CREATE SEQUENCE tried;"
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF nextval('tried') = 1 THEN RAISE 'try again' USING ERRCODE = '40001'; END IF;"
        " RETURN NEW; END $$;"
        "CREATE TRIGGER fail BEFORE INSERT ON t FOR EACH ROW WHEN (NEW.i = 3900)"
        " EXECUTE FUNCTION fail()",
    )
    rows: list[tuple[Any, ...]] = [(i, i / 4) for i in range(5_000)]
    rows[3_333] = (3_333, 1)
    result = await load(
        open_source(rows, columns=["i", "f"]),
        {None: TableName("t")},
        dsn18,
        options(strategy="copy", driver=driver, chunk_size=4_000),
    )
    assert (result.total.committed, result.retries) == (5_000, 1)
    assert query(dsn18, "SELECT count(DISTINCT i), count(*) FROM t") == [(5_000, 5_000)]


async def test_a_row_of_another_width_stops_the_load_ahead_of_its_chunk(dsn18: str) -> None:
    execute(dsn18, "CREATE TABLE t (i int4, s text)")
    rows: list[tuple[Any, ...]] = [(i, "x") for i in range(5_000)]
    rows[3_333] = (3_333,)
    with pytest.raises(LoadError, match=r"row 3,334\b.*has no 2 values") as caught:
        await load(
            open_source(rows, columns=["i", "s"]),
            {None: TableName("t")},
            dsn18,
            options(strategy="copy", chunk_size=1_000, parallelism=1),
        )
    assert caught.value.result.total.committed == 3_000
    assert query(dsn18, "SELECT count(*) FROM t") == [(3_000,)]


def test_rows_of_a_list_are_read_in_short_steps_until_they_become_columns() -> None:
    plan = plan_of(1, 4_000, "copy", "psycopg", texts=["t"])
    rows: list[tuple[object, ...]] = [(i, "x") for i in range(8_000)]
    rows[4_000] = (1.0, "x")  # the first of the second step
    source = open_source(rows, columns=["c0", "t"])
    assert in_memory(source)
    assert not in_memory(open_source(iter(rows), columns=["c0", "t"]))
    steps = encoded_steps(source, plan, LoadResult("x"), lambda text: None, 1 << 20)
    kinds = [step if isinstance(step, Step) else type(step.content) for step in steps]
    assert kinds[:3] == [RowContent, Step.SHORT, Step.LONG]
    assert kinds.count(Step.LONG) == 1
    assert kinds.count(ColumnContent) >= 1
    dicts = open_source([{"c0": 1, "t": "x"}])
    steps = encoded_steps(dicts, plan, LoadResult("x"), lambda text: None, 1 << 20)
    assert next(steps) is Step.LONG


@drivers
async def test_rows_of_an_iterator_are_read_once(dsn18: str, driver: str) -> None:
    execute(dsn18, "CREATE TABLE t (i int4, s text)")
    rows = ((i, str(i)) for i in range(25_000))
    result = await load(
        open_source(rows, columns=["i", "s"]),
        {None: TableName("t")},
        dsn18,
        options(strategy="copy", driver=driver, chunk_size=3_000, parallelism=2),
    )
    assert len(result.chunk_seconds) == 9
    assert query(dsn18, "SELECT count(*), sum(i), sum(s::int4) FROM t") == [
        (25_000, sum(range(25_000)), sum(range(25_000)))
    ]


@strategies
async def test_values_that_only_a_cast_can_read(dsn18: str, strategy: str) -> None:
    """Uuids as text, naive times whose zone is assumed; rows that are views without places."""
    execute(dsn18, "CREATE TABLE t (u uuid, tz timestamptz, ts timestamp)")
    noon = dt.datetime(2024, 1, 1, 12)
    row = {"u": str(uuid.UUID(int=7)), "tz": noon, "ts": noon.replace(tzinfo=UTC)}
    result = await load(
        open_source([row.values()] * 3, columns=list(row)),
        {None: TableName("t")},
        dsn18,
        options(strategy=strategy, cast_options=CastOptions(assume_timezone="Asia/Tokyo")),
    )
    assert (result.total.committed, result.total.rejected) == (3, 0)
    assert query(dsn18, "SELECT DISTINCT u, tz, ts FROM t") == [
        (uuid.UUID(int=7), dt.datetime(2024, 1, 1, 3, tzinfo=UTC), dt.datetime(2024, 1, 1, 21))
    ]
