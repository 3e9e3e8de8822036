"""What the micro benchmarks share: medians of works in turn, and a step to measure.

The graph has 200k nodes and 4.4M directed edges.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from minidist.sampling.batch import MiniBatch
    from minidist.training.models import GNN

NUM_SEEDS = 1000
FANOUTS = (10, 25)


def medians_ms(
    works: Mapping[str, Callable[..., object]],
    repeats: int,
    warm_up: int = 5,
    given: Callable[[], tuple[Any, ...]] = tuple,
) -> dict[str, float]:
    """Milliseconds of each work, in turn, so that what else the machine does hits all alike; the
    first few turns, which compile and fill caches, do not count.

    given: a work's arguments, made anew before each, untimed.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(warm_up + repeats):
        for name, work in works.items():
            arguments = given()
            began = time.perf_counter()
            work(*arguments)
            times[name].append(1e3 * (time.perf_counter() - began))
    return {name: statistics.median(spent[warm_up:]) for name, spent in times.items()}


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
