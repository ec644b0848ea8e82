"""Several sources read one after another as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa

from batchbench.batch import Batch
from batchbench.errors import InputError
from batchbench.sources.source import SchemaKind, Source


class ChainedSources:
    """Sources in order; each batch keeps its own source's name and row numbers."""

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise InputError("no source was given; name at least one file")
        if len({bool(source.targets) for source in sources}) > 1:
            raise InputError(
                f"{sources[0].name} and the others: health payloads, which feed several tables, "
                "cannot be mixed with sources of one table; load them apart"
            )
        names = Counter(source.name for source in sources)
        if len(names) < len(sources):
            raise InputError(f"{names.most_common(1)[0][0]} is named twice; name each file once")
        self._sources = tuple(sources)

    @property
    def name(self) -> str:
        """The first source's name and the number of others."""
        return f"{self._sources[0].name} and {len(self._sources) - 1} more"

    @property
    def one_shot(self) -> bool:
        """Whether any of them is."""
        return any(source.one_shot for source in self._sources)

    @property
    def schema_kind(self) -> SchemaKind:
        """TEXT or DECLARED where all are, and declare the same; else OBSERVED."""
        kinds = {source.schema_kind for source in self._sources}
        if kinds == {"text"}:
            return "text"
        if kinds == {"declared"}:
            schemas = [source.schema() for source in self._sources]
            if all(schema == schemas[0] for schema in schemas):
                return "declared"
        return "observed"

    @property
    def targets(self) -> Mapping[str, pa.Schema]:
        """All targets."""
        return {
            metric: schema for source in self._sources for metric, schema in source.targets.items()
        }

    def schema(self) -> pa.Schema | None:
        """All columns, each with the type it has first (a null type gives way)."""
        fields: dict[str, pa.Field] = {}
        for source in self._sources:
            schema = source.schema()
            if schema is None:
                return None
            for field in schema:
                if field.name not in fields or fields[field.name].type == pa.null():
                    fields[field.name] = field
        return pa.schema(list(fields.values()))

    def batches(self, max_rows: int, max_bytes: int) -> Iterator[Batch]:
        """See `Source.batches`."""
        for source in self._sources:
            yield from source.batches(max_rows, max_bytes)

    def fingerprint(self) -> str:
        """Of all; "" where one has none."""
        all_of_them = [source.fingerprint() for source in self._sources]
        return "" if "" in all_of_them else ",".join(all_of_them)

    def not_loaded(self) -> Mapping[str, int]:
        """Sums over all sources."""
        return sum((Counter(source.not_loaded()) for source in self._sources), Counter())

    def remarks(self) -> Mapping[str, int]:
        """Sums over all sources."""
        return sum((Counter(source.remarks()) for source in self._sources), Counter())
