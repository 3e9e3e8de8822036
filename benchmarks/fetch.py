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

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lab.hosts import hosts, missing
from minidist.comm.host import reachable_address
from minidist.comm.world import World, open_world
from minidist.moment import Moment
from minidist.store.feature_store import PeerStore
from minidist.store.partition_book import Ids, PartitionBook
from minidist.store.row_copy import copy_rows
from minidist.store.row_server import RowServer

NUM_ROWS, WIDTH = 8192, 100
NUM_NODES = (200_000, 2_400_000)
RATE = "1gbit"
_REPEATS = 40


def _median_ms(work: dict[str, Callable[[Ids], object]], num_nodes: int) -> dict[str, float]:
    """Medians of works done in turn, each on fresh ids: rows that another just read are cached."""
    times: dict[str, list[float]] = {name: [] for name in work}
    rng = np.random.default_rng(7)
    for _ in range(_REPEATS + 3):
        for name, do in work.items():
            ids = num_nodes + rng.permutation(num_nodes)[:NUM_ROWS]
            began = time.perf_counter()
            do(ids)
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(spent[3:]) for name, spent in times.items()}


def _measure(world: World, folder: Path, num_nodes: int) -> dict[str, float]:
    """Rank 0 fetches rows of rank 1, which has nothing else to do."""
    book = PartitionBook(np.array([0, num_nodes, 2 * num_nodes]))
    rng = np.random.default_rng(world.rank)
    file = folder / f"rows{world.rank}.npy"
    np.save(file, rng.random((num_nodes, WIDTH), np.float32))
    RowServer(world.transport, book, np.load(file, mmap_mode="r"))
    addresses = world.group.all_gather(
        (reachable_address(), _serve_raw() if world.rank else 0), "meeting"
    )
    found: dict[str, float] = {}
    if world.rank == 0:
        out, everyone = np.empty((NUM_ROWS, WIDTH), np.float32), np.arange(NUM_ROWS)
        own = np.load(file)
        by_call = PeerStore(world.transport, book, [own, None])
        raw = socket.create_connection(addresses[1], timeout=60)

        def ask(ids: Ids) -> None:
            raw.sendall(b"1")
            view = memoryview(out.view(np.uint8).reshape(-1))  # type: ignore[arg-type]
            while len(view):
                view = view[raw.recv_into(view) :]

        def place(num_spare: int) -> tuple[np.ndarray, Ids]:
            return out, everyone

        moment = Moment(0, 0)
        work: dict[str, Callable[[Ids], object]] = {
            "memcpy": lambda ids: np.copyto(out, own[:NUM_ROWS]),
            "gather": lambda ids: copy_rows(own, ids - num_nodes, out, everyone),
            "take": lambda ids: np.take(own, ids - num_nodes, 0, out, mode="clip"),
            "rpc": lambda ids: by_call.request(ids, place, moment).wait(),
            "raw": ask,
        }
        if world.transport.shares_host(1):
            mapped = PeerStore(world.transport, book, [own, np.load(folder / "rows1.npy", "r")])
            work["map"] = lambda ids: mapped.request(ids, place, moment).wait()
        found = _median_ms(work, num_nodes)
        raw.close()
    world.group.barrier("measuring")
    return found


def _serve_raw() -> int:
    """Answer each byte with the rows' bytes, contiguous, until the caller hangs up; the port."""
    listener = socket.create_server(("0.0.0.0", 0))
    payload = np.zeros(NUM_ROWS * WIDTH, np.float32).tobytes()

    def serve() -> None:
        with listener, listener.accept()[0] as caller:
            while caller.recv(1):
                caller.sendall(payload)

    threading.Thread(target=serve, daemon=True).start()
    return int(listener.getsockname()[1])


def _run(words: list[str], folder: str, num_nodes: int) -> dict[str, float]:
    words = [*words, sys.executable, "-m", "benchmarks.fetch", "--folder", folder]
    words += ["--nodes", str(num_nodes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": _path()}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} failed:\n{done.stderr}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def _report(num_nodes: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        mpiexec = str(Path(sys.executable).parent / "mpiexec")
        host = _run([mpiexec, "-n", "2"], folder, num_nodes)
        report: dict[str, Any] = {
            "benchmark": "fetch",
            "nodes": num_nodes,
            **{f"{name}_ms": value for name, value in host.items()},
            "map_rows_per_s": 1e3 * NUM_ROWS / host["map"],
            "map_to_gather_limit": min(host["gather"], host["take"]) / host["map"],
            "map_to_memcpy": host["memcpy"] / host["map"],
            "rpc_rows_per_s": 1e3 * NUM_ROWS / host["rpc"],
        }
        if missing():
            report["wire"] = f"not measured: {missing()} is missing"
        else:
            with hosts(2, RATE) as two:
                apart = _run(two.mpiexec, folder, num_nodes)
            report["wire_ms"], report["wire_raw_ms"] = apart["rpc"], apart["raw"]
            report["wire_rows_per_s"] = 1e3 * NUM_ROWS / apart["rpc"]
            report["wire_to_raw_link"] = apart["raw"] / apart["rpc"]
    return report


def main() -> None:
    """Measure, and print one JSON line for each table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, nargs="+", default=NUM_NODES, help="rows of a table")
    parser.add_argument("--folder", help=argparse.SUPPRESS)  # we are one of the ranks
    options = parser.parse_args()
    if options.folder is None:
        for num_nodes in options.nodes:
            print(json.dumps(_report(num_nodes)), flush=True)
        return
    with open_world(transport="mpi", device="cpu") as world:
        found = _measure(world, Path(options.folder), options.nodes[0])
        if world.rank == 0:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
