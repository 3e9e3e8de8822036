"""Rows a second from another rank, on one host and between hosts.

    python -m benchmarks.fetch                              tables in the caches' reach, and beyond
    python -m benchmarks.fetch --nodes 200000

8192 random rows of 100 float32 (3.3 MB) of another rank, medians in one run, a JSON line a table:

    map     our fetch from a same-host peer: its file, mapped      against the gather limit
    rpc     our fetch by request, on one host
    wire    our fetch by request between two namespaces at 1 Gbit/s, against the raw link: the same
            bytes, contiguous, over one TCP connection

The gather limit is the faster of a compiled copy loop and ``np.take`` on as many rows of an
ordinary array.
"""

import json
import socket
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.command import Row, answer, at_least, one_line
from benchmarks.lab.hosts import hosts, missing
from benchmarks.micro import medians_ms
from benchmarks.runs import output_of
from rudder.cli.flags import flag, parse

if TYPE_CHECKING:
    from minidist.comm.world import World
    from minidist.store.partition_book import Ids

NUM_ROWS, WIDTH = 8192, 100
RATE = "1gbit"


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    nodes: tuple[int, ...] = flag((200_000, 2_400_000), "rows of each table")

    def __post_init__(self) -> None:
        at_least(self, NUM_ROWS, "nodes")


def _rank(world: "World", folder: Path, num_nodes: int) -> dict[str, float]:
    """Rank 0 fetches rows of rank 1, which has nothing else to do; medians in ms."""
    from minidist.comm.host import reachable_address
    from minidist.store.partition_book import PartitionBook
    from minidist.store.row_server import RowServer

    book = PartitionBook(np.array([0, num_nodes, 2 * num_nodes]))
    rng = np.random.default_rng(world.rank)
    np.save(folder / f"rows{world.rank}.npy", rng.random((num_nodes, WIDTH), np.float32))
    RowServer(world.transport, book, np.load(folder / f"rows{world.rank}.npy", mmap_mode="r"))
    port = _serve_raw() if world.rank else 0
    addresses = world.group.all_gather((reachable_address(), port), "meeting")
    found: dict[str, float] = {}
    if world.rank == 0:
        rng = np.random.default_rng(7)
        with socket.create_connection(addresses[1], timeout=60) as raw:
            ways = _ways(world, book, folder, raw)
            # Fresh ids each time: rows that another way just read are cached.
            found = medians_ms(
                ways, 40, 3, lambda: (num_nodes + rng.permutation(num_nodes)[:NUM_ROWS],)
            )
    world.group.barrier("measuring")
    return found


def _ways(
    world: "World", book: Any, folder: Path, raw: socket.socket
) -> "dict[str, Callable[[Ids], object]]":
    """Ways to get rows of rank 1, or as many bytes."""
    from minidist.moment import Moment
    from minidist.store.feature_store import PeerStore
    from minidist.store.row_copy import copy_rows

    out, everyone = np.empty((NUM_ROWS, WIDTH), np.float32), np.arange(NUM_ROWS)
    own, first = np.load(folder / "rows0.npy"), book.offsets[1]

    def ask(ids: "Ids") -> None:
        raw.sendall(b"1")
        view = memoryview(out.view(np.uint8).reshape(-1))  # type: ignore[arg-type]
        while len(view):
            view = view[raw.recv_into(view) :]

    def fetching(peer_rows: Any) -> "Callable[[Ids], object]":
        store = PeerStore(world.transport, book, [own, peer_rows])
        return lambda ids: store.request(ids, lambda spare: (out, everyone), Moment(0, 0)).wait()

    ways: dict[str, Callable[[Ids], object]] = {
        "memcpy": lambda ids: np.copyto(out, own[:NUM_ROWS]),
        "gather": lambda ids: copy_rows(own, ids - first, out, everyone),
        "take": lambda ids: np.take(own, ids - first, 0, out, mode="clip"),
        "rpc": fetching(None),
        "raw": ask,
    }
    if world.transport.shares_host(1):
        ways["map"] = fetching(np.load(folder / "rows1.npy", "r"))
    return ways


def _serve_raw() -> int:
    """Answer each byte with the rows' bytes, contiguous, until the caller hangs up; the port."""
    listener = socket.create_server(("0.0.0.0", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as caller:
            while caller.recv(1):
                caller.sendall(bytes(4 * NUM_ROWS * WIDTH))

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def _start(launcher: list[str], folder: str, num_nodes: int) -> dict[str, float]:
    """Two ranks of this module; what the first one found."""
    words = [*launcher, sys.executable, "-m", "benchmarks.fetch", "rank", folder, str(num_nodes)]
    return dict(json.loads(output_of(words, {"OMP_NUM_THREADS": "1"}).splitlines()[-1]))


def _table(num_nodes: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        host = _start(["mpiexec", "-n", "2"], folder, num_nodes)
        found: Row = {"benchmark": "fetch", "nodes": num_nodes}
        found |= {f"{name}_ms": value for name, value in host.items()}
        found["map_rows_per_s"] = 1e3 * NUM_ROWS / host["map"]
        found["map_to_gather_limit"] = min(host["gather"], host["take"]) / host["map"]
        found["map_to_memcpy"] = host["memcpy"] / host["map"]
        found["rpc_rows_per_s"] = 1e3 * NUM_ROWS / host["rpc"]
        if missing():
            return found | {"wire": f"not measured: {missing()} is missing"}
        with hosts(2, RATE) as two:
            apart = _start(two.mpiexec, folder, num_nodes)
    found |= {"wire_ms": apart["rpc"], "wire_raw_ms": apart["raw"]}
    found["wire_rows_per_s"] = 1e3 * NUM_ROWS / apart["rpc"]
    return found | {"wire_to_raw_link": apart["raw"] / apart["rpc"]}


def main() -> None:
    """The command line, or one of the two ranks that it starts."""
    if sys.argv[1:2] != ["rank"]:
        config = parse(FetchConfig, __doc__)
        for num_nodes in config.nodes:
            answer(config, lambda _, num=num_nodes: _table(num), json.dumps)  # type: ignore[misc]
        return
    from minidist.comm.world import open_world

    with one_line(), open_world(transport="mpi", device="cpu") as world:
        found = _rank(world, Path(sys.argv[2]), int(sys.argv[3]))
        if world.rank == 0:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
