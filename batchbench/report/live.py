"""The report of a sweep that still runs, served on loopback."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from batchbench.errors import ConfigError, InputError
from batchbench.report.building import Judge, build_reports
from batchbench.report.model import Report
from batchbench.report.page import LiveState, document, render
from batchbench.results import Run

_LOOPBACK = "127.0.0.1"
_OWN_NAMES = frozenset({_LOOPBACK, "localhost"})
_STOP_S = 5.0
_WAITING = "No trial has ended well yet. The charts come with the first ones."


class LivePage:
    """Serves a run's page, and its newest data to pages that ask.

    `update` is cheap: a report is computed when somebody looks, once for each change. Only
    loopback is listened on, and only requests to it by its own name are answered, so that no
    other site can read it through a browser.
    planned: loads of the plan, 0 where unknown. port: 0 for a free one. judge: asked for the
    gates, in another thread.
    Raises ConfigError where the port is taken.
    """

    def __init__(self, planned: int = 0, port: int = 0, judge: Judge | None = None) -> None:
        self._planned = planned
        self._judge = judge
        self._lock = threading.Lock()
        self._computing = threading.Lock()  # apart, so that no sweep waits for a page
        self._run: Run | None = None
        self._finished = False
        self._version = 0
        self._computed = (-1, "")
        try:
            self._server = _Server(self, port)
        except OSError as error:
            raise ConfigError(
                f"port {port} of {_LOOPBACK} cannot be listened on ({error.strerror}); give"
                " another one, or 0 for a free one"
            ) from error
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="live-page", daemon=True
        )
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{_LOOPBACK}:{self._server.server_address[1]}/"

    def update(self, run: Run, *, finished: bool = False, planned: int | None = None) -> None:
        """A trial ended, or the sweep did. run: as far as it is. planned: where that changed."""
        with self._lock:
            self._run = run
            self._planned = self._planned if planned is None else planned
            self._finished = finished
            self._version += 1

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(_STOP_S)

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def page(self) -> str:
        """The page, with what there is now."""
        return render(self.data(), "sweep", live=True)

    def data(self, after: int = -1) -> str:
        """The newest data as JSON; "" where it is no newer than version `after`."""
        with self._computing:
            with self._lock:
                run, version, finished = self._run, self._version, self._finished
                planned = self._planned
            if version == after:
                return ""
            if self._computed[0] != version:
                done = 0 if run is None else len(run.records)
                state = LiveState(version, done, planned, finished, _WAITING)
                self._computed = (version, document(self._reports(run), state))
            return self._computed[1]

    def _reports(self, run: Run | None) -> tuple[Report, ...]:
        try:
            return () if run is None else build_reports(run, judge=self._judge)
        except InputError:  # no usable trial so far
            return ()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, live: LivePage, port: int) -> None:
        self.live = live
        super().__init__((_LOOPBACK, port), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_GET(self) -> None:  # the name is http.server's
        """Answer "/" and "/data.json?after=VERSION"."""
        parts = urlsplit(self.path)
        if self.headers.get("Host", "").rpartition(":")[0] not in _OWN_NAMES:
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "ask for it by its own name")
        elif parts.path == "/":
            self._answer(HTTPStatus.OK, "text/html", self.server.live.page())
        elif parts.path == "/data.json":
            data = self.server.live.data(_version(parse_qs(parts.query).get("after", ())))
            status = HTTPStatus.OK if data else HTTPStatus.NO_CONTENT
            self._answer(status, "application/json", data)
        else:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "nothing here")

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if status is not HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Requests are not logged: standard error belongs to the sweep's progress."""


def _version(given: Sequence[str]) -> int:
    text = given[0] if given else ""
    return int(text) if text.isascii() and text.isdigit() else -1
