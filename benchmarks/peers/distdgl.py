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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.lab.hosts import (
    MAX_HOSTS,
    Hosts,
    Unavailable,
    bits_per_second,
    cores_for,
    hosts,
    missing,
)
from benchmarks.peers.comparison import (
    Run,
    Task,
    best_setting,
    read_peer,
    report,
    summarize,
    table,
    told,
    train_ours,
)
from benchmarks.peers.dgl_parts import GRAPH_NAME, lay_out
from benchmarks.peers.environment import HOME, Environment
from benchmarks.peers.job import MemoryWatch, run_together
from benchmarks.runs import parts_of
from benchmarks.traces import check_graph
from minidist.graph import Graph
from minidist.store.partition_dir import Parts
from rudder.cli.flags import flag, parse, require

PEER = "DistDGL"
PROGRAMS = Path(__file__).parent / "programs"
_PORT = 30050
_LIMIT_S = 900.0
_TRIAL_EPOCHS = 3
_SAMPLERS = (0, 1, 2)
_UNBUFFERED = ("none", "overlap")
_TORCH = f"torch=={torch.__version__.split('+')[0]}"
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
class DistdglConfig:
    """Settings of ``python -m benchmarks.peers.distdgl``."""

    graph: str = flag("synthetic:medium", "a graph of benchmarks.traces")
    hosts: int = flag(2, "how many, with one part each")
    rate: str = flag("none", "of each host's link, in each direction, as 200mbit")
    buffer: float = flag(0.25, "of our buffered variants, as a share of the halo rows")
    variants: str = flag("none,overlap,rudder,lookahead", "of ours, with commas between")
    hidden: int = flag(64, "hidden units")
    batch_size: int = flag(1000, "seed nodes of a host in a step")
    epochs: int = flag(5, "epochs of a run; the first is not counted")
    repeats: int = flag(3, "runs of each, in turn")
    samplers: int | None = flag(None, "sampler processes of a DistDGL trainer (default: try)")
    folder: str = flag("runs/peers", "where partitions are kept; made there where missing")
    env: str = flag(str(HOME / "distdgl"), "DistDGL's environment; installed there where missing")
    json: str | None = flag(None, "also write everything to this file")

    def __post_init__(self) -> None:
        check_graph(self.graph)
        require(2 <= self.hosts <= MAX_HOSTS, "hosts", self.hosts, f"2 to {MAX_HOSTS}")
        bits_per_second(self.rate)
        require(0 < self.buffer <= 1, "buffer", self.buffer, "more than 0 and at most 1")
        for name in ("hidden", "batch_size", "repeats"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.epochs >= 2, "epochs", self.epochs, "at least 2: the first is not counted")
        enough = self.samplers is None or self.samplers >= 0
        require(enough, "samplers", self.samplers, "0 or more")


@dataclass(frozen=True)
class Bench:
    """What every run of either side is given."""

    config: DistdglConfig
    task: Task
    python: Path
    parts: Parts
    part_config: Path
    graph: Graph
    up: Hosts


def bound_to(host: int | str, num_hosts: int) -> list[str]:
    """Words that run a program on a host's own cores; those of several where there are too few.

    host: its number, or the shell's variable that will hold it.
    """
    share = cores_for(num_hosts)
    script = (
        f"first=$(({host} * {share} % {cores_for(1)})); "
        f'exec taskset -c "$first-$((first + {share - 1}))" "$@"'
    )
    return ["sh", "-c", script, "sh"]


def convert(python: Path, parts: Parts, folder: Path) -> Path:
    """DistDGL's form of our parts in a new folder; returns its configuration file."""
    config = lay_out(parts, folder)
    run_together(
        [[str(python), str(PROGRAMS / "dgl_parts.py"), str(folder)]],
        *({}, folder / "log", _LIMIT_S),
    )
    return config


def train_distdgl(bench: Bench, samplers: int, task: Task) -> Run:
    """One run of DistDGL. Raises ValueError with its last words if it fails."""
    up, num = bench.up, bench.config.hosts
    with tempfile.TemporaryDirectory(prefix="distdgl-") as name, MemoryWatch() as watch:
        out = Path(name)
        ip_config, file = out / "ip_config.txt", out / "settings.json"
        ip_config.write_text("".join(f"{address} {_PORT}\n" for address in up.addresses))
        settings = {
            **task.for_peer(bench.parts),
            "samplers": samplers,
            "threads": cores_for(num),
            "hosts": num,
            "environment": watch.mark,
            "name": GRAPH_NAME,
            "part_config": str(bench.part_config),
            "ip_config": str(ip_config),
            "master": up.addresses[0],
            "out": name,
        }
        file.write_text(json.dumps(settings))
        np.savez(out / "first_weights.npz", **task.first_weights(bench.parts))  # type: ignore[arg-type]
        program = [str(bench.python), str(PROGRAMS / "distdgl_host.py"), str(file)]
        commands = [
            [*up.inside(host), *bound_to(host, num), *program, str(host)] for host in range(num)
        ]
        run_together(commands, {}, out / "log", _LIMIT_S)
        return read_peer(PEER, out, bench.graph, watch.peak)


def train_in_turn(bench: Bench, samplers: int) -> list[Run]:
    """Every repeat of DistDGL and of our variants, each with what crossed the links."""
    config, runs = bench.config, []
    sides = [PEER, *config.variants.split(",")] * config.repeats
    for side in tqdm(sides, unit="run", disable=None):
        before = bench.up.received_bytes()
        if side == PEER:
            run = train_distdgl(bench, samplers, bench.task)
        else:
            buffer = {} if side in _UNBUFFERED else {"buffer": config.buffer}
            flags = {"prefetch": side, **buffer}
            launcher = [*bench.up.mpiexec, *bound_to("$PMI_RANK", config.hosts)]
            run = train_ours(bench.parts.path, bench.task, flags, launcher)
        crossed = sum(bench.up.received_bytes()) - sum(before)
        runs.append(replace(run, link_mb=crossed / 1e6))
    return runs


def measure(config: DistdglConfig) -> dict[str, Any]:
    """What ``--json`` writes. Raises PeerMissing, Unavailable, and ValueError where a run fails."""
    if lacking := missing():
        raise Unavailable(f"no hosts here: {lacking} is missing")
    environment = Environment(PEER, Path(config.env).absolute(), _INSTALLS, _PROBE)
    python = environment.prepare()
    parts = Parts.open(parts_of(config.graph, config.hosts, Path(config.folder)))
    task = Task(hidden=config.hidden, batch_size=config.batch_size, epochs=config.epochs)
    with tempfile.TemporaryDirectory(prefix="distdgl-parts-") as folder:
        part_config = convert(python, parts, Path(folder))
        with hosts(config.hosts, config.rate) as up:
            bench = Bench(config, task, python, parts, part_config, parts.graph(), up)
            samplers, trials = best_setting(
                config.samplers,
                _SAMPLERS,
                "samplers",
                lambda samplers: (
                    train_distdgl(bench, samplers, replace(task, epochs=_TRIAL_EPOCHS)).epoch_s
                ),
            )
            runs = train_in_turn(bench, samplers)
    return {
        "benchmark": "peers.distdgl",
        "config": asdict(config),
        "edge_cut": parts.statistics.get("edge_cut"),
        "samplers": samplers,
        "trials": trials,
        "sides": summarize(PEER, runs),
        "runs": [asdict(run) for run in runs],
    }


def describe(found: dict[str, Any]) -> str:
    """The report for people."""
    config = found["config"]
    lines = [
        f"{config['graph']}, {config['hosts']} hosts, links of rate {config['rate']}, "
        f"batch {config['batch_size']}, hidden {config['hidden']}, buffer {config['buffer']:.0%}; "
        f"epochs {config['epochs']}, repeats {config['repeats']}",
        f"{PEER} with {found['samplers']} samplers a trainer" + told(found["trials"], "samplers"),
        table(found["sides"]),
    ]
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    config = parse(DistdglConfig, __doc__)
    report(lambda: measure(config), describe, config.json)


if __name__ == "__main__":
    main()
