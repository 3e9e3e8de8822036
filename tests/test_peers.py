"""Peers: DistDGL gets our partition, results are read and scored, and nothing is left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.command import Row
from benchmarks.lab.hosts import Unavailable, missing, processes, read_process, sweep
from benchmarks.lab.jobs import start, wait_for
from benchmarks.peers.comparison import (
    PROGRAMS,
    describe,
    read_peer,
    score,
    summarize,
    weights_of,
    write_task,
)
from benchmarks.peers.distdgl import DistdglConfig, lay_out, measure
from benchmarks.peers.jobs import HOME, MARK, prepare, run_together, watching_memory
from minidist.config import TrainConfig
from minidist.graph import Graph
from minidist.sampling.batch import LayerEdges
from minidist.training.models import build_model
from tests.mpi.needs import need
from tests.parts import split_graph

# Names a folder that has DistDGL, where it is not where the command keeps it.
DISTDGL = Path(os.environ.get("MINIDIST_DISTDGL", HOME / "distdgl"))
MEMORY = {"rss_mb": 20.0, "pss_mb": 10.0}
needs_hosts = need("hosts")
needs_distdgl = pytest.mark.skipif(
    not DISTDGL.exists(), reason=f"DistDGL is not installed in {DISTDGL}"
)


def test_distdgl_gets_every_node_and_edge_once_from_the_same_owner(
    power_law_graph: Callable[..., Graph], tmp_path: Path
) -> None:
    parts = split_graph(power_law_graph(500, 4000, directed=True), 3, tmp_path / "parts")
    graph = parts.graph()
    config = json.loads(lay_out(parts, tmp_path / "dgl").read_text())
    nodes, ids, edges = [], [], []
    for part in range(3):
        arrays = np.load(tmp_path / "dgl" / f"part{part}" / "arrays.npz")
        num_owned, node_ids = len(arrays["x"]), arrays["node_ids"]
        owned, halo = node_ids[:num_owned], node_ids[num_owned:]
        assert (parts.book.owner(owned) == part).all()
        assert (parts.book.owner(halo) != part).all()
        assert arrays["inner_node"].tolist() == [1] * num_owned + [0] * len(halo)
        assert (arrays["dst"] < num_owned).all()
        np.testing.assert_array_equal(arrays["x"], graph.x[owned])
        np.testing.assert_array_equal(arrays["y"], graph.y[owned])
        np.testing.assert_array_equal(arrays["train_mask"], graph.train_mask[owned])
        assert config["node_map"]["_N"][part] == [owned[0], owned[-1] + 1]
        first, last = config["edge_map"]["_N:_E:_N"][part]
        assert arrays["edge_ids"].tolist() == list(range(first, last))
        nodes += owned.tolist()
        ids += arrays["edge_ids"].tolist()
        edges += list(zip(node_ids[arrays["src"]], node_ids[arrays["dst"]], strict=True))
    destinations = np.repeat(np.arange(graph.num_nodes), np.diff(graph.indptr))
    assert nodes == list(range(graph.num_nodes))
    assert ids == list(range(graph.num_edges))
    assert edges == list(zip(graph.indices, destinations, strict=True))


def test_score_is_the_accuracy_of_our_own_model(power_law_graph: Callable[..., Graph]) -> None:
    graph = power_law_graph(300, 2000)
    torch.manual_seed(0)
    model = build_model(
        "sage", num_features=8, hidden=16, num_classes=4, num_layers=2, dropout=0.5
    ).eval()
    num = graph.num_nodes
    indptr, sources = torch.from_numpy(graph.indptr), torch.from_numpy(graph.indices).long()
    edges = LayerEdges(indptr=indptr, sources=sources, num_dst=num, num_src=num)
    h = torch.from_numpy(graph.x)
    for layer in range(2):
        h = model.layer(layer, h, edges)
    expected = (h.argmax(dim=1).numpy() == graph.y)[graph.test_mask].mean()
    assert score(weights_of(model.convs), graph) == pytest.approx(expected)


def _write_result(folder: Path, graph: Graph) -> None:
    weights = build_model(
        "sage",
        num_features=graph.num_features,
        hidden=4,
        num_classes=graph.num_classes,
        num_layers=2,
        dropout=0.0,
    )
    np.savez(folder / "weights.npz", **weights_of(weights.convs))  # type: ignore[arg-type]
    for rank, seconds in enumerate(([9, 1, 2, 6], [9, 3, 1, 4])):
        epochs = [{"epoch_s": each, "train_s": each / 2, "steps": 7} for each in seconds]
        (folder / f"rank{rank}.json").write_text(json.dumps({"epochs": epochs}))


def test_a_result_is_the_median_of_the_slowest_rank_after_the_first_epoch(
    graph12: Graph, tmp_path: Path
) -> None:
    _write_result(tmp_path, graph12)
    run = read_peer("DistDGL", tmp_path, graph12, MEMORY)
    assert (run["epoch_s"], run["steps"], run["stages"]) == (3, 7, {"train_s": 1.5})
    assert 0 <= run["test_accuracy"] <= 1


ONE_STEP = """
import json, sys, numpy as np, torch
from pathlib import Path
from pyg_train import SAGEConv, named
from sage_loop import GraphSAGE, train
settings = json.loads(Path(sys.argv[1]).read_text())
torch.manual_seed(settings["seed"])
meet = f"file://{settings['out']}/meet"
torch.distributed.init_process_group("gloo", init_method=meet, rank=0, world_size=1)
a, b, c = settings["widths"]
model = GraphSAGE([SAGEConv(a, b), SAGEConv(b, c)], settings["dropout"])
inputs = torch.ones(3, a), torch.tensor([[1, 2], [0, 1]])
train(settings, 0, model, named, lambda spent: iter([(inputs, torch.tensor([1, 0]))]))
torch.distributed.destroy_process_group()
"""


def test_a_peers_loop_starts_from_our_weights_and_leaves_a_result(
    graph12: Graph, tmp_path: Path
) -> None:
    parts, out = split_graph(graph12, 2, tmp_path / "parts"), tmp_path / "out"
    out.mkdir()
    run = TrainConfig(hidden=4, batch_size=2, epochs=3, lr=1e-7)
    words = [sys.executable, "-c", ONE_STEP, str(write_task(run, parts, out))]
    subprocess.run(words, check=True, env={**os.environ, "PYTHONPATH": str(PROGRAMS)})
    first, last = (dict(np.load(out / f"{name}.npz")) for name in ("first_weights", "weights"))
    assert first.keys() == last.keys()
    for name, weights in first.items():
        assert 0 < np.abs(weights - last[name]).max() < 1e-5
    peer = read_peer("PyG", out, graph12, MEMORY)
    assert (peer["steps"], list(peer["stages"])) == (1, ["train_s"])
    assert 0 < peer["stages"]["train_s"] < peer["epoch_s"]


@pytest.mark.parametrize("damage", ["rank0.json", "weights.npz", "{}", '{"epochs": []}'])
def test_a_missing_or_garbled_result_is_an_error_that_names_it(
    damage: str, graph12: Graph, tmp_path: Path
) -> None:
    _write_result(tmp_path, graph12)
    if (tmp_path / damage).is_file():
        (tmp_path / damage).unlink()
        (tmp_path / "rank1.json").unlink()
    else:
        (tmp_path / "rank0.json").write_text(damage)
    with pytest.raises(ValueError, match=f"DistDGL left no result in {tmp_path}: "):
        read_peer("DistDGL", tmp_path, graph12, MEMORY)


def test_ratios_are_to_the_peer() -> None:
    def run(who: str, epoch_s: float, pss_mb: float) -> Row:
        row: Row = {"who": who, "epoch_s": epoch_s, "steps": 10, "test_accuracy": 0.5}
        memory = {"rss_mb": 2 * pss_mb, "pss_mb": pss_mb}
        stages = {"train_s": epoch_s / 2}
        return {**row, "stages": stages, "memory": memory, "link_mb": 100 * epoch_s}

    runs = [run("none", 1, 50), run("DistDGL", 3, 100), run("none", 2, 40), run("DistDGL", 5, 80)]
    rows = summarize("DistDGL", runs)
    assert [row["who"] for row in rows] == ["DistDGL", "none"]
    assert (rows[1]["epoch_s"], rows[1]["faster"]) == (1.5, pytest.approx(4 / 1.5))
    assert (rows[1]["pss_mb"], rows[1]["memory_ratio"], rows[1]["link_mb"]) == (50, 0.5, 150)
    found = {"samplers": 1, "trials": [{"samplers": 1, "epoch_s": 2.5}], "sides": rows}
    text = describe("head", "DistDGL", "samplers", found)
    assert "DistDGL with 1 samplers a process (tried: 1 2.5 s)" in text
    assert "2.667" in text


def test_a_peer_that_cannot_be_installed_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "env"
    with pytest.raises(Unavailable, match=r"Peer cannot be had here: .*no-such-peer failed: ERROR"):
        prepare("Peer", folder, [["--no-index", "no-such-peer"]], "import peer")
    assert not folder.exists()


@pytest.mark.parametrize("peer", ["distdgl", "pyg"])
def test_a_folder_without_the_peer_ends_the_command(peer: str, tmp_path: Path) -> None:
    if peer == "distdgl" and missing():
        pytest.skip(f"no hosts here: {missing()} is missing")
    words = [sys.executable, "-m", f"benchmarks.peers.{peer}", "--env", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"cannot be used from {tmp_path}: {tmp_path} is no virtual environment" in done.stderr


def _running(mark: str) -> list[str]:
    """Names of the programs of all processes that have this in their environment."""
    ours = [pid for pid in processes() if mark.encode() in read_process(pid, "environ")]
    commands = [read_process(pid, "cmdline").decode().split("\0") for pid in ours]
    return [
        next((Path(word).name for word in words if word.endswith(".py")), words[0])
        for words in commands
    ]


def test_a_failed_process_takes_the_others_and_their_children_along(tmp_path: Path) -> None:
    mark = {MARK: str(tmp_path)}
    endless = ["sh", "-c", "sleep 60 & sleep 60"]
    began = time.monotonic()
    with pytest.raises(ValueError, match="exit code 3:\nlast words"):
        run_together(
            [endless, ["sh", "-c", "sleep 0.3; echo last words; exit 3"]],
            *(mark, tmp_path / "log", 30),
        )
    with pytest.raises(ValueError, match="still running after 0 s"):
        run_together([endless], mark, tmp_path / "log", 0.3)
    assert time.monotonic() - began < 10
    # What was killed goes when the kernel has cleared up after it.
    wait_for(lambda: not _running(str(tmp_path)), limit=10)


def test_memory_is_that_of_all_processes_of_the_job(tmp_path: Path) -> None:
    """A page that two processes share counts twice in the one figure and once in the other."""
    program = "import os, time; held = b'x' * (64 << 20); os.fork(); time.sleep(3)"
    with watching_memory() as (mark, memory):
        run_together([[sys.executable, "-c", program]], mark, tmp_path / "log", 30)
    assert memory["rss_mb"] > 128
    assert 64 < memory["pss_mb"] < 100


def _tiny(folder: Path) -> dict[str, Any]:
    return {
        "graph": "synthetic:small",
        "batch_size": 250,
        "epochs": 4,
        "repeats": 1,
        "samplers": 1,
        "variants": "overlap",
        "folder": str(folder),
        "env": str(DISTDGL),
    }


@pytest.mark.slow
@needs_hosts
@needs_distdgl
def test_distdgl_trains_beside_us_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEERS_TEST", str(tmp_path))
    found = measure(DistdglConfig(**_tiny(tmp_path)))
    peer, ours = found["sides"]
    assert [peer["who"], ours["who"]] == ["DistDGL", "overlap"]
    # The same task from the same weights: they end up close, though they draw other neighbours.
    assert abs(peer["test_accuracy"] - ours["test_accuracy"]) < 0.1
    assert min(peer["link_mb"], ours["link_mb"]) > 1
    assert found["samplers"] == 1
    assert not _running(str(tmp_path))


@pytest.mark.slow
@needs_hosts
@needs_distdgl
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_command_leaves_no_process(number: signal.Signals, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "benchmarks.peers.distdgl"]
    for name, value in {**_tiny(tmp_path), "epochs": 100_000}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    job = start(words, {"PEERS_TEST": str(tmp_path)})
    # Two hosts, and on each one a server, a trainer and its sampler.
    wait_for(lambda: _running(str(tmp_path)).count("distdgl_train.py") >= 4, 90)
    time.sleep(2)
    os.kill(job.process.pid, number)
    code, output = job.finish(30)
    assert code == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number], output
    wait_for(lambda: not _running(str(tmp_path)), 10)
    sweep()
