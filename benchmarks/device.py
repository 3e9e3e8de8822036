"""Where a training step's time goes on this machine's device, and how near to the floor it comes.

python -m benchmarks.device                                      a GPU if there is one, or the CPU
python -m benchmarks.device --dataset synthetic:products --parts p1 --steps 99

Sampling, rows and the training step go on side by side, so a step cannot be shorter than the
longest of them alone: that floor is measured in the same run, each stage by itself with everything
that it may use. One rank; with --parts a partition directory of one part is used again.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.command import Row, answer, at_least
from benchmarks.micro import medians_ms
from rudder.cli.flags import flag, parse
from rudder.cli.table import render

if TYPE_CHECKING:
    from minidist.comm.world import World
    from minidist.sampling.batch import MiniBatch
    from minidist.store.partition_dir import Parts
    from minidist.training.models import GNN

_WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    dataset: str = flag("synthetic:large", "graph to train on")
    parts: str | None = flag(None, "partition directory of one part; made where missing")
    device: str = flag("auto", "where to train", ("auto", "cpu", "cuda"))
    features: str = flag("auto", "where own rows lie", ("auto", "host", "pinned", "cuda"))
    sample_threads: int | None = flag(None, "threads that sample (default: 2 of 3 cores)")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop")
    batch_size: int = flag(2000, "seeds of a step")
    hidden: int = flag(256, "hidden units")
    steps: int = flag(50, "steps of each measurement")
    amp: str = flag("none", "precision of the forward pass", ("none", "bf16"))
    deterministic: bool = flag(False, "the same losses to the bit in each run on a GPU")
    evaluate: bool = flag(True, "also time exact evaluation of all nodes")
    json: str | None = flag(None, "also write the figures to this file")

    def __post_init__(self) -> None:
        at_least(self, 1, "steps", "batch_size")


def training(
    config: DeviceConfig, world: "World", parts: "Parts"
) -> "tuple[GNN, Callable[[MiniBatch], object]]":
    """A model, and one step of the loop that users write; it returns the loss, unread."""
    import torch

    from benchmarks.trainers import sage_of
    from minidist.config import TrainConfig
    from minidist.training.gradients import GradientSum
    from minidist.training.models import loss_sum

    torch.manual_seed(0)
    model = sage_of(parts, TrainConfig(hidden=config.hidden, fanout=config.fanout))
    model = model.to(world.device)
    gradients, kind = GradientSum(model, world.group), world.device.type
    adam = torch.optim.Adam(model.parameters(), lr=0.003, fused=kind == "cuda")

    def step(batch: "MiniBatch") -> object:
        model.train()
        model.reseed(batch.moment.step)
        adam.zero_grad()
        with torch.autocast(kind, torch.bfloat16, enabled=config.amp == "bf16"):
            logits = model(batch)
        loss = loss_sum(logits.float(), batch.y) / batch.num_global_seeds
        total = gradients.backward(loss, batch.moment)
        adam.step()
        return total

    return model, step


def _wait(world: "World") -> None:
    import torch

    if world.device.type == "cuda":
        torch.cuda.synchronize(world.device)


def _each_ms(items: Iterator[Any], count: int, world: "World") -> float:
    """Milliseconds an item, of ``count`` items after the first few."""
    for _ in range(_WARM_UP):
        next(items)
    _wait(world)
    began = time.perf_counter()
    for _ in range(count):
        next(items)
    _wait(world)
    return 1e3 * (time.perf_counter() - began) / count


def stages(config: DeviceConfig, world: "World", parts: "Parts") -> Row:
    """Every figure, in milliseconds a step but for the evaluation's seconds."""
    from minidist.moment import Moment
    from minidist.sampling.loader import Loader
    from minidist.training.evaluate import LayerwiseInference, evaluate

    names, count = ("batch_size", "sample_threads", "features"), config.steps
    given: Row = {name: getattr(config, name) for name in names}
    loader = Loader.open(world, parts, fanouts=config.fanout, **given)
    epochs = -(-(count + _WARM_UP) // len(loader)) + 1
    moments = [*loader.schedule.moments(epochs, Moment(0, 0))][: count + _WARM_UP + 1]
    samples = [loader.sample(moment) for moment in moments[:8]]
    found: Row = {"device": str(world.device), "features": loader.store.placement.kind}
    found["workers"] = loader.num_workers
    found["nodes"] = statistics.fmean(len(sample.n_id) for sample in samples)
    found["edges"] = statistics.fmean(len(sample.sources) for sample in samples)
    alone = map(loader.sample, moments)
    found["sample_one_thread_ms"] = _each_ms(alone, min(count, 20), world)
    found["sample_ms"] = _each_ms(loader.samples(iter(moments)), count, world)
    found["rows_ms"] = _each_ms(loader.fetched(itertools.cycle(samples), 1), count, world)
    batch, (model, step) = next(loader.fetched(iter(samples), 0)), training(config, world, parts)
    batch.await_copies()

    def step_alone() -> None:
        step(batch)
        _wait(world)

    found |= medians_ms({"train_ms": step_alone}, min(count, 30), _WARM_UP)
    run = loader.run(epochs)
    found["step_ms"] = _each_ms(map(step, run), count, world)
    run.close()
    found["floor_ms"] = max(found[name] for name in ("sample_ms", "rows_ms", "train_ms"))
    found["step_over_floor"] = found["step_ms"] / found["floor_ms"]
    if config.evaluate:
        inference = LayerwiseInference(world, loader.server, loader.shards.mapped)
        # The first compiles.
        work = {"ms": lambda: evaluate(inference, model, world, loader.shard)}
        found["evaluation_s"] = medians_ms(work, 1, warm_up=1)["ms"] / 1e3
    return found


def table(found: Row) -> str:
    names = {
        "sample_one_thread_ms": "sample, one thread",
        "sample_ms": "sample, {workers} workers",
        "rows_ms": "rows ({features})",
        "train_ms": "training step",
        "floor_ms": "floor: the longest of the three",
        "step_ms": "a step, all side by side",
        "step_over_floor": "  over the floor",
        "evaluation_s": "exact evaluation, s",
    }
    rows = [(name.format(**found), found[key]) for key, name in names.items() if key in found]
    title = "{device}: {nodes:,.0f} nodes and {edges:,.0f} edges a minibatch".format(**found)
    return f"{title}\n{render(rows, ('stage', 'ms'))}"


def measure(config: DeviceConfig) -> Row:
    """On one rank, of the dataset or of a partition directory."""
    import torch

    from minidist.comm.world import open_world
    from minidist.config import PartitionConfig
    from minidist.partition.partitioner import run
    from minidist.store.partition_dir import Parts

    torch.use_deterministic_algorithms(config.deterministic)
    with tempfile.TemporaryDirectory() as scratch, open_world(device=config.device) as world:
        folder = Path(config.parts or f"{scratch}/parts")
        if not folder.exists():
            run(PartitionConfig(dataset=config.dataset, parts=1, out=str(folder)))
        return stages(config, world, Parts.open(folder))


if __name__ == "__main__":
    answer(parse(DeviceConfig, __doc__), measure, table)
