"""WorkerPool: the threads with which a rank samples and gathers rows, beside its training thread.

Kernels release the GIL, so threads of one process use all of a rank's cores.
"""

import itertools
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

# Rows (or other items) that are worth handing to another thread: about half a millisecond.
_GRAIN = 8192
_SWITCH_INTERVAL_S = 2e-4


class WorkerPool:
    """``num_threads`` workers; closed by whoever made it."""

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        if num_threads > 1:
            # Who trains waits for the GIL at most so long, where it is not given back before.
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_INTERVAL_S))
        self._threads = ThreadPoolExecutor(num_threads, "minidist-worker")

    def submit(self, work: Callable[..., T], *arguments: object) -> "Future[T]":
        """Do one piece of work when a worker is free."""
        return self._threads.submit(work, *arguments)

    def spread(self, work: Callable[[int, int], None], num_items: int) -> None:
        """Call ``work(first, last)`` for ranges that together are ``range(num_items)``.

        The caller works too, so it never waits for workers that are busy with something else.
        """
        if self.num_threads == 1 or num_items < 2 * _GRAIN:
            work(0, num_items)
            return
        starts = itertools.count(0, _GRAIN)  # its next() is atomic

        def share() -> None:
            while (first := next(starts)) < num_items:
                work(first, min(first + _GRAIN, num_items))

        helpers = [self.submit(share) for _ in range(min(self.num_threads, num_items // _GRAIN))]
        share()
        for helper in helpers:
            if not helper.cancel():
                helper.result()

    def close(self) -> None:
        """Let running work end, and drop what waits."""
        self._threads.shutdown(wait=True, cancel_futures=True)
