"""Run the service: python -m examples.health_export --port 8000

The database is DATABASE_URL's, or that of libpq's PG* variables; BATCH_* say how to write.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading

import uvicorn

from batchbench.config import find_dsn, load_settings
from batchbench.errors import BatchbenchError, ConfigError
from examples.health_export.service import create_app

_MOST_REQUESTS = 64  # at a time; more get a 503 at once


def main() -> int:
    """Serve until SIGTERM, SIGINT, or the end of standard input where --while-stdin is given."""
    parser = argparse.ArgumentParser(prog="health_export", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free one, which is printed")
    parser.add_argument("--while-stdin", action="store_true", help="end with standard input")
    arguments = parser.parse_args()
    try:
        return asyncio.run(_serve(arguments.host, arguments.port, arguments.while_stdin))
    except (BatchbenchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


async def _serve(host: str, port: int, while_stdin: bool) -> int:
    settings, doubts = load_settings()
    for doubt in doubts:
        print(f"warning: {doubt}", file=sys.stderr)
    found = find_dsn(None)
    if found is None:
        raise ConfigError("no database is named: set DATABASE_URL, or PGHOST and its like")
    # uvicorn hands on the signal that ended it, once it has: the writers are closed after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    app = create_app(found.dsn, settings)
    with socket.create_server((host, port)) as listening:
        async with app.router.lifespan_context(app):
            config = uvicorn.Config(
                app, lifespan="off", log_level="warning", limit_concurrency=_MOST_REQUESTS
            )
            server = uvicorn.Server(config)
            if while_stdin:
                threading.Thread(target=_end_with_stdin, args=(server,), daemon=True).start()
            print(f"serving at http://{host}:{listening.getsockname()[1]}", flush=True)
            await server.serve(sockets=[listening])
    return 0


def _end_with_stdin(server: uvicorn.Server) -> None:
    while os.read(0, 1 << 10):
        pass
    server.should_exit = True


if __name__ == "__main__":
    raise SystemExit(main())
