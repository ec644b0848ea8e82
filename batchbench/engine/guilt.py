"""Whether a failure may be the fault of a row's own value."""

from __future__ import annotations

from batchbench.engine.plan import ShapePlan
from batchbench.errors import Failure, WriteError

_SYNTAX_ERROR = "42601"
_INTERNAL_ERROR = "XX000"


def may_be_of_a_value(error: WriteError, shape: ShapePlan, *, looked: bool) -> bool:
    """Whether it can be the input function of a type that says so: hstore calls malformed text a
    syntax error, PostGIS an internal one. looked: whether the table is known not to have changed,
    which is what the same SQLSTATEs mean elsewhere.
    """
    by_input = [cast.column.type for cast in shape.casts if cast.column.type.by_input]
    if error.sqlstate == _INTERNAL_ERROR:
        return not all(pg_type.sql.startswith('"pg_catalog".') for pg_type in by_input)
    stale = error.failure is Failure.STALE and looked
    return bool(by_input) and (stale or error.sqlstate == _SYNTAX_ERROR)
