"""Watch: what the choice of a size goes by, learnt in the prefetch thread on the way."""

import statistics
import threading
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from rudder.buffer.index import Ids
from rudder.sizing.choice import Table
from rudder.sizing.curve import ReuseSample

# One minibatch in so many is waited for at once, so that the end of its fetch is seen; the last
# few of those say what the link is now.
PROBE_EVERY, NUM_PROBES = 4, 8
# Fetches tell latency from rate where the larger ones have so many times the rows of the smaller.
_SPREAD = 1.5


class Link(NamedTuple):
    """A fetch of n rows takes ``latency_s + n * row_s`` seconds."""

    latency_s: float
    row_s: float


def fit_link(fetches: Sequence[tuple[int, float]]) -> Link:
    """The line through (rows, seconds), by medians, which one late answer does not move.

    Where all fetches are of about one size, it goes through zero.
    """
    known = sorted(fetch for fetch in fetches if fetch[0])
    if not known:
        return Link(0.0, 0.0)
    rows, seconds = _median(known[: (len(known) + 1) // 2])
    more, longer = _median(known[len(known) // 2 :])
    if more >= _SPREAD * rows:
        slope = (longer - seconds) / (more - rows)
        if slope > 0 and seconds >= slope * rows:
            return Link(seconds - slope * rows, slope)
    return Link(0.0, statistics.median(each / num for num, each in known))


def _median(fetches: Sequence[tuple[int, float]]) -> tuple[float, float]:
    return statistics.median(rows for rows, _ in fetches), statistics.median(s for _, s in fetches)


class Watch:
    """Notes ids and fetches in the prefetch thread; any thread may ask for the rest."""

    def __init__(self) -> None:
        self._sample = ReuseSample()
        self._num_requests = 0
        self._fetches: deque[tuple[int, float]] = deque(maxlen=NUM_PROBES)
        self._turn = threading.Lock()
        self._rows: Table = ()
        self._known = 0

    def foresee(self, ids: Ids) -> None:
        """A minibatch was sampled that needs these distinct ids."""
        if not self._sample.is_full:
            with self._turn:
                self._sample.add(ids)

    def is_due(self) -> bool:
        """Whether the fetch to come should be timed; asked once of each."""
        self._num_requests += 1
        return self._num_requests % PROBE_EVERY == 0

    def fetched(self, rows: int, seconds: float) -> None:
        """A fetch was timed, from its request to the last row."""
        with self._turn:
            self._fetches.append((rows, seconds))

    def seconds(self, capacities: Sequence[int], windows: Sequence[int]) -> tuple[Link, Table]:
        """The link, and what a fetch takes with buffers of these sizes (see ``choice.Table``)."""
        with self._turn:
            link = fit_link(self._fetches)
            # A few milliseconds a size: foretold anew only when twice as much is known.
            if len(self._sample) >= 2 * self._known:
                self._known = len(self._sample)
                self._rows = [self._sample.moved(capacities, window) for window in windows]
        return link, [[link.latency_s + n * link.row_s for n in row] for row in self._rows]
