"""The service: a health payload in, what became of each metric out."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import IO, Annotated

import pyarrow as pa
from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse

from batchbench.config import Settings
from batchbench.engine import LoadOptions
from batchbench.errors import BatchbenchError, InputError
from batchbench.monitoring.prometheus import PrometheusMetrics
from batchbench.profile import PROFILES
from batchbench.sources import HealthOptions, open_source
from batchbench.strategies import OnConflict
from batchbench.writer import FlushLimits, Outcome, UnwrittenError, Writer
from examples.health_export.answers import MetricAnswer, PayloadAnswer, answer_of

MOST_BODY_BYTES = 64 << 20
_IN_MEMORY_BYTES = 4 << 20
_READ_ROWS = 8_192
_READ_BYTES = 8 << 20
_COLUMNS = {metric: profile.arrow_schema for metric, profile in PROFILES.items()}
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"

_log = logging.getLogger("health_export")

Metrics = Mapping[str, pa.Table]
"""The rows of a payload by their type."""


def create_app(
    dsn: str,
    settings: Settings,
    *,
    limits: FlushLimits | None = None,
    most_body_bytes: int = MOST_BODY_BYTES,
) -> FastAPI:
    """The application. It opens a writer of the five health tables when it starts.

    most_body_bytes: of one payload.
    """
    metrics = PrometheusMetrics()
    options = LoadOptions(settings=settings, on_conflict=OnConflict.NOTHING)
    tables = [profile.table_name for profile in PROFILES.values()]
    writer = Writer(dsn, tables, options, limits=limits, on_event=metrics.listen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with writer:
            yield

    app = FastAPI(title="health export", lifespan=lifespan)

    @app.post("/payloads")
    async def take(request: Request, user_id: Annotated[str | None, Query()] = None) -> Response:
        """Write a payload, in one transaction; the answer comes when all of it is settled.

        user_id: of an app's export, whose records name none.
        """
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
            await _receive(request, file, most_body_bytes)
            try:
                rows, left_out = await asyncio.to_thread(_rows, file, user_id)
            except InputError as error:
                raise HTTPException(422, str(error)) from error
        answer = PayloadAnswer(await _write(writer, rows), left_out)
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
        return {"status": "ok" if writer.is_open else "starting"}

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


def _rows(file: IO[bytes], user_id: str | None) -> tuple[Metrics, Mapping[str, int]]:
    """All rows of a payload, and what has no table by its kind. Blocking. Raises InputError."""
    health = HealthOptions(_COLUMNS, user_id)
    source = open_source(file, format="health", name="the payload", health=health)
    batches: dict[str, list[pa.RecordBatch]] = {}
    for batch in source.batches(_READ_ROWS, _READ_BYTES):
        batches.setdefault(str(batch.target), []).append(batch.columns)
    rows = {metric: pa.Table.from_batches(read) for metric, read in batches.items()}
    return rows, source.not_loaded()


async def _write(writer: Writer, rows: Metrics) -> dict[str, MetricAnswer]:
    names = {metric: PROFILES[metric].table_name for metric in rows}
    try:
        outcomes = await (await writer.add({names[metric]: rows[metric] for metric in rows}))
    except UnwrittenError as error:
        _log.warning("%s", error)  # such messages hold no values
        outcomes = error.outcomes
    except BatchbenchError as error:  # the writer takes nothing of it (a table that has changed)
        _log.warning("%s", error)
        outcomes = {
            names[metric]: Outcome(len(rows[metric]), 0, unwritten=len(rows[metric]))
            for metric in rows
        }
    return {metric: answer_of(outcomes[names[metric]]) for metric in rows}
