"""What became of the rows that one producer handed over."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from batchbench.accounting import LoadResult
from batchbench.casts import Cast, Fault
from batchbench.engine.accounts import Accounts, Span, fault_reason
from batchbench.engine.chunks import Chunk
from batchbench.engine.plan import LoadOptions
from batchbench.errors import BatchbenchError, WriteError
from batchbench.events import Listener, RowsRejected
from batchbench.ledger import Part
from batchbench.strategies import Written


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was refused. row: its position among those handed over, from 0. sqlstate: the
    server's, or what it would have said. reason: why, without the row's values.
    """

    row: int
    sqlstate: str
    reason: str
    column: str | None = None
    constraint: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the rows of one `Writer.add`: each is in one state.

    row_count == committed + len(duplicates) + len(rejected) + unwritten + unknown.
    duplicates: positions of rows left out for their key (under "update": that a later row of the
        same key replaced in the same statement, or that found a newer or an equal row there).
    unwritten: rows that are not in the table, because what should have written them failed.
    unknown: rows of a COMMIT whose fate the server cannot tell.
    returned: by position, what was asked for of each committed row, as JSON has it (a uuid or a
        time is a text), but a numeric is a Decimal.
    """

    row_count: int
    committed: int
    duplicates: tuple[int, ...] = ()
    rejected: tuple[RejectedRow, ...] = ()
    unwritten: int = 0
    unknown: int = 0
    returned: Mapping[int, tuple[object, ...]] = field(default_factory=dict)


class UnwrittenError(BatchbenchError):
    """Rows of a ticket are not, or perhaps not, in the table. outcomes: which, by table; cause:
    why.
    """

    def __init__(self, cause: BaseException, outcomes: Mapping[str, Outcome]) -> None:
        every = outcomes.values()
        super().__init__(
            f"{cause}. Of {sum(one.row_count for one in every):,} rows"
            f" {sum(one.committed for one in every):,} are committed,"
            f" {sum(one.unwritten for one in every):,} not,"
            f" of {sum(one.unknown for one in every):,} it is not known"
        )
        self.cause = cause
        self.outcomes = outcomes

    @property
    def outcome(self) -> Outcome:
        """Of rows that were handed over for one table. Raises ValueError where there are more."""
        (only,) = self.outcomes.values()
        return only


class AtomicError(BatchbenchError):
    """A row was rejected that was handed over with others as atomic."""

    def __init__(self) -> None:
        super().__init__("one of the rows was rejected, and they were to be written all or none")


class Ticket:
    """To be awaited: gives the `Outcome` once every row is settled, durably.

    Raises UnwrittenError where rows could not be written. May be awaited more than once, or never.
    table: whose rows they are. atomic: whether one that is rejected leaves no other to be written.
    """

    def __init__(self, table: str, row_count: int) -> None:
        self.table = table
        self.row_count = row_count
        self.atomic = False
        self._open_rows = row_count
        self._duplicates: set[int] = set()
        self._rejected: dict[int, RejectedRow] = {}
        self._returned: dict[int, tuple[object, ...]] = {}
        self._unwritten = self._unknown = 0
        self.cause: BaseException | None = None
        self._settled = asyncio.Event()
        self._listeners: list[Callable[[Ticket], None]] = []
        self.settle(0)

    def __await__(self) -> Generator[Any, None, Outcome]:
        yield from self._settled.wait().__await__()
        if self.cause is not None:
            raise UnwrittenError(self.cause, {self.table: self.outcome()})
        return self.outcome()

    async def wait(self) -> None:
        """Wait until all rows are settled, well or not."""
        await self._settled.wait()

    @property
    def settled(self) -> bool:
        """Whether awaiting would return at once."""
        return self._settled.is_set()

    def outcome(self) -> Outcome:
        """What became of the rows, once they are settled."""
        lost = self._unwritten + self._unknown
        left_out = len(self._duplicates) + len(self._rejected)
        return Outcome(
            row_count=self.row_count,
            committed=self.row_count - left_out - lost,
            duplicates=tuple(sorted(self._duplicates)),
            rejected=tuple(self._rejected[row] for row in sorted(self._rejected)),
            unwritten=self._unwritten,
            unknown=self._unknown,
            returned=dict(sorted(self._returned.items())),
        )

    def reject(self, rejected: RejectedRow) -> None:
        """Refuse a row; it is settled when its part is, or at once where it has none."""
        self._forget(rejected.row)
        self._rejected[rejected.row] = rejected
        if self.atomic:
            self.cause = self.cause or AtomicError()

    def tell(self, row: int, *, duplicate: bool, returned: tuple[object, ...] | None) -> None:
        """A statement wrote a row, or left it out for its key; the last word counts."""
        self._forget(row)
        self._rejected.pop(row, None)
        if duplicate:
            self._duplicates.add(row)
        if returned is not None:
            self._returned[row] = returned

    def _forget(self, row: int) -> None:
        self._duplicates.discard(row)
        self._returned.pop(row, None)

    def settle(self, row_count: int) -> None:
        """Some rows are committed or left out for good."""
        self._open_rows -= row_count
        if not self._open_rows and not self._settled.is_set():
            self._settled.set()
            for listener in self._listeners:
                listener(self)

    def on_settled(self, listener: Callable[[Ticket], None]) -> None:
        """Call `listener` once all rows are settled, if they are not yet."""
        self._listeners.append(listener)

    def give_up(self, cause: BaseException) -> int:
        """Nobody will write the rows that are not settled: so many."""
        row_count = self._open_rows
        if row_count:
            self._unwritten += row_count
            self.cause = self.cause or cause
            self.settle(row_count)
        return row_count

    def fail(self, row: int, cause: BaseException, *, unknown: bool) -> bool:
        """A row that was to be written is not (true), or nobody knows. A rejected one stays
        rejected.
        """
        if row in self._rejected:
            return False
        self._forget(row)
        self._unknown += unknown
        self._unwritten += not unknown
        self.cause = self.cause or cause
        return not unknown


class PayloadTicket:
    """A ticket for rows of several tables, that are committed together. tickets: one a table, by
    the names that they were handed over with.

    Awaited, it gives the `Outcome` of each table, or raises UnwrittenError with them: either no
    good row of any table is unwritten or unknown, or all of them are.
    """

    def __init__(self, tickets: Mapping[str, Ticket]) -> None:
        self.tickets = tickets

    def __await__(self) -> Generator[Any, None, dict[str, Outcome]]:
        yield from self.wait().__await__()
        outcomes = {table: ticket.outcome() for table, ticket in self.tickets.items()}
        for ticket in self.tickets.values():
            if ticket.cause is not None:
                raise UnwrittenError(ticket.cause, outcomes)
        return outcomes

    async def wait(self) -> None:
        """Wait until all rows are settled, well or not."""
        for ticket in self.tickets.values():
            await ticket.wait()

    @property
    def settled(self) -> bool:
        """Whether awaiting would return at once."""
        return all(ticket.settled for ticket in self.tickets.values())


@dataclass(frozen=True, slots=True)
class Share:
    """Rows of one ticket in a chunk. first_row: of them, in the writer's own count of all rows.
    rows: their positions among those handed over.
    """

    ticket: Ticket
    first_row: int
    rows: Sequence[int]


@dataclass(slots=True)
class Shares:
    """Who owns the rows of chunks in flight."""

    _starts: list[int] = field(default_factory=list)
    _shares: list[Share] = field(default_factory=list)

    def add(self, shares: Sequence[Share]) -> None:
        """Of a chunk whose rows follow all others'."""
        self._starts += [share.first_row for share in shares]
        self._shares += shares

    def remove(self, shares: Sequence[Share]) -> None:
        """The chunk is settled."""
        at = bisect_right(self._starts, shares[0].first_row) - 1
        del self._starts[at : at + len(shares)], self._shares[at : at + len(shares)]

    def owner(self, row: int) -> tuple[Ticket, int]:
        """The ticket of a row, and the row's position in it."""
        share = self._shares[bisect_right(self._starts, row) - 1]
        return share.ticket, share.rows[row - share.first_row]


class TicketAccounts(Accounts):
    """The accounts of a writer: rejects go to their producers' tickets, not to a dead letter."""

    def __init__(self, result: LoadResult, options: LoadOptions, emit: Listener) -> None:
        super().__init__(result, options, None, emit)
        self.shares = Shares()
        self._named: set[int] = set()
        self._committed: dict[int, int] = {}  # first row -> row count, of chunks in flight
        self._unknown: dict[int, int] = {}

    def took(self, seconds: float, byte_count: int) -> None:
        self.result.byte_count += byte_count  # a service writes chunks without end: count, not list

    def committed(self, parts: Sequence[Part]) -> None:
        super().committed(parts)
        self.acknowledged.clear()
        self._committed.update(_spans(parts))

    def unknown(self, parts: Sequence[Part]) -> None:
        super().unknown(parts)
        self.result.unknown_rows.clear()
        self._unknown.update(_spans(parts))

    def wrote(self, span: Span, written: Written) -> None:
        duplicates = set(written.places)
        if not (duplicates or written.returned) and id(span.chunk) not in self._named:
            return
        self._named.add(id(span.chunk))  # where it is written again, all its rows are looked at
        for place in range(span.row_count):
            ticket, row = self._owner(span, place)
            ticket.tell(row, duplicate=place in duplicates, returned=written.returned.get(place))

    def close(self, chunk: Chunk, shares: Sequence[Share], failure: BaseException | None) -> None:
        """A chunk is done with: tell its tickets."""
        first, last = chunk.location.first_row, chunk.location.first_row + chunk.row_count
        if failure is not None:
            committed, unknown = _rows(self._committed), _rows(self._unknown)
            lost = 0
            for share in shares:
                for row, number in zip(share.rows, count(share.first_row), strict=False):
                    if number not in committed:
                        lost += share.ticket.fail(row, failure, unknown=number in unknown)
            self.unwritten(chunk.table, lost)
        for spans in (self._committed, self._unknown):
            for start in [row for row in spans if first <= row < last]:
                del spans[start]
        self._named.discard(id(chunk))
        self.shares.remove(shares)
        for share in shares:
            share.ticket.settle(len(share.rows))

    def unwritten(self, table: str, row_count: int) -> None:
        """Rows that no statement will write."""
        self.result.counts(table).unwritten += row_count
        self.settled(table, "unwritten", row_count)

    async def reject(self, span: Span, error: WriteError) -> None:
        ticket, row = self._owner(span, 0)
        reason = error.condition
        ticket.reject(RejectedRow(row, error.sqlstate, reason, error.column, error.constraint))
        self.result.counts(span.chunk.table).rejected += 1
        self._emit(RowsRejected(span.chunk.table, 1, error.sqlstate))
        if ticket.atomic:
            raise AtomicError

    def fault(self, ticket: Ticket, cast: Cast, fault: Fault, row: int) -> None:
        """A row that does not fit its column never gets into a chunk."""
        reason = fault_reason(cast, fault)
        ticket.reject(RejectedRow(row, fault.sqlstate, reason, cast.column.name))
        self.result.counts(ticket.table).rejected += 1
        self._emit(RowsRejected(ticket.table, 1, fault.sqlstate))

    def _owner(self, span: Span, place: int) -> tuple[Ticket, int]:
        chunk: Chunk = span.chunk
        return self.shares.owner(chunk.place(chunk.position(span.offset + place)).first_row)


def _spans(parts: Sequence[Part]) -> dict[int, int]:
    return {location.first_row: location.row_count for part in parts for location in part.locations}


def _rows(spans: dict[int, int]) -> set[int]:
    return {row for first, row_count in spans.items() for row in range(first, first + row_count)}
