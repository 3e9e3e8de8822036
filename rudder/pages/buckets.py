"""Buckets: thousands of minibatches as few enough points to draw. Means, and the range they hide.

N values, B buckets of consecutive ones.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST = 160


@dataclass(frozen=True, kw_only=True, eq=False)
class Buckets:
    """edges int64 [B + 1]: bucket b holds the values from edges[b] to edges[b + 1]."""

    edges: Ints

    @classmethod
    def of(cls, num: int, most: int = MOST) -> "Buckets":
        """N values in at most ``most`` buckets of the same size, but for one."""
        count = max(min(num, most), 1)
        return cls(edges=np.linspace(0, num, count + 1).round().astype(np.int64))

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def num(self) -> int:
        """N."""
        return int(self.edges[-1])

    @property
    def size(self) -> int:
        """Values of the largest bucket."""
        return int(np.diff(self.edges).max())

    def span(self, bucket: int) -> tuple[int, int]:
        """First and last value of a bucket."""
        return int(self.edges[bucket]), int(self.edges[bucket + 1]) - 1

    def means(self, values: Floats) -> Floats:
        """Mean of each bucket's finite values, NaN where there are none."""
        finite = np.isfinite(values)
        sums = self._add(np.where(finite, values, 0.0))
        counts = self._add(finite.astype(np.float64))
        means = np.full(len(self), np.nan)
        np.divide(sums, counts, out=means, where=counts > 0)
        return means

    def lows(self, values: Floats) -> Floats:
        """Smallest finite value of each bucket, NaN where there is none."""
        lows = np.minimum.reduceat(np.where(np.isfinite(values), values, np.inf), self.edges[:-1])
        return np.where(np.isfinite(lows), lows, np.nan)

    def highs(self, values: Floats) -> Floats:
        """Largest finite value of each bucket, NaN where there is none."""
        return -self.lows(-values)

    def counts(self, places: Ints) -> Ints:
        """How many of these values (by number) are in each bucket."""
        return np.histogram(places, self.edges)[0].astype(np.int64)

    def _add(self, values: Floats) -> Floats:
        return np.add.reduceat(values, self.edges[:-1])
