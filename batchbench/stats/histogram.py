"""Latencies of any number in little room, to 1 %, and still to be merged.

Source: the idea of HdrHistogram (Tene); here the buckets are powers of 1.02, so that a bucket's
middle is within 1 % of all that is in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

P99_VALUES = 500
"""A 99th percentile of fewer would hang on fewer than five of them."""

_BASE = 1.02
_LOG = float(np.log(_BASE))
_SMALLEST_S = 1e-6


@dataclass(slots=True)
class Histogram:
    """Counts by bucket. Bucket n holds 1 us x 1.02^n to 1 us x 1.02^(n+1); what is shorter is in
    bucket 0. max_s: the largest value itself.
    """

    counts: dict[int, int] = field(default_factory=dict)
    max_s: float = 0.0

    def add(self, seconds: ArrayLike) -> None:
        """Take values. Raises ValueError for one below 0 or not finite."""
        values = np.atleast_1d(np.asarray(seconds, float))
        if not len(values):
            return
        if not np.isfinite(values).all() or (values < 0).any():
            raise ValueError("latencies are finite and not below 0")
        buckets = np.floor(np.log(np.maximum(values, _SMALLEST_S) / _SMALLEST_S) / _LOG)
        found, counts = np.unique(buckets.astype(int), return_counts=True)
        for bucket, count in zip(found.tolist(), counts.tolist(), strict=True):
            self.counts[bucket] = self.counts.get(bucket, 0) + count
        self.max_s = max(self.max_s, float(values.max()))

    def merge(self, other: Histogram) -> Histogram:
        """Both together, as if all values had gone into one."""
        counts = dict(self.counts)
        for bucket, count in other.counts.items():
            counts[bucket] = counts.get(bucket, 0) + count
        return Histogram(counts, max(self.max_s, other.max_s))

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts.values())

    def quantile(self, share: float) -> float:
        """The smallest value that this share of all is not above, to 1 %. 0 of nothing."""
        if not self.counts:
            return 0.0
        if share >= 1:
            return self.max_s
        wanted, seen = share * self.count, 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= wanted:
                return min(self.max_s, float(_SMALLEST_S * _BASE ** (bucket + 0.5)))
        return self.max_s

    @property
    def slow(self) -> tuple[str, float]:
        """("p99", it) from 500 values on, ("max", it) below."""
        if self.count >= P99_VALUES:
            return "p99", self.quantile(0.99)
        return "max", self.max_s

    def document(self) -> dict[str, object]:
        """For JSON."""
        return {"max_s": self.max_s, "counts": {str(k): v for k, v in sorted(self.counts.items())}}


def histogram_of(document: Mapping[str, object]) -> Histogram:
    """What `Histogram.document` gave. Raises ValueError where it is none."""
    counts, max_s = document.get("counts"), document.get("max_s")
    if not isinstance(counts, Mapping) or not isinstance(max_s, int | float):
        raise ValueError("not a histogram: it has counts and max_s")  # noqa: TRY004 - of a document
    held = {int(bucket): int(count) for bucket, count in counts.items()}
    if any(bucket < 0 or count < 1 for bucket, count in held.items()) or not 0 <= max_s < np.inf:
        raise ValueError("not a histogram: buckets are from 0, counts from 1, max_s is not below 0")
    return Histogram(held, float(max_s))
