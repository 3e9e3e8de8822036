"""Ranks as threads of one process: the same function on each, over the in-process twins."""

import threading
from collections.abc import Callable
from typing import TypeVar

from minidist.comm.group import LocalGroup
from minidist.comm.world import World, local_worlds

T = TypeVar("T")

# A rank that is woken removes its temporary folder and closes its logs.
_UNWIND_S = 1.0


def run_in_threads(
    work: Callable[[World], T], size: int, timeout: float = 60.0, share_hosts: bool = True
) -> list[T]:
    """Results of ``work(world)`` on each of ``size`` ranks, in rank order.

    A rank's exception wakes those that wait for it, and the first one is raised. So does Ctrl-C,
    which only the main thread hears; ranks that are deep in work then end with the process.
    """
    results: dict[int, T] = {}
    failures: list[BaseException] = []

    def run(world: World) -> None:
        try:
            results[world.rank] = work(world)
        except BaseException as error:
            failures.append(error)
            assert isinstance(world.group, LocalGroup)
            world.group.fail(error)

    worlds = local_worlds(size, timeout, share_hosts)
    threads = [threading.Thread(target=run, args=(world,), daemon=True) for world in worlds]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt as error:
        assert isinstance(worlds[0].group, LocalGroup)
        worlds[0].group.fail(error)
        for thread in threads:
            thread.join(_UNWIND_S)
        raise
    if failures:
        raise failures[0]
    return [results[rank] for rank in range(size)]
