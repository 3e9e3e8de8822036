"""DistDGL and minidist train the same parts of the same graph in the same lab, in turn.

    python -m benchmarks.peers.distdgl                                    links of no set rate
    python -m benchmarks.peers.distdgl --rate 200mbit --buffer 0.25 --json distdgl.json
    python -m benchmarks.peers.distdgl --env DIR --samplers 0

Root, Linux (see ``benchmarks.lab``). dgl 2.1.0, the newest on PyPI, is installed in an environment
of its own at the first start, with the same PyTorch as ours.

The same for both: parts, so the same edges are cut; GraphSAGE (mean), fan-out, batch, widths,
dropout, Adam, epochs; a host is a network namespace, with one server and one trainer of DistDGL or
one rank of ours. DistDGL runs its own example of distributed GraphSAGE: DistNodeDataLoader,
``g.ndata[...]`` in the trainer, DistributedDataParallel over gloo. Each host has cores of its own,
an equal share of the machine's, to which all of its processes of either side are bound; a trainer
has as many threads. DistDGL is given the best number of sampler processes that a short trial of 0
(what its documentation begins with), 1 and 2 finds, one thread each. GraphBolt's sampling is left
out: its library exists only for PyTorch up to 2.2.1. See ``comparison`` for what is measured.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import Row, answer, at_least
from benchmarks.lab import hosts as lab
from benchmarks.peers import comparison
from benchmarks.peers.comparison import PROGRAMS, Run
from benchmarks.peers.jobs import HOME, prepare, run_together, watching_memory
from benchmarks.runs import parts_of
from benchmarks.traces import dataset_of
from minidist.config import TrainConfig
from rudder.cli.flags import flag, parse, require

if TYPE_CHECKING:
    from minidist.graph import Graph
    from minidist.store.partition_dir import Parts
    from minidist.store.shard import Shard

PEER = "DistDGL"
GRAPH_NAME = "graph"
_NODE, _EDGE = "_N", "_N:_E:_N"
_PORT = 30050
_UNBUFFERED = ("none", "overlap")
_TORCH = f"torch=={version('torch').split('+')[0]}"
_NEEDED = "packaging scipy networkx requests tqdm psutil pandas pydantic pyyaml"
_INSTALLS = (
    (_TORCH, "setuptools<70", *_NEEDED.split()),
    ("--no-deps", "dgl==2.1.0", "torchdata==0.9.0"),
)
_PROBE = """
import sys, types
sys.modules["dgl.graphbolt"] = types.ModuleType("dgl.graphbolt")
import dgl.distributed
"""


@dataclass(frozen=True, kw_only=True)
class DistdglConfig(comparison.PeerConfig):
    hosts: int = flag(2, "how many, with one part each")
    rate: str = flag("none", "of each host's link, in each direction, as 200mbit")
    buffer: float = flag(0.25, "of our buffered variants, as a share of the halo rows")
    variants: str = flag("none,overlap,rudder,lookahead", "of ours, with commas between")
    samplers: int | None = flag(None, "sampler processes of a DistDGL trainer (default: try)")
    env: str = flag(str(HOME / "distdgl"), "DistDGL's environment; installed there where missing")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.hosts <= lab.MAX_HOSTS, "hosts", self.hosts, f"2 to {lab.MAX_HOSTS}")
        lab.bits_per_second(self.rate)
        require(0 < self.buffer <= 1, "buffer", self.buffer, "more than 0 and at most 1")
        at_least(self, 0, "samplers")


def part_arrays(shard: "Shard", first_edge: int) -> dict[str, NDArray[Any]]:
    """One part of n owned nodes, h halo nodes, e in-edges of owned nodes and D features; ids local
    to it unless they are named otherwise.

    src, dst: int64 [e].   node_ids: int64 [n + h], global.   inner_node: uint8 [n + h], 1 if owned.
    edge_ids: int64 [e], global, from first_edge on.   x float32 [n, D], y int64 [n], train_mask
    uint8 [n]: of owned nodes.
    """
    first = int(shard.book.offsets[shard.part])
    last = first + shard.num_nodes
    sources = shard.indices.astype(np.int64)
    remote = shard.num_nodes + np.searchsorted(shard.halo, sources)
    train_mask = np.zeros(shard.num_nodes, np.uint8)
    train_mask[shard.train_ids - first] = 1
    return {
        "src": np.where((sources >= first) & (sources < last), sources - first, remote),
        "dst": np.repeat(np.arange(shard.num_nodes), np.diff(shard.indptr)),
        "node_ids": np.concatenate([np.arange(first, last), shard.halo]),
        "inner_node": np.repeat(np.array([1, 0], np.uint8), [shard.num_nodes, len(shard.halo)]),
        "edge_ids": first_edge + np.arange(len(sources)),
        "x": np.array(shard.x),
        "y": np.array(shard.y),
        "train_mask": train_mask,
    }


def lay_out(parts: "Parts", folder: Path) -> Path:
    """Our partition as DistDGL's: the same owners, the same ids, and so the same edges cut.

    Both number nodes so that a part owns a contiguous range, and keep an edge with the owner of its
    destination; edges are numbered part by part, in the order of our in-edge lists. A part holds
    what ``dgl.distributed.partition_graph`` gives it with its default of one halo hop. Writes the
    configuration, whose path is returned, and each part's ``arrays.npz``, from which the peer's own
    program writes the files that the configuration names.
    """
    node_map, edge_map, first_edge = [], [], 0
    config: dict[str, Any] = {
        "graph_name": GRAPH_NAME,
        "num_nodes": parts.num_nodes,
        "num_edges": parts.num_edges,
        "part_method": parts.method,
        "num_parts": parts.num_parts,
        "halo_hops": 1,
        "ntypes": {_NODE: 0},
        "etypes": {_EDGE: 0},
    }
    files = {"node_feats": "node_feat", "edge_feats": "edge_feat", "part_graph": "graph"}
    for part in range(parts.num_parts):
        home, arrays = folder / f"part{part}", part_arrays(parts.shard(part), first_edge)
        home.mkdir(parents=True)
        np.savez(home / "arrays.npz", **arrays)  # type: ignore[arg-type]
        node_map.append([int(offset) for offset in parts.book.offsets[part : part + 2]])
        edge_map.append([first_edge, first_edge := first_edge + len(arrays["src"])])
        config[f"part-{part}"] = {key: f"part{part}/{file}.dgl" for key, file in files.items()}
    config |= {"node_map": {_NODE: node_map}, "edge_map": {_EDGE: edge_map}}
    path = folder / f"{GRAPH_NAME}.json"
    path.write_text(json.dumps(config, indent=1))
    return path


def bound_to(host: int | str, num_hosts: int) -> list[str]:
    """Words that run a program on a host's own cores; those of several where there are too few.

    host: its number, or the shell's variable that will hold it.
    """
    share = lab.cores_for(num_hosts)
    script = (
        f"first=$(({host} * {share} % {lab.cores_for(1)})); "
        f'exec taskset -c "$first-$((first + {share - 1}))" "$@"'
    )
    return ["sh", "-c", script, "sh"]


class Bench(NamedTuple):
    """What every run of either side is given."""

    python: str
    parts: "Parts"
    graph: "Graph"
    part_config: Path
    up: lab.Hosts

    def train_distdgl(self, samplers: int, run: TrainConfig) -> Run:
        """One run of DistDGL. Raises ValueError with its last words if it fails."""
        up, num = self.up, len(self.up.names)
        with (
            tempfile.TemporaryDirectory(prefix="distdgl-") as name,
            watching_memory() as (mark, memory),
        ):
            out = Path(name)
            ip_config = out / "ip_config.txt"
            ip_config.write_text("".join(f"{address} {_PORT}\n" for address in up.addresses))
            sizes = {"samplers": samplers, "threads": lab.cores_for(num), "hosts": num}
            files = {"part_config": str(self.part_config), "ip_config": str(ip_config)}
            more = {"environment": mark, "name": GRAPH_NAME, "master": up.addresses[0]}
            settings = comparison.write_task(run, self.parts, out, **sizes, **files, **more)
            words = [self.python, str(PROGRAMS / "distdgl_host.py"), str(settings)]
            commands = [
                [*up.inside(host), *bound_to(host, num), *words, str(host)] for host in range(num)
            ]
            run_together(commands, {}, out / "log", comparison.LIMIT_S)
            return comparison.read_peer(PEER, out, self.graph, memory)

    def train_ours(self, prefetch: str, config: DistdglConfig) -> Run:
        given = {} if prefetch in _UNBUFFERED else {"buffer": config.buffer}
        launcher = [*self.up.mpiexec, *bound_to("$PMI_RANK", len(self.up.names))]
        flags = {"prefetch": prefetch, **given}
        return comparison.train_ours(self.parts.path, config.training(), flags, launcher)

    def crossed(self, train: Callable[..., Run], *given: object) -> Run:
        """A run, with what came over the links meanwhile."""
        before = sum(self.up.received_bytes())
        ended = train(*given)
        return {**ended, "link_mb": (sum(self.up.received_bytes()) - before) / 1e6}


def measure(config: DistdglConfig) -> Row:
    if lacking := lab.missing():
        raise lab.Unavailable(f"no hosts here: {lacking} is missing")
    python = prepare(PEER, Path(config.env).absolute(), _INSTALLS, _PROBE)
    from minidist.store.partition_dir import Parts

    parts = Parts.open(parts_of(dataset_of(config.graph), config.hosts, Path(config.folder)))
    with (
        tempfile.TemporaryDirectory(prefix="distdgl-parts-") as folder,
        lab.hosts(config.hosts, config.rate) as up,
    ):
        part_config = lay_out(parts, Path(folder))
        converting = [python, str(PROGRAMS / "dgl_parts.py"), folder]
        run_together([converting], {}, Path(folder) / "log", comparison.LIMIT_S)
        bench = Bench(python, parts, parts.graph(), part_config, up)
        found = comparison.in_turn(
            *(config, PEER, "samplers"),
            lambda samplers, run: bench.crossed(bench.train_distdgl, samplers, run),
            lambda side: bench.crossed(bench.train_ours, side, config),
        )
    return {**found, "edge_cut": parts.statistics.get("edge_cut")}


if __name__ == "__main__":
    config = parse(DistdglConfig, __doc__)
    head = (
        f"{config.graph}, {config.hosts} hosts, links of rate {config.rate}, batch "
        f"{config.batch_size}, hidden {config.hidden}, buffer {config.buffer:.0%}; epochs "
        f"{config.epochs}, repeats {config.repeats}"
    )
    answer(config, measure, lambda found: comparison.describe(head, PEER, "samplers", found))
