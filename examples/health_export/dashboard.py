"""The queries of the Grafana dashboard, and a Prometheus (Debian's package) to ask them."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

from batchbench.monitoring import DASHBOARD
from batchbench.servers.guard import start_guard

NOT_INSTALLED = "no prometheus in PATH: apt-get install prometheus"
_READY_LIMIT_S = 20.0
_ASK_LIMIT_S = 10.0


def dashboard_queries(rate_interval: str) -> list[str]:
    """Every panel's queries, with what Grafana puts in for its variables. rate_interval: "10s"."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [
        query.replace("$__rate_interval", rate_interval).replace("$table", ".*")
        for query in queries
    ]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A Prometheus that scrapes one target. url: its own."""

    url: str

    def series(self, query: str) -> list[dict[str, Any]]:
        """What a query finds now: labels under "metric", time and value under "value"."""
        answer = self._ask(f"/api/v1/query?query={quote(query)}")
        if answer["status"] != "success":
            raise ValueError(f"Prometheus refuses {query}: {answer}")
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def _ask(self, path: str) -> Any:
        with urlopen(self.url + path, timeout=_ASK_LIMIT_S) as answer:
            return json.load(answer)


@contextmanager
def open_prometheus(target: str, scrape_ms: int = 500) -> Iterator[Prometheus]:
    """Scrape http://TARGET/metrics for as long as the context lasts; nothing of it stays, however
    this process ends.

    target: host:port. Raises FileNotFoundError where Prometheus is not installed.
    """
    program = shutil.which("prometheus")
    if program is None:
        raise FileNotFoundError(NOT_INSTALLED)
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="batchbench-prometheus-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {scrape_ms}ms}}\n"
            "scrape_configs:\n"
            f"  - {{job_name: batchbench, static_configs: [{{targets: ['{target}']}}]}}\n"
        )
        guard = start_guard(Path(folder), [Path(folder)], signal.SIGTERM)
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
                "--log.level=error",
            ],
            cwd=folder,
            stdin=subprocess.DEVNULL,
        )
        guard.tell(process.pid)
        try:
            prometheus = Prometheus(f"http://127.0.0.1:{port}")
            _until_ready(prometheus, process)
            yield prometheus
        finally:
            process.terminate()
            process.wait(10)
            guard.end()


def _free_port() -> int:
    """Prometheus cannot say which port it took, so it is told one that was free just now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def _until_ready(prometheus: Prometheus, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    while True:
        try:
            if prometheus.series("up == 1"):  # the target was scraped
                return
        except URLError:  # also an answer that it is not ready
            if process.poll() is not None:
                raise ChildProcessError(f"prometheus ended with {process.returncode}") from None
        if time.monotonic() > deadline:
            raise TimeoutError(f"prometheus was not ready within {_READY_LIMIT_S:.0f} s")
        time.sleep(0.1)
