"""Whose fault a failure is: what it calls for, given what was being written."""

from __future__ import annotations

from batchbench.engine.accounts import Span
from batchbench.engine.plan import ShapePlan
from batchbench.errors import BatchbenchError, Failure, WriteError

_SYNTAX_ERROR = "42601"
_INTERNAL_ERROR = "XX000"
_ROW_TOO_BIG = "54000"
_NO_PRIVILEGE = "42501"


def failure_of(error: WriteError, span: Span | None, *, looked: bool) -> Failure:
    """What a failure calls for. span: what was being written, if anything; looked: see
    `_may_be_of_a_value`.
    """
    if span is None:
        return error.failure
    shape = span.chunk.shape
    if error.sqlstate == _ROW_TOO_BIG and span.row_count == 1:  # of an index row
        return Failure.ROW
    if error.sqlstate == _NO_PRIVILEGE and shape.table.row_security:
        return Failure.ROW  # the privilege itself was asked for before the load
    if _may_be_of_a_value(error, shape, looked=looked):
        return Failure.ROW
    return error.failure


def _may_be_of_a_value(error: WriteError, shape: ShapePlan, *, looked: bool) -> bool:
    """Whether it can be the input function of a type that says so: hstore calls malformed text a
    syntax error, PostGIS an internal one. looked: whether the table is known not to have changed,
    which is what the same SQLSTATEs mean elsewhere.
    """
    by_input = [cast.column.type for cast in shape.casts if cast.column.type.by_input]
    if error.sqlstate == _INTERNAL_ERROR:
        return not all(pg_type.sql.startswith('"pg_catalog".') for pg_type in by_input)
    stale = error.failure is Failure.STALE and looked
    return bool(by_input) and (stale or error.sqlstate == _SYNTAX_ERROR)


def failure_to_say(error: Exception) -> BatchbenchError:
    """The same where it is ours to raise; else what should never have happened, so that work still
    ends with its accounts. Its own text is not said: it may hold a row's values.
    """
    if isinstance(error, BatchbenchError):
        return error
    failure = BatchbenchError(
        "no memory was left: lower BATCH_MEMORY_LIMIT_MB or the chunk size"
        if isinstance(error, MemoryError)
        else f"an unexpected {type(error).__name__} stopped the writing: this is a bug of"
        " batchbench, please report it"
    )
    failure.__cause__ = error
    return failure
