"""The service: a health payload in, what became of each metric out."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from batchbench.batch import Batch
from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.errors import BatchbenchError, InputError
from batchbench.monitoring.prometheus import PrometheusMetrics
from batchbench.profile import PROFILES
from batchbench.sources import HealthOptions, open_source
from batchbench.strategies import OnConflict
from batchbench.writer import FlushLimits, Outcome, Ticket, UnwrittenError, Writer
from examples.health_export.answers import MetricAnswer, PayloadAnswer, answer_of

MOST_BODY_BYTES = 64 << 20
_IN_MEMORY_BYTES = 4 << 20
_READ_ROWS = 8_192
_READ_BYTES = 8 << 20
_COLUMNS = {metric: profile.arrow_schema for metric, profile in PROFILES.items()}
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

_log = logging.getLogger("health_export")

Writers = Mapping[str, Writer]


def create_app(
    dsn: str,
    settings: Settings,
    *,
    limits: FlushLimits | None = None,
    most_body_bytes: int = MOST_BODY_BYTES,
) -> FastAPI:
    """The application. It opens a writer for each of the five health tables when it starts.

    settings: the memory limit is shared by the writers. most_body_bytes: of one payload.
    """
    metrics = PrometheusMetrics()
    share = settings.model_copy(
        update={"memory_limit_mb": settings.memory_limit_mb / len(PROFILES)}
    )
    options = LoadOptions(settings=share, on_conflict=OnConflict.NOTHING)
    writers: dict[str, Writer] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            for metric, profile in PROFILES.items():
                writer = Writer(
                    dsn, profile.table_name, options, limits=limits, on_event=metrics.listen
                )
                writers[metric] = await opened.enter_async_context(writer)
            yield
        writers.clear()

    app = FastAPI(title="health export", lifespan=lifespan)

    @app.post("/payloads")
    async def take(request: Request, user_id: Annotated[str | None, Query()] = None) -> Response:
        """Write a payload; the answer comes when all of it is settled.

        user_id: of an app's export, whose records name none.
        """
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            await _receive(request, file, most_body_bytes)
            try:
                batches, left_out = await asyncio.to_thread(_batches, file, user_id)
            except InputError as error:
                raise HTTPException(422, str(error)) from error
        answer = PayloadAnswer(await _write(writers, batches), left_out)
        # Sent again, what is committed by then is a duplicate: nothing is doubled.
        status = 503 if answer.incomplete else 200
        return JSONResponse(answer.as_dict(), status)

    @app.get("/metrics")
    async def exposition() -> Response:
        """For Prometheus."""
        return Response(metrics.exposition(), media_type=_EXPOSITION)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the service takes payloads."""
        return {"status": "ok" if writers else "starting"}

    return app


async def _receive(request: Request, file: IO[bytes], most_bytes: int) -> None:
    """The body, to memory or a file that goes with the request."""
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > most_bytes:
            raise HTTPException(413, f"a payload may have {most_bytes:,} bytes: send it in parts")
        file.write(part)
    file.seek(0)


def _batches(file: IO[bytes], user_id: str | None) -> tuple[list[Batch], dict[str, int]]:
    """All rows of a payload, and what has no table by its kind. Blocking. Raises InputError."""
    health = HealthOptions(_COLUMNS, user_id)
    source = open_source(file, format="health", name="the payload", health=health)
    return list(source.batches(_READ_ROWS, _READ_BYTES)), dict(source.not_loaded())


async def _write(writers: Writers, batches: list[Batch]) -> dict[str, MetricAnswer]:
    """Hand everything over, then wait for all of it."""
    tickets = [await _add(writers[str(batch.target)], batch) for batch in batches]
    answers: dict[str, MetricAnswer] = {}
    for batch, ticket in zip(batches, tickets, strict=True):
        metric, answer = str(batch.target), answer_of(await _outcome(ticket, batch), batch)
        answers[metric] = answers[metric] + answer if metric in answers else answer
    return answers


async def _add(writer: Writer, batch: Batch) -> Ticket | None:
    """None where the writer refuses all rows (a table that has changed)."""
    try:
        return await writer.add(batch.columns)
    except BatchbenchError as error:
        _log.warning("%s: %s", batch.target, error)  # such messages hold no values
        return None


async def _outcome(ticket: Ticket | None, batch: Batch) -> Outcome:
    if ticket is None:
        return Outcome(batch.row_count, 0, unwritten=batch.row_count)
    try:
        return await ticket
    except UnwrittenError as error:
        _log.warning("%s: %s", batch.target, error)
        return error.outcome
