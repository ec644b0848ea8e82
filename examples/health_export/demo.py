"""The service under load, from nothing: python -m examples.health_export.demo

An embedded PostgreSQL, the service in a process of its own, Prometheus where it is installed;
payloads at a chosen rate; then what arrived. Ends with 0 where every metric that was sent is
accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import httpx
import psycopg
from prometheus_client.parser import text_string_to_metric_families

from batchbench.config import child_environment
from batchbench.errors import BatchbenchError
from batchbench.profile import PROFILES
from batchbench.servers import open_server
from examples.health_export.dashboard import Prometheus, dashboard_queries, open_prometheus
from examples.health_export.payloads import Payload, payloads, tables
from examples.health_export.sending import Sent, send

_GOAL_S = 5.0
_STATES = ("committed", "duplicates", "rejected", "unwritten", "unknown")


@dataclass(slots=True)
class Accounts:
    """What the answers say, by metric type, and what is wrong with it."""

    sent: Counter[str] = field(default_factory=Counter)
    states: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def check(self, what: str, found: object, wanted: object) -> None:
        """Note what is not as it has to be."""
        if found != wanted:
            self.faults.append(f"{what}: {found}, not {wanted}")


def main() -> int:
    """Run it all and say what came of it."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--metrics", type=int, default=10_000, help="in each request")
    parser.add_argument("--rate", type=float, default=0.8, help="requests a second")
    parser.add_argument("--seconds", type=float, default=12.0, help="for so long")
    arguments = parser.parse_args()
    count = max(1, round(arguments.rate * arguments.seconds))
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # all servers end with either
    try:
        return _demo(list(payloads(count, arguments.metrics)), arguments.rate)
    except (BatchbenchError, ChildProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _demo(bodies: Sequence[Payload], rate_per_s: float) -> int:
    with ExitStack() as opened:
        server = opened.enter_context(open_server("embedded"))
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(tables())
        url = opened.enter_context(_service(server.dsn))
        prometheus = _prometheus(opened, url)
        metrics = sum(body.sent.total() for body in bodies)
        print(
            f"service at {url}, PostgreSQL {server.version} (embedded)\n"
            f"sending {metrics:,} metrics in {len(bodies)} requests, {rate_per_s:g} a second",
            flush=True,
        )
        answers = asyncio.run(send(url, bodies, rate_per_s))
        if prometheus is not None:
            _show_dashboard(prometheus)
        exposition = httpx.get(f"{url}/metrics").text
        accounts = accounts_of(answers)
        compare(accounts, server.dsn, exposition)
    _show(accounts, answers)
    return 1 if accounts.faults else 0


@contextmanager
def _service(dsn: str) -> Iterator[str]:
    """The service in a process of its own, which ends with its standard input, so with us."""
    process = subprocess.Popen(
        [sys.executable, "-m", "examples.health_export", "--port", "0", "--while-stdin"],
        env=child_environment({"DATABASE_URL": dsn}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if not said.startswith("serving at "):
            raise ChildProcessError(f"the service did not start; it ended with {process.wait(10)}")
        yield said.removeprefix("serving at ")
    finally:
        process.communicate()  # closes its standard input and waits


def _prometheus(opened: ExitStack, url: str) -> Prometheus | None:
    try:
        return opened.enter_context(open_prometheus(url.removeprefix("http://")))
    except FileNotFoundError as error:
        print(f"dashboard: not asked, {error}")
        return None


def _show_dashboard(prometheus: Prometheus) -> None:
    queries = dashboard_queries("10s")
    empty = [query for query in queries if not prometheus.series(query)]
    print(f"dashboard: {len(queries) - len(empty)} of {len(queries)} queries return series")
    for query in empty:
        print(f"  none: {query}")


def accounts_of(answers: Sequence[Sent]) -> Accounts:
    """Add the answers up; each has to account for all that its request sent."""
    accounts = Accounts(states={metric: Counter() for metric in PROFILES})
    for number, one in enumerate(answers, 1):
        accounts.sent += one.payload.sent
        accounts.check(f"request {number}: status", one.status, 200)
        if one.answer is None or "metrics" not in one.answer:
            continue
        accounts.check(
            f"request {number}: received", one.answer["received"], one.payload.sent.total()
        )
        accounts.check(f"request {number}: rejected", one.answer["rejected"], one.payload.bad)
        for metric, answer in one.answer["metrics"].items():
            accounts.states[metric].update({state: answer[state] for state in _STATES})
    return accounts


def compare(accounts: Accounts, dsn: str, exposition: str) -> None:
    """The answers against what was sent, against the tables, and against /metrics."""
    exported = {
        (sample.labels["table"], sample.labels["state"]): int(sample.value)
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
        if sample.name == "batchbench_rows_total"
    }
    with psycopg.connect(dsn) as connection:
        for metric, profile in PROFILES.items():
            states, table = accounts.states[metric], f"public.{profile.table_name}"
            accounts.check(f"{metric}: accounted for", states.total(), accounts.sent[metric])
            row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
            accounts.check(f"{table}: rows", row and row[0], states["committed"])
            for state in _STATES:
                found = exported.get((table, state), 0)
                accounts.check(f"/metrics: {table} {state}", found, states[state])


def _show(accounts: Accounts, answers: Sequence[Sent]) -> None:
    print(f"{'':16}{'sent':>10}" + "".join(f"{state:>12}" for state in _STATES))
    total = sum(accounts.states.values(), Counter())
    for metric, states in (*accounts.states.items(), ("in all", total)):
        sent = accounts.sent[metric] if metric in accounts.sent else accounts.sent.total()
        print(f"{metric:16}{sent:>10,}" + "".join(f"{states[state]:>12,}" for state in _STATES))
    seconds = sorted(one.seconds for one in answers)
    median, longest = seconds[len(seconds) // 2], seconds[-1]
    verdict = "within" if longest < _GOAL_S else "over"
    print(f"answers: median {median:.2f} s, longest {longest:.2f} s: {verdict} {_GOAL_S:g} s")
    for fault in accounts.faults:
        print(f"WRONG {fault}")
    if not accounts.faults:
        print("every metric is accounted for: answers, tables and /metrics agree")


if __name__ == "__main__":
    raise SystemExit(main())
