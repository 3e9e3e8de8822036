"""Timing: medians of works in turn, so that what else the machine does hits all of them alike."""

import statistics
import time
from collections.abc import Callable, Mapping


def medians_ms(
    works: Mapping[str, Callable[[], Callable[[], object]]], repeats: int, warm_up: int = 5
) -> dict[str, float]:
    """Milliseconds of each work; the first few turns, which compile and fill caches, do not count.

    works: each gets ready, and returns what is timed.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warm_up + repeats):
        for name, get_ready in works.items():
            do = get_ready()
            began = time.perf_counter()
            do()
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(spent[warm_up:]) for name, spent in times.items()}
