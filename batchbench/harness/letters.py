"""What a sweep and its client process write to each other: JSON.

Nothing in a letter can run code. Rows travel as Arrow's stream format, in base64.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from batchbench.casts import CastOptions
from batchbench.config import Settings
from batchbench.errors import ConfigError, InputError, ServerError, TableError
from batchbench.harness.brief import Brief, Prepared, TrialLostError
from batchbench.harness.plan import SweepPlan, Trial, plan_from_document
from batchbench.harness.state import Privileges
from batchbench.harness.verify import Contents
from batchbench.results import TrialRecord
from batchbench.table import Table, TableName

_ERRORS: dict[str, type[Exception]] = {
    kind.__name__: kind
    for kind in (ConfigError, InputError, ServerError, TableError, TrialLostError)
}
"""Those that can be raised again as what they were; all others become a TrialLostError."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a client process says. notice: on the way. error: instead of an answer."""

    answer: TrialRecord | None = None
    notice: str = ""
    error: BaseException | None = None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _plain(kind: Any, value: Any) -> Any:
    return _adapter(kind).dump_python(value, mode="json")


def _bytes(value: bytes) -> str:
    return base64.b64encode(value).decode()


def letter(message: Brief | Trial | Said) -> bytes:
    """A message as it goes over the pipe."""
    if isinstance(message, Brief):
        return _letter("brief", _plain_brief(message))
    if isinstance(message, Trial):
        return _letter("trial", _plain(Trial, message))
    return _letter("said", _plain_said(message))


def _plain_brief(brief: Brief) -> dict[str, Any]:
    return {
        "dsn": brief.dsn,
        "loading": [[rtt_ms, dsn] for rtt_ms, dsn in brief.loading.items()],
        "settings": brief.settings.model_dump(mode="json"),
        "plan": _plain(SweepPlan, brief.plan),
        "cast_options": _plain(CastOptions, brief.cast_options),
        "trial_timeout_s": brief.trial_timeout_s,
        "ours": brief.ours,
        "privileges": _plain(Privileges, brief.privileges),
        "epoch": brief.epoch,
        "prepared": [_prepared(prepared) for prepared in brief.prepared.values()],
    }


def _prepared(prepared: Prepared) -> dict[str, Any]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, prepared.rows.schema) as stream:
        stream.write_table(prepared.rows)
    return {
        "label": prepared.label,
        "table": _plain(Table, prepared.table),
        "rows": _bytes(sink.getvalue().to_pybytes()),
        "expected": _plain(Contents, prepared.expected),
        "encoded": _bytes(prepared.encoded),
        "filling": _plain(TableName | None, prepared.filling),
    }


def _plain_said(said: Said) -> dict[str, Any]:
    error = said.error
    return {
        "answer": None if said.answer is None else _plain(TrialRecord, said.answer),
        "notice": said.notice,
        "error": None if error is None else [type(error).__name__, str(error)],
    }


def _letter(kind: str, content: Any) -> bytes:
    return json.dumps([kind, content], allow_nan=False).encode()


def read_letter(text: bytes) -> Brief | Trial | Said:
    """What `letter` wrote."""
    kind, content = json.loads(text)
    if kind == "brief":
        return _read_brief(content)
    if kind == "trial":
        trial: Trial = _adapter(Trial).validate_python(content)
        return trial
    answer, error = content["answer"], content["error"]
    return Said(
        answer=None if answer is None else _adapter(TrialRecord).validate_json(json.dumps(answer)),
        notice=content["notice"],
        error=None if error is None else _error(*error),
    )


def _read_brief(content: dict[str, Any]) -> Brief:
    assert content.keys() == {field.name for field in fields(Brief)}
    prepared = [_read_prepared(one) for one in content["prepared"]]
    return Brief(
        dsn=content["dsn"],
        loading=dict(content["loading"]),
        settings=Settings(**content["settings"]),
        plan=plan_from_document(content["plan"]),
        cast_options=_adapter(CastOptions).validate_python(content["cast_options"]),
        trial_timeout_s=content["trial_timeout_s"],
        ours=content["ours"],
        privileges=_adapter(Privileges).validate_python(content["privileges"]),
        epoch=content["epoch"],
        prepared={one.label: one for one in prepared},
    )


def _read_prepared(content: dict[str, Any]) -> Prepared:
    with pa.ipc.open_stream(base64.b64decode(content["rows"])) as stream:
        rows = stream.read_all()
    return Prepared(
        label=content["label"],
        table=_adapter(Table).validate_python(content["table"]),
        rows=rows,
        expected=_adapter(Contents).validate_python(content["expected"]),
        encoded=base64.b64decode(content["encoded"]),
        filling=_adapter(TableName | None).validate_python(content["filling"]),
    )


def _error(name: str, message: str) -> BaseException:
    kind = _ERRORS.get(name)
    if kind is None:
        return TrialLostError(f"the client process failed: {message} ({name})")
    return kind(message)
