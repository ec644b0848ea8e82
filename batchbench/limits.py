"""How many rows one statement may carry. Pure arithmetic, no I/O.

PostgreSQL's Bind message counts parameters in 16 bits, so no statement may carry more than
65,535; asyncpg stops at 32,767. What a strategy spends of that is its `ParameterUse`.
"""

from __future__ import annotations

from dataclasses import dataclass

PROTOCOL_PARAMETERS = 65_535
"""Source: PostgreSQL documentation, message formats, Bind (Int16, read as unsigned)."""

ASYNCPG_PARAMETERS = 32_767
"""Source: asyncpg's prepared statements count arguments in a signed 16-bit integer."""

MAX_COLUMNS = 1_600
"""Source: PostgreSQL documentation, appendix K, "columns per table"."""


@dataclass(frozen=True, slots=True)
class ParameterUse:
    """Parameters that a statement spends: `per_statement`, and `per_row` for each row."""

    per_row: int
    per_statement: int = 0

    def of(self, row_count: int) -> int:
        """Parameters of a statement of `row_count` rows."""
        return self.per_statement + self.per_row * row_count

    def largest_chunk(self, parameter_limit: int) -> int | None:
        """Most rows a statement can carry; None where the limit does not bind.

        Raises ValueError where not even one row fits.
        """
        if self.of(1) > parameter_limit:
            raise ValueError(
                f"one row needs {self.of(1):,} parameters, the limit is {parameter_limit:,}"
            )
        if self.per_row == 0:
            return None
        return (parameter_limit - self.per_statement) // self.per_row


def values_use(column_count: int) -> ParameterUse:
    """Multi-row VALUES: one parameter a value."""
    return ParameterUse(per_row=column_count)


def unnest_use(column_count: int) -> ParameterUse:
    """UNNEST: one array a column, however many rows."""
    return ParameterUse(per_row=0, per_statement=column_count)


COPY_USE = ParameterUse(per_row=0)
"""COPY binds no parameters."""


def chunk_rows(configured: int, use: ParameterUse, parameter_limit: int) -> int:
    """Rows a statement really gets: `configured`, cut down to what the limit allows."""
    largest = use.largest_chunk(parameter_limit)
    return configured if largest is None else min(configured, largest)
