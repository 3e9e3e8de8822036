"""What the sampler, step and overlap benchmarks share: a graph of 200k nodes and 4.4M directed
edges, a minibatch of it, and a model to train on that.
"""

from minidist.comm.world import local_worlds
from minidist.data.synthetic import PRESETS, generate
from minidist.graph import Graph
from minidist.sampling.batch import MiniBatch
from minidist.sampling.loader import Loader
from minidist.store.host_shards import HostShards
from minidist.store.shard import whole
from minidist.training.models import GNN, build_model

NUM_SEEDS = 1000
FANOUTS = (10, 25)


def benchmark_graph(seed: int = 0) -> Graph:
    """``synthetic:medium``: power-law degrees, 100 features, 20,000 training nodes."""
    return generate(PRESETS["medium"], seed, "synthetic:medium")


def benchmark_step() -> tuple[MiniBatch, GNN]:
    """A minibatch, and GraphSAGE of two layers with 64 hidden units."""
    graph = benchmark_graph()
    shard = whole(graph)
    shards = HostShards(own=shard, mapped=[shard], topology=[shard])
    loader = Loader.open(local_worlds(1)[0], shards, fanouts=FANOUTS, batch_size=NUM_SEEDS, ahead=0)
    model = build_model(
        "sage",
        num_features=graph.num_features,
        hidden=64,
        num_classes=graph.num_classes,
        num_layers=len(FANOUTS),
        dropout=0.0,
    )
    return next(loader.run(1)), model
