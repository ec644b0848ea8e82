"""Casts value by value: what is kept, what is a fault. Expectations are PostgreSQL 18's own."""

from __future__ import annotations

import datetime as dt
import struct
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from batchbench.casts import CastOptions, compile_cast
from batchbench.errors import InputError, TableError
from tests.test_casts import column, numeric_typmod, values_and_states

NAN, INF = float("nan"), float("inf")
US_PER_DAY = 86_400_000_000
EPOCH = dt.datetime(2000, 1, 1)


def micros(*moment: int) -> int:
    return (dt.datetime(*moment) - EPOCH) // dt.timedelta(microseconds=1)  # type: ignore[arg-type]


def check(source: pa.Array, target: Any, expected: list[Any], **options: str) -> None:
    """Expected: values; a fault stands as its SQLSTATE in a set: {"22003"}."""
    cast = compile_cast(source.type, target, CastOptions(**options))
    values, states = values_and_states(cast, source)
    got = [{states[row]} if row in states else value for row, value in enumerate(values)]
    assert [repr(value) for value in got] == [repr(value) for value in expected]
    assert all(value is None for row, value in enumerate(values) if row in states)


def text(*values: str | None) -> pa.Array:
    return pa.array(values, pa.string())


# ------------------------------------------------------------------ numbers


def test_numpy_narrowing_traps() -> None:
    check(pa.array([3_000_000_000, -1]), column("int4"), [{"22003"}, -1])
    check(pa.array([NAN, INF, 2.0, 2.5]), column("int8"), [{"22003"}, {"22003"}, 2, {"22P02"}])
    check(pa.array([1e300, 1e-300, INF]), column("float4"), [{"22003"}, {"22003"}, INF])
    check(pa.array([9.3e18, -(2.0**63), 2.0**63]), column("int8"), [{"22003"}, -(2**63), {"22003"}])
    year_2400 = pa.array([dt.datetime(2400, 1, 1)], pa.timestamp("us"))
    check(year_2400, column("timestamp"), [micros(2400, 1, 1)])


def test_nan_is_a_value_and_not_null() -> None:
    check(pa.array([NAN, None]), column("float8"), [NAN, None])
    check(pa.array([NAN, None]), column("float4"), [NAN, None])
    check(pa.array([NAN, 0.5]), column("float4"), [NAN, 0.5])  # without a null in the column too
    check(pa.array([NAN, None]), column("numeric"), ["NaN", None])
    check(pa.array([NAN, None]), column("text"), ["NaN", None])


def test_integers() -> None:
    check(pa.array([2**64 - 1, 5], pa.uint64()), column("int8"), [{"22003"}, 5])
    check(pa.array([-1, 2**32 - 1, 2**32]), column("oid"), [{"22003"}, 2**32 - 1, {"22003"}])
    check(
        text(
            " 42", "+7", "-0", "007", "", "1.0", "0x1F", "0xFFFFFFFFFFFFFFFF", "32768", "9" * 5000
        ),
        column("int2"),
        [42, 7, 0, 7, {"22P02"}, {"22P02"}, {"22P02"}, {"22P02"}, {"22003"}, {"22003"}],
    )
    check(
        pa.array([Decimal("2.00"), Decimal("2.50"), None, Decimal("40000.00")]),
        column("int2"),
        [2, {"22P02"}, None, {"22003"}],
    )


def test_floats() -> None:
    check(
        pa.array([2**53, 2**53 + 1, 2**63 - 1]), column("float8"), [2.0**53, {"22003"}, {"22003"}]
    )
    check(pa.array([2**64 - 1], pa.uint64()), column("float8"), [{"22003"}])
    check(pa.array([2**24 + 1, 2**30]), column("float4"), [{"22003"}, 2.0**30])
    check(
        text("1e400", "-inf", "1e-400", " 0.0e5 ", "+1.5", "NaN", "1e", "5e-324", ".5"),
        column("float8"),
        [{"22003"}, -INF, {"22003"}, 0.0, 1.5, NAN, {"22P02"}, 5e-324, 0.5],
    )
    check(text("1e39", "1e-46", "0.25"), column("float4"), [{"22003"}, {"22003"}, 0.25])
    check(
        pa.array([Decimal("0.10"), Decimal("12345678901234567.12")]),
        column("float8"),
        [0.1, {"22003"}],
    )


def test_bool() -> None:
    check(
        text("t", "TRUE", "of", "o", " on ", "0", "2", "", None),
        column("bool"),
        [True, True, False, {"22P02"}, True, False, {"22P02"}, {"22P02"}, None],
    )


def test_numeric_keeps_the_display_scale_of_text() -> None:
    check(
        text(
            "1.50", "1.50e1", "1.5e-3", "1e5", "007.50", "-0.00", ".5", " 5. ", "-inf", "nan", "1e"
        ),
        column("numeric"),
        [
            "1.50",
            "15.0",
            "0.0015",
            "100000",
            "7.50",
            "0.00",
            "0.5",
            "5",
            "-Infinity",
            "NaN",
            {"22P02"},
        ],
    )
    check(
        text("1e200000", "1e-20000", "1e999999999999"),
        column("numeric"),
        [{"22003"}, {"22003"}, {"22P02"}],
    )


def test_numeric_from_floats_is_the_shortest_text() -> None:
    check(
        pa.array([0.1, 1e20, 1e-7, -0.0, -INF]),
        column("numeric"),
        ["0.1", "100000000000000000000", "0.0000001", "0", "-Infinity"],
    )
    check(pa.array([0.1], pa.float32()), column("numeric"), ["0.1"])


LIMITED = column("numeric", numeric_typmod(6, 2))


def test_numeric_limits_never_round() -> None:
    check(
        text("1.005", "1.500", "9999.99", "10000", "NaN", "Infinity", "1e3"),
        LIMITED,
        [{"22003"}, "1.50", "9999.99", {"22003"}, "NaN", {"22003"}, "1000"],
    )
    check(pa.array([9999, 10_000, -10_000]), LIMITED, [Decimal(9999), {"22003"}, {"22003"}])
    check(
        pa.array([Decimal("1.005"), Decimal("1.010"), Decimal("12345.000")]),
        LIMITED,
        [{"22003"}, Decimal("1.010"), {"22003"}],
    )
    check(pa.array([0.1, 0.125]), LIMITED, ["0.1", {"22003"}])


def test_numeric_scales_outside_the_precision() -> None:
    fine = column("numeric", numeric_typmod(3, 5))
    check(text("0.00999", "0.01", "0.000001"), fine, ["0.00999", {"22003"}, {"22003"}])
    check(pa.array([Decimal("0.009"), Decimal("0.010")]), fine, [Decimal("0.009"), {"22003"}])
    coarse = column("numeric", numeric_typmod(3, -2))
    check(text("1200", "1250", "100000"), coarse, ["1200", {"22003"}, {"22003"}])
    check(pa.array([1200, 1250, 100_000]), coarse, [Decimal(1200), {"22003"}, {"22003"}])
    check(pa.array([Decimal(1200), Decimal(1250)]), coarse, [Decimal(1200), {"22003"}])


def test_wide_and_coarse_decimals() -> None:
    wide = pa.array([Decimal("0.1"), Decimal(10) ** 60], pa.decimal256(76, 3))
    check(wide, column("numeric"), ["0.100", "1" + "0" * 60 + ".000"])
    check(pa.array([Decimal(12300)], pa.decimal128(10, -2)), column("numeric"), [Decimal(12300)])
    check(pa.array([Decimal("1E-10")], pa.decimal128(20, 10)), column("text"), ["0.0000000001"])


# ------------------------------------------------------------------ text, bytes, addresses


def test_text_is_never_cut() -> None:
    check(
        text("abcde", "abcdef", "abc   ", "ééééé", "a\0b", ""),
        column("varchar", 5 + 4),
        ["abcde", {"22001"}, {"22001"}, "ééééé", {"22021"}, ""],
    )
    check(text("x" * 63, "é" * 32), column("name"), ["x" * 63, {"42622"}])
    check(pa.array([12345, 123456]), column("varchar", 5 + 4), ["12345", {"22001"}])
    check(text("a\0b"), column("jsonb"), [{"22021"}])


def test_enum_labels() -> None:
    check(text("calm", "Calm", None), column("enum", labels=("calm",)), ["calm", {"22P02"}, None])
    check(text("anything"), column("enum"), ["anything"])


UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
UUID_BYTES = bytes.fromhex(UUID.replace("-", ""))


def test_uuid() -> None:
    good = [UUID, UUID.upper(), "{" + UUID + "}", UUID.replace("-", ""), "a0ee-bc99-" + UUID[9:]]
    bad = [UUID[:-1] + "g", UUID[:-1], "{" + UUID, " " + UUID, UUID.replace("-", "_"), "", "é" * 18]
    check(text(*good, *bad), column("uuid"), [UUID_BYTES] * len(good) + [{"22P02"}] * len(bad))
    check(pa.array([UUID_BYTES, b"short", None]), column("uuid"), [UUID_BYTES, {"22P03"}, None])


def test_bytea() -> None:
    check(text("\\x00fF", "\\x", None), column("bytea"), [b"\x00\xff", b"", None])
    check(
        text("\\x00 ff", "\\x0", "a\\\\b", "a\\001", "é", "a\\9", "a\\", "a\0"),
        column("bytea"),
        [b"\0\xff", {"22P02"}, b"a\\b", b"a\x01", "é".encode(), {"22P02"}, {"22P02"}, {"22021"}],
    )


def test_network_addresses() -> None:
    v4 = bytes([10, 1, 2, 3])
    check(
        text("10.1.2.3", "10.1.2.3/24", "::1", "10.1", "1.2.3.4/33", "fe80::1%eth0", "1.2.3.4/"),
        column("inet"),
        [
            b"\x02\x20\x00\x04" + v4,
            b"\x02\x18\x00\x04" + v4,
            b"\x03\x80\x00\x10" + bytes(15) + b"\x01",
            *[{"22P02"}] * 4,
        ],
    )
    check(
        text("10.1.2.0/24", "10.1.2.3/24"),
        column("cidr"),
        [b"\x02\x18\x01\x04" + bytes([10, 1, 2, 0]), {"22P02"}],
    )
    check(text("08:00:2b:01:02:03", "8:0"), column("macaddr"), [b"\x08\0+\1\2\3", {"22P02"}])


# ------------------------------------------------------------------ times


def test_timestamptz_from_text() -> None:
    noon = micros(2025, 9, 9, 12)
    spellings = [
        "2025-09-09T12:00:00Z",
        "2025-09-09 12:00:00 +0000",
        "2025-09-09 12:00+00",
        "2025-09-09 14:00:00.000+02:00",
        "2025-09-09 08:30:00 -0330",
        "20250909T120000Z",
        " 2025-9-9 12:00:00 PM UTC ",
        "2025-09-09 12:00:00.000000000Z",
    ]
    check(text(*spellings), column("timestamptz"), [noon] * len(spellings))
    check(
        text(
            "2025-09-09 12:00:00",
            "2025-09-09",
            "yesterday",
            "9/9/2025",
            "2025-09-09T12:00:00+16:00",
        ),
        column("timestamptz"),
        [{"22007"}, {"22007"}, {"22007"}, {"22007"}, {"22009"}],
    )


def test_far_times_and_infinity() -> None:
    check(
        text(
            "0044-03-15 BC", "infinity", "-infinity", "294276-12-31 23:59:59.999999", "294277-01-01"
        ),
        column("timestamp"),
        [-64464508800000000, 2**63 - 1, -(2**63), 9223371331199999999, {"22008"}],
    )
    check(
        text("4714-11-24 BC", "4714-11-23 BC", "5874897-12-31", "5874898-01-01", "infinity"),
        column("date"),
        [-2451545, {"22008"}, 2145031948, {"22008"}, 2**31 - 1],
    )
    check(
        text("0000-01-01", "2021-02-29", "2024-02-29", "2024-01-01 24:00:00", "2024-01-01 25:00"),
        column("timestamp"),
        [{"22008"}, {"22008"}, micros(2024, 2, 29), micros(2024, 1, 2), {"22008"}],
    )


def test_nothing_is_rounded_or_dropped_from_times() -> None:
    check(
        text("2024-01-01 00:00:00.1234567", "2024-01-01 23:59:60", "2024-01-01 00:00:00Z"),
        column("timestamp"),
        [{"22008"}, {"22008"}, {"22007"}],
    )
    check(
        text("2024-01-01 00:00:00.12", "2024-01-01 00:00:00.123", "infinity"),
        column("timestamp", 2),
        [micros(2024, 1, 1, 0, 0, 0, 120_000), {"22008"}, 2**63 - 1],
    )
    check(
        text("04:05:06.5", "24:00:00", "05", "04:05:06+02", "4:05 pm"),
        column("time"),
        [14706500000, US_PER_DAY, {"22007"}, {"22007"}, 57900000000],
    )
    check(text("2024-01-01 00:00", "2024-01-01 00:01"), column("date"), [8766, {"22008"}])
    check(
        pa.array([1, 1000], pa.timestamp("ns", "UTC")),
        column("timestamptz"),
        [{"22008"}, 1 - 10_957 * US_PER_DAY],
    )
    check(pa.array([1, 2000], pa.time64("ns")), column("time"), [{"22008"}, 2])
    check(pa.array([100_000, 123_000], pa.time64("us")), column("time", 1), [100_000, {"22008"}])


def test_typed_times() -> None:
    day = dt.datetime(2024, 3, 1)
    for unit in ("s", "ms", "us", "ns"):
        check(pa.array([day], pa.timestamp(unit)), column("timestamp"), [micros(2024, 3, 1)])
        check(pa.array([day], pa.timestamp(unit)), column("date"), [8826])
    check(pa.array([day.replace(hour=1)]), column("date"), [{"22008"}])
    check(pa.array([day.date()], pa.date64()), column("timestamp"), [micros(2024, 3, 1)])
    extreme = pa.array([-(2**63), 2**63 - 1, 0], pa.int64())
    for unit in ("s", "ms"):
        check(
            extreme.view(pa.timestamp(unit)),
            column("timestamp"),
            [{"22008"}, {"22008"}, micros(1970, 1, 1)],
        )
    check(
        extreme.view(pa.timestamp("us", "UTC")),
        column("timestamptz"),
        [{"22008"}, 2**63 - 1 - 10_957 * US_PER_DAY, micros(1970, 1, 1)],
    )
    check(
        pa.array([-(2**31), 0], pa.int32()).view(pa.date32()), column("date"), [{"22008"}, -10957]
    )


BERLIN = {"assume_timezone": "Europe/Berlin"}
GAP, TWICE, SUMMER = (
    dt.datetime(2025, 3, 30, 2, 30),
    dt.datetime(2025, 10, 26, 2, 30),
    dt.datetime(2025, 7, 1, 2),
)


def test_naive_times_are_refused_or_placed_in_the_assumed_zone() -> None:
    naive = pa.array([GAP, TWICE, SUMMER, None], pa.timestamp("ms"))
    with pytest.raises(InputError, match="assume_timezone"):
        compile_cast(naive.type, column("timestamptz"))
    expected = [{"22008"}, {"22008"}, micros(2025, 7, 1), None]
    check(naive, column("timestamptz"), expected, **BERLIN)
    texts = text(str(GAP), str(TWICE), str(SUMMER), None)
    check(texts, column("timestamptz"), expected, **BERLIN)
    mixed = text("2025-07-01T00:00:00Z", "2025-07-01T02:00:00", "2025-07-01 2:00")
    check(mixed, column("timestamptz"), [micros(2025, 7, 1)] * 3, **BERLIN)


def test_zoned_times_into_timestamp() -> None:
    instants = [
        dt.datetime(2025, 10, 26, 0, 30),
        dt.datetime(2025, 10, 26, 1, 30),
        dt.datetime(2025, 7, 1),
    ]
    zoned = pa.array(instants, pa.timestamp("us", "UTC"))
    with pytest.raises(InputError, match="assume_timezone"):
        compile_cast(zoned.type, column("timestamp"))
    # Both instants would be 02:30, so neither could be told from the other.
    expected = [{"22008"}, {"22008"}, micros(2025, 7, 1, 2)]
    check(zoned, column("timestamp"), expected, **BERLIN)
    check(text(*(f"{i}Z" for i in instants)), column("timestamp"), expected, **BERLIN)
    check(
        pa.array(
            [dt.datetime(2025, 6, 30, 22), dt.datetime(2025, 7, 1)], pa.timestamp("us", "UTC")
        ),
        column("date"),
        [9313, {"22008"}],
        **BERLIN,
    )


def interval(micro: int, days: int = 0, months: int = 0) -> bytes:
    return struct.pack(">qii", micro, days, months)


SECOND, HOUR = 1_000_000, 3_600_000_000


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [
        ("1 year 2 mons 3 days 04:05:06.7", interval(14_706_700_000, 3, 14)),
        ("-1 days +02:03:00", interval(2 * HOUR + 180 * SECOND, -1)),
        ("P1Y2M3DT4H5M6.5S", interval(14_706_500_000, 3, 14)),
        ("P2W", interval(0, 14)),
        ("PT-1.5H", interval(-3 * HOUR // 2)),
        ("1.5 days", interval(12 * HOUR, 1)),
        ("1.5 years", interval(0, 0, 18)),
        ("1.3 months", interval(0, 9, 1)),
        ("@ 1 hour 2 mins ago", interval(-HOUR - 120 * SECOND)),
        ("100:00:00", interval(100 * HOUR)),
        ("-00:00:01.5", interval(-1_500_000)),
        ("90 MINUTES", interval(5400 * SECOND)),
        ("1 hour 2 hours", "22007"),
        ("1 hour 00:01", "22007"),
        ("hour", "22007"),
        ("", "22007"),
        ("P", "22007"),
        ("30", "22007"),
        ("1 hourago", "22007"),
        ("infinity", "22007"),
        ("0.0000001 s", "22008"),
        ("00:61:00", "22008"),
        ("99999999999 years", "22015"),
    ],
)
def test_interval_from_text(spelling: str, expected: bytes | str) -> None:
    check(
        text(spelling), column("interval"), [{expected} if isinstance(expected, str) else expected]
    )


def test_interval_from_typed_sources() -> None:
    check(
        pa.array([90, -1], pa.duration("s")),
        column("interval"),
        [interval(90 * SECOND), interval(-SECOND)],
    )
    check(pa.array([2**62], pa.duration("s")), column("interval"), [{"22008"}])
    check(pa.array([1, 1000], pa.duration("ns")), column("interval"), [{"22008"}, interval(1)])
    check(
        pa.array([(1, -2, 3000), None, (0, 0, 1)], pa.month_day_nano_interval()),
        column("interval"),
        [interval(3, -2, 1), None, {"22008"}],
    )
    milliseconds = column("interval", 0x7FFF0003)
    check(text("00:00:00.123", "00:00:00.1234"), milliseconds, [interval(123_000), {"22008"}])
    with pytest.raises(TableError, match="interval"):
        compile_cast(pa.string(), column("interval", 458_751))  # interval year to month
