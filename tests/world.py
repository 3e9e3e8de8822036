"""run_world: the same function on every rank of an in-process world."""

import threading
from collections.abc import Callable
from typing import TypeVar

from minidist.group import LocalGroup
from minidist.world import World, local_worlds

T = TypeVar("T")


def run_world(
    work: Callable[[World], T], size: int, timeout: float = 60.0, share_hosts: bool = True
) -> list[T]:
    """Results of ``work(world)`` on each rank, in rank order; the first failure is raised."""
    worlds = local_worlds(size, timeout, share_hosts)
    results: dict[int, T] = {}
    failures: list[BaseException] = []

    def run(world: World) -> None:
        try:
            results[world.rank] = work(world)
        except BaseException as error:
            failures.append(error)
            assert isinstance(world.group, LocalGroup)
            world.group.fail(error)

    threads = [threading.Thread(target=run, args=(world,)) for world in worlds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return [results[rank] for rank in range(size)]
