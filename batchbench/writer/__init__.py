"""The engine inside a service: `Writer` takes rows from many producers and answers for each."""

from batchbench.writer.tickets import (
    AtomicError,
    Outcome,
    PayloadTicket,
    RejectedRow,
    Ticket,
    UnwrittenError,
)
from batchbench.writer.writing import FlushLimits, Writer, WriterClosedError, WriterFullError

__all__ = [
    "AtomicError",
    "FlushLimits",
    "Outcome",
    "PayloadTicket",
    "RejectedRow",
    "Ticket",
    "UnwrittenError",
    "Writer",
    "WriterClosedError",
    "WriterFullError",
]
