"""What a person should know of a sweep besides its figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from batchbench.harness.brief import Brief
from batchbench.harness.observe.server import NOT_ALLOWED
from batchbench.harness.planning import FEWEST_CHUNKS
from batchbench.harness.progress import SweepEvent, SweepListener, SweepNotice
from batchbench.harness.state import WEAK_COMMITS
from batchbench.results import Run
from batchbench.stats import FEWEST_PAIRS


class Once:
    """Hands events on; a notice only the first time."""

    def __init__(self, listener: SweepListener | None) -> None:
        self._listener = listener
        self._texts: set[str] = set()

    def __call__(self, event: SweepEvent) -> None:
        if self._listener is not None:
            self._listener(event)

    def notice(self, text: str) -> None:
        """Tell a text that was not told yet."""
        if text not in self._texts:
            self._texts.add(text)
            self(SweepNotice(text))


def said_at_start(brief: Brief) -> Iterator[str]:
    """What this role, or these settings, make other than one would think."""
    plan = brief.plan
    if plan.server_settings.get("synchronous_commit") in WEAK_COMMITS:
        value = plan.server_settings["synchronous_commit"]
        yield (
            f"synchronous_commit={value}: durability is relaxed, a crash can lose commits that were"
            " acknowledged; these speeds are not comparable with those of full durability"
        )
    if not brief.privileges.checkpoint:
        yield (
            "CHECKPOINT is left out, since this role is no member of pg_checkpoint: a checkpoint of"
            " the server's own may fall into any load"
        )


def said_at_end(run: Run) -> Iterator[str]:
    """What this role may not see, and where chunks or pairs are too few for a claim; of an open
    loop the table itself says the latter, of a confirmation its verdict.
    """
    yield from _not_allowed(run)
    if run.is_open_loop or run.info.confirms is not None:
        return
    good = [record for record in run.trials if record.usable]
    stopped = {name for look in run.info.looks for name in look.dropped}
    good = [record for record in good if record.name not in stopped]
    few = {record.chunk_size for record in good if record.chunks < FEWEST_CHUNKS}
    if few:
        largest = max(record.chunk_rows or 0 for record in good)
        sizes = ", ".join(f"{size:,}" for size in sorted(few))
        yield (
            f"under {FEWEST_CHUNKS} chunks a load at chunk size {sizes}: too few for a claim about"
            f" chunk size; --rows {FEWEST_CHUNKS * largest} has enough of all"
        )
    pairs = Counter(record.key for record in good)
    least = min(pairs.values(), default=0)
    if good and least < FEWEST_PAIRS:
        count = "1 pair" if least == 1 else f"{least} pairs"
        yield (
            f"only {count} of loads to compare: {FEWEST_PAIRS} are the least for an interval, so"
            " this is provisional; raise --repeats or --budget"
        )


def _not_allowed(run: Run) -> Iterator[str]:
    """A line for each reason: what is not known for another one, no GRANT would show."""
    names: dict[str, list[str]] = {}
    for name, why in run.unobserved.items():
        if why.startswith(NOT_ALLOWED):
            names.setdefault(why, []).append(name)
    for why, of_it in names.items():
        yield f"not seen: {', '.join(of_it)}; {why}"
