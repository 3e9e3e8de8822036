"""Each rank asks its peers for rows and neighbours in every way, and checks the answers.

Arguments: a transport, and perhaps a partition directory: then it also samples and fetches by them.
"""

import sys
import threading
from collections.abc import Callable

import numpy as np
import torch

from minidist.comm.transport.base import Call, Op
from minidist.comm.transport.failure import PeerFailed
from minidist.comm.world import World, open_world
from minidist.moment import Moment
from tests.mpi.programs.contracts import check_contracts

WIDTH, NUM_ROWS = 50, 40_000


def table(rank: int) -> np.ndarray:
    return np.random.default_rng(rank).random((NUM_ROWS, WIDTH), np.float32)


def serve(world: World) -> None:
    own = table(world.rank)

    def rows(
        header: tuple[int, int], ids: np.ndarray, allocate: Callable[..., np.ndarray]
    ) -> np.ndarray:
        if ids.max() >= NUM_ROWS:
            raise ValueError("no such row")
        reply = allocate(ids.size * WIDTH, np.float32)
        np.take(own, ids, 0, reply.reshape(-1, WIDTH), mode="clip")
        return reply

    def multiples(
        header: tuple[int, int], ids: np.ndarray, allocate: Callable[..., np.ndarray]
    ) -> np.ndarray:
        return np.repeat(ids * header[0], header[1])

    world.transport.serve(Op.ROWS, rows)
    world.transport.serve(Op.LAYER_ROWS, rows)
    world.transport.serve(Op.NEIGHBORS, multiples)
    world.group.barrier("serving")


def calls_for_rows(world: World, rng: np.random.Generator, size: int) -> list[Call]:
    return [
        Call(
            peer=peer,
            header=(0, 0),
            ids=rng.integers(NUM_ROWS, size=size),
            reply=np.full(size * WIDTH, np.nan, np.float32),
            items_per_id=WIDTH,
        )
        for peer in range(world.size)
        if peer != world.rank
    ]


def check_rows(calls: list[Call], counts: list[int]) -> None:
    for call, count in zip(calls, counts, strict=True):
        assert count == len(call.reply)
        assert np.array_equal(call.reply.reshape(-1, WIDTH), table(call.peer)[call.ids])


def ask_rows(world: World, lane: str, op: Op, sizes: list[int]) -> None:
    """One exchange after the other; then each begins before the one before is waited for."""
    rng = np.random.default_rng(world.rank)
    for step, size in enumerate(sizes):
        calls = calls_for_rows(world, rng, size)
        check_rows(calls, world.transport.exchange(op, calls, Moment(0, step), lane))
    under_way = []
    for step, size in enumerate(sizes):
        calls = calls_for_rows(world, rng, size)
        under_way.append((calls, world.transport.begin(op, calls, Moment(1, step), lane)))
        if step:
            check_rows(under_way[step - 1][0], under_way[step - 1][1]())
    check_rows(under_way[-1][0], under_way[-1][1]())


def ask_multiples(world: World) -> None:
    for step in range(10):
        calls = []
        for peer in range(world.size):
            if peer != world.rank:
                room = np.zeros(400, np.int64)
                calls.append(Call(peer=peer, header=(3, step), ids=np.arange(40), reply=room))
        counts = world.transport.exchange(Op.NEIGHBORS, calls, Moment(0, step), "sample")
        for call, count in zip(calls, counts, strict=True):
            assert call.reply[:count].tolist() == np.repeat(3 * np.arange(40), step).tolist()


def check_sums(world: World) -> None:
    """In rank order to the bit, however the tensor's size makes it travel."""
    for step, size in enumerate((1, 7, 1000, 200_003)):
        ranks = range(world.size)
        parts = [torch.from_numpy(table(rank).ravel()[:size] - 0.5) for rank in ranks]
        expected, tensor = parts[0].clone(), parts[world.rank].clone()
        for part in parts[1:]:
            expected += part
        world.group.all_reduce(tensor, "summing", Moment(6, step))
        assert torch.equal(tensor, expected), size


def ask_all(world: World) -> None:
    """Three threads at once, each on a lane of its own, as in training."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    works: list[Callable[[], None]] = [
        lambda: ask_rows(world, "fetch", Op.ROWS, [0, 1, 100, 30_000, 7]),
        lambda: ask_rows(world, "evaluate", Op.LAYER_ROWS, [5, 0, 2000]),
        lambda: ask_multiples(world),
    ]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_refusal(world: World) -> None:
    """What a peer raises is raised here, with who asked whom for what."""
    peer = (world.rank + 1) % world.size
    room, ids = np.zeros(WIDTH, np.float32), np.array([NUM_ROWS])
    call = Call(peer=peer, header=(0, 0), ids=ids, reply=room, items_per_id=WIDTH)
    expected = f"rank {world.rank} asked rank {peer} for ROWS (epoch 4, step 2): "
    said = "nothing"
    try:
        world.transport.exchange(Op.ROWS, [call], Moment(4, 2), "fetch")
    except PeerFailed as error:
        said = str(error)
    assert said == f"{expected}ValueError: no such row", said


def check_traffic(world: World) -> None:
    world.group.barrier("asking")
    traffic = world.transport.traffic
    tables = world.group.all_gather((traffic.received, traffic.served), "adding up")
    for rank, (received, _) in enumerate(tables):
        for peer, (_, served) in enumerate(tables):
            assert received[:, peer].tolist() == served[:, rank].tolist()


def main() -> None:
    with open_world(transport=sys.argv[1], device="cpu", fetch_timeout=30) as world:
        serve(world)
        ask_all(world)
        if world.size > 1:
            check_refusal(world)
        check_sums(world)
        check_traffic(world)
        # Nobody waits for these rows but closing, since their memory is MPI's until they have come.
        calls = calls_for_rows(world, np.random.default_rng(0), 5000)
        world.transport.begin(Op.ROWS, calls, Moment(5, 0), "fetch")
        del calls
    for path in sys.argv[2:]:
        with open_world(transport=sys.argv[1], device="cpu", fetch_timeout=30) as world:
            check_contracts(world, path)
    print(f"rank {world.rank} is content", flush=True)


if __name__ == "__main__":
    main()
