"""What a load's options come to on somebody else's connection."""

from __future__ import annotations

from dataclasses import replace

from batchbench.drivers.connector import Connector
from batchbench.engine.plan import LoadOptions
from batchbench.errors import ConfigError


def on_their_terms(options: LoadOptions, connector: Connector) -> LoadOptions:
    """The options with the driver and, at most, the writers that the connections allow.

    Raises ConfigError where another driver was asked for.
    """
    if options.driver not in (None, connector.driver):
        raise ConfigError(
            f"driver {options.driver} cannot use a connection of {connector.driver}: leave driver"
            " out"
        )
    parallelism = options.parallelism
    if connector.session_limit is not None:
        parallelism = min(options.writers, connector.session_limit)
    return replace(options, driver=connector.driver, parallelism=parallelism)


def inside_theirs(options: LoadOptions, resume: str | None) -> LoadOptions:
    """The options inside somebody else's open transaction, whose COMMIT is not ours to settle.

    Raises ConfigError for what needs commits of its own.
    """
    asked = {
        "resume": resume is not None,
        f"exactly_once={options.exactly_once}": options.exactly_once in ("ledger", "status"),
        "dedup over a whole load": options.one_of_each_key is not None,
    }
    if refused := [what for what, is_asked in asked.items() if is_asked]:
        raise ConfigError(
            f"{refused[0]} cannot work inside an open transaction of yours, which only you commit:"
            " leave it out, or hand over a connection without a transaction"
        )
    return replace(options, exactly_once="off")
