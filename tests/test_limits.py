"""No statement goes over its limit, whatever the table's width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchbench.drivers import CAPABILITIES
from batchbench.limits import (
    ASYNCPG_PARAMETERS,
    COPY_USE,
    MAX_COLUMNS,
    PROTOCOL_PARAMETERS,
    ParameterUse,
    chunk_rows,
    unnest_use,
    values_use,
)

USES = {"values": values_use, "unnest": unnest_use, "copy": lambda columns: COPY_USE}


@given(
    columns=st.integers(1, MAX_COLUMNS),
    rows=st.integers(0, 10**7),
    chunk_size=st.integers(1, 10**6),
    strategy=st.sampled_from(sorted(USES)),
    driver=st.sampled_from(sorted(CAPABILITIES)),
)
def test_every_statement_is_legal_and_no_row_is_left(
    columns: int, rows: int, chunk_size: int, strategy: str, driver: str
) -> None:
    use, limit = USES[strategy](columns), CAPABILITIES[driver].parameter_limit
    size = chunk_rows(chunk_size, use, limit)
    assert 1 <= size <= chunk_size
    assert use.of(size) <= limit
    # The largest legal size is really the largest: one row more would not go.
    if size < chunk_size:
        assert use.of(size + 1) > limit
    full, rest = divmod(rows, size)
    assert full * size + rest == rows


def test_the_service_that_lost_its_metrics() -> None:
    use = values_use(19)
    assert use.of(7_000) == 133_000
    assert use.largest_chunk(PROTOCOL_PARAMETERS) == 3_449
    assert use.largest_chunk(ASYNCPG_PARAMETERS) == 1_724


def test_default_chunk_of_six_columns() -> None:
    use = values_use(6)
    assert chunk_rows(8_000, use, PROTOCOL_PARAMETERS) == 8_000
    assert chunk_rows(8_000, use, ASYNCPG_PARAMETERS) == 5_461


def test_a_row_that_never_fits_is_said() -> None:
    with pytest.raises(ValueError, match="one row needs 5 parameters, the limit is 4"):
        ParameterUse(per_row=5).largest_chunk(4)
