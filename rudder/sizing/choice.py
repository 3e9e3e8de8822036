"""Which size and window: the smallest that hide fetching behind computing, else what helps most.

    seconds of a fetch   = latency + rows that the size moves (``curve``) * seconds a row (``link``)
    hidden               where they are at most the seconds of computing a step / MARGIN
    grow                 once fetching takes longer than computing
    shrink               once a smaller size would be hidden with MARGIN twice over

Between the last two nothing changes: a link or a compute time that moves by less than MARGIN either
way never makes the size go back and forth.

Sizes are shares of the halo rows of a part, in ascending order.
"""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SHARES = (0.0, 0.03, 0.05, 0.08, 0.12, 0.18, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0)
WINDOWS = (4, 8, 16)
MARGIN = 1.25
# A size or window is as good as the best where fetching takes but so much longer.
_AS_GOOD = 1.02

# Seconds of a fetch by window, then by size.
Table = Sequence[Sequence[float]]


class View(NamedTuple):
    """What one rank knows. seconds: see ``Table``, of these windows and sizes.

    compute_s: of a step; of several ranks counts the least, since the others' hold what they waited
    for it.
    """

    compute_s: float
    seconds: Table


@dataclass(frozen=True, kw_only=True)
class Choice:
    """share: of the halo rows, 0 for no buffer.   window: in minibatches.   hidden: whether the
    fetches, of ``fetch_s`` seconds, are shorter than computing, of ``compute_s``."""

    share: float
    window: int
    fetch_s: float = 0.0
    compute_s: float = 0.0
    hidden: bool = False


def shares_up_to(most: float) -> tuple[float, ...]:
    """The sizes to choose from: ``SHARES`` below the largest there may be, and that one."""
    most = min(most, SHARES[-1])
    return (*SHARES[: bisect.bisect_left(SHARES, most)], most)


def smallest(seconds: Sequence[float], limit: float) -> int:
    """The first that is at most ``limit``; where none is, the first as good as the best."""
    for number, each in enumerate(seconds):
        if each <= limit:
            return number
    return smallest(seconds, _AS_GOOD * min(seconds))


def choose(
    views: Sequence[View],
    compute_s: float,
    shares: Sequence[float],
    windows: Sequence[int],
    current: Choice,
) -> Choice:
    """The choice for the ranks of a host, from what each of them knows of these sizes and windows.

    compute_s: of all ranks, see ``View``.   current: what they have.
    """
    slowest = [
        [max(of_rank) for of_rank in zip(*rows, strict=True)]
        for rows in zip(*(view.seconds for view in views), strict=True)
    ]
    widest = slowest[-1]
    held = bisect.bisect_right(shares, current.share) - 1
    size, window = held, windows.index(current.window)
    comfortable = smallest(widest, compute_s / MARGIN**2)
    if slowest[window][held] > compute_s or comfortable < held:
        size = smallest(widest, compute_s / MARGIN)
        by_window = [row[size] for row in slowest]
        window = smallest(by_window, max(compute_s / MARGIN, _AS_GOOD * by_window[-1]))
    window = window if size else 0  # nothing is looked ahead for
    fetch_s = slowest[window][size]
    return Choice(
        share=shares[size],
        window=windows[window],
        fetch_s=fetch_s,
        compute_s=compute_s,
        hidden=fetch_s <= compute_s,
    )
