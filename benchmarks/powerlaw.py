"""What the sampler, step and overlap benchmarks share: a graph of 200k nodes and 4.4M directed
edges, a minibatch of it, and a model to train on that.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minidist.sampling.batch import MiniBatch
    from minidist.training.models import GNN

NUM_SEEDS = 1000
FANOUTS = (10, 25)


def benchmark_step() -> "tuple[MiniBatch, GNN]":
    """A minibatch of ``synthetic:medium``, and GraphSAGE of two layers with 64 hidden units."""
    from minidist.comm.world import local_worlds
    from minidist.data.synthetic import PRESETS, generate
    from minidist.sampling.loader import Loader
    from minidist.store.host_shards import HostShards
    from minidist.store.shard import whole
    from minidist.training.models import build_model

    graph = generate(PRESETS["medium"], 0, "synthetic:medium")
    shard = whole(graph)
    shards = HostShards(own=shard, mapped=[shard], topology=[shard])
    loader = Loader.open(local_worlds(1)[0], shards, fanouts=FANOUTS, batch_size=NUM_SEEDS, ahead=0)
    sizes = {"num_features": graph.num_features, "num_classes": graph.num_classes}
    model = build_model("sage", hidden=64, num_layers=len(FANOUTS), dropout=0.0, **sizes)
    return next(loader.run(1)), model
