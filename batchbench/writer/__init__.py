"""The engine inside a service: `Writer` takes rows from many producers and answers for each."""

from batchbench.writer.tickets import Outcome, RejectedRow, Ticket, UnwrittenError
from batchbench.writer.writing import FlushLimits, Writer, WriterClosedError, WriterFullError

__all__ = [
    "FlushLimits",
    "Outcome",
    "RejectedRow",
    "Ticket",
    "UnwrittenError",
    "Writer",
    "WriterClosedError",
    "WriterFullError",
]
