"""A run against an earlier one, configuration by configuration."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from batchbench.errors import InputError
from batchbench.report.first import Evidence
from batchbench.report.groups import Block, Group
from batchbench.report.model import BaselineReport, BaselineRow
from batchbench.report.pairs import Difference, as_difference
from batchbench.report.yardstick import drift_of_yardstick, yardstick_logs
from batchbench.stats.unpaired import unpaired_ratio


def baseline_report(after: Evidence, before: Evidence) -> BaselineReport:
    """Trials of two runs are no pairs: each is measured against its own run's yardstick, where
    both have one, and as it is elsewise, with a doubt.

    Raises InputError where they have no configuration in common.
    """
    both = all(drift_of_yardstick(side.run) is not None for side in (after, before))
    here, there = (side.run.info.environment.machine for side in (after, before))
    same_machine = here == there
    earlier = {_key(group): group for group in before.groups if group.usable}
    rows, unmatched = [], 0
    for group in after.groups:
        other = earlier.get(_key(group))
        if not group.usable or other is None:
            unmatched += 1
            continue
        one = _speeds(after, group, against_yardstick=both)
        two = _speeds(before, other, against_yardstick=both)
        if one and two:
            found = unpaired_ratio(
                *(list(one.values()), list(two.values())),
                epochs=[epoch for epoch, _ in one],
                other_epochs=[epoch for epoch, _ in two],
            )
            if not (both or same_machine):  # no interval holds what machines differ by
                found = replace(found, low=None, high=None, error=None)
            rows.append(_row(group, other, as_difference(found)))
    if not rows:
        raise InputError(
            f"baseline {before.run.info.run_id} has none of the configurations of run"
            f" {after.run.info.run_id}: repeat the command of one of them for the other"
        )
    rows.sort(key=lambda row: row.symbol not in "+-")
    doubts = tuple(_doubts(after, before, with_yardstick=both))
    return BaselineReport(before.run.info.run_id, tuple(rows), doubts, unmatched)


def _key(group: Group) -> tuple[object, ...]:
    return group.table, group.way, group.chunk_rows


def _speeds(evidence: Evidence, group: Group, *, against_yardstick: bool) -> dict[Block, float]:
    """By block: rows a second, or how many times as fast as the yardstick."""
    logs = group.logs()
    if against_yardstick:
        yard = yardstick_logs(evidence.run, group.table)
        logs = {block: value - yard[block] for block, value in logs.items() if block in yard}
    return {block: math.exp(value) for block, value in logs.items()}


def _row(group: Group, other: Group, found: Difference) -> BaselineRow:
    name = f"{group.table}: {group.name}"
    return BaselineRow(name, other.speed_text, group.speed_text, found.text, found.symbol)


def _doubts(after: Evidence, before: Evidence, *, with_yardstick: bool) -> Iterator[str]:
    one, other = after.run.info, before.run.info
    if not with_yardstick:
        yield (
            "One of the runs has no yardstick (the server's own COPY in every block), so speeds"
            " are compared as they are, within one machine: what it did between the runs counts as"
            " change"
        )
    if one.environment != other.environment:
        yield "The runs are of different machines, or other packages"
    if one.server != other.server:
        yield "The runs are of different servers, or other settings of one"
    if one.plan.get("rows") != other.plan.get("rows"):
        yield f"Loads had {one.plan.get('rows')} rows, before {other.plan.get('rows')}"
    yield from (f"Baseline: {warning}" for warning in before.run.warnings)
