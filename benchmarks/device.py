"""Where a training step's time goes on this machine's device, and how near to the floor it comes.

python -m benchmarks.device                                      a GPU if there is one, or the CPU
python -m benchmarks.device --dataset synthetic:products --parts p1 --steps 99

Sampling, rows and the training step go on side by side, so a step cannot be shorter than the
longest of them alone: that floor is measured in the same run, each stage by itself with everything
that it may use. One rank; with --parts a partition directory of one part is used again.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rudder.cli.flags import fail, flag, parse, require
from rudder.cli.table import render
from rudder.cli.whole_file import write_json

if TYPE_CHECKING:
    import torch

    from minidist.comm.world import World
    from minidist.sampling.batch import MiniBatch
    from minidist.sampling.loader import Loader
    from minidist.store.partition_dir import Parts

_WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """Settings of ``python -m benchmarks.device``."""

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
        require(self.steps >= 1, "steps", self.steps, "at least 1")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "at least 1")


class Training:
    """The loop that users write, one step at a time."""

    def __init__(self, config: DeviceConfig, world: "World", parts: "Parts") -> None:
        import torch

        from minidist.training.gradients import GradientSum
        from minidist.training.models import build_model

        self._amp, self._device = config.amp == "bf16", world.device
        torch.manual_seed(0)
        self.model = build_model(
            "sage",
            num_features=parts.num_features,
            hidden=config.hidden,
            num_classes=parts.num_classes,
            num_layers=len(config.fanout),
            dropout=0.5,
        ).to(world.device)
        self._gradients = GradientSum(self.model, world.group)
        cuda = world.device.type == "cuda"
        self._adam = torch.optim.Adam(self.model.parameters(), lr=0.003, fused=cuda)

    def step(self, batch: "MiniBatch") -> "torch.Tensor":
        """Forward, backward and update; returns the loss, unread."""
        import torch

        from minidist.training.models import loss_sum

        self.model.train()
        self.model.reseed(batch.moment.step)
        self._adam.zero_grad()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._amp):
            logits = self.model(batch)
        loss = loss_sum(logits.float(), batch.y) / batch.num_global_seeds
        total = self._gradients.backward(loss, batch.moment)
        self._adam.step()
        return total


def _wait(device: "torch.device") -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _median_ms(work: Callable[[], Any], device: "torch.device", repeats: int) -> float:
    times = []
    for _ in range(_WARM_UP + repeats):
        began = time.perf_counter()
        work()
        _wait(device)
        times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times[_WARM_UP:])


def _each_ms(items: Iterator[Any], count: int, device: "torch.device") -> float:
    """Milliseconds an item, of ``count`` items after the first few."""
    for _ in range(_WARM_UP):
        next(items)
    _wait(device)
    began = time.perf_counter()
    for _ in range(count):
        next(items)
    _wait(device)
    return 1e3 * (time.perf_counter() - began) / count


def measure(config: DeviceConfig, world: "World", parts: "Parts") -> dict[str, Any]:
    """Every figure, in milliseconds a step but for the evaluation's seconds."""
    from minidist.moment import Moment
    from minidist.sampling.loader import Loader

    loader = Loader.open(
        world,
        parts,
        fanouts=config.fanout,
        batch_size=config.batch_size,
        sample_threads=config.sample_threads,
        features=config.features,
    )
    count, device = config.steps, world.device
    epochs = -(-(count + _WARM_UP) // len(loader)) + 1
    moments = [*loader.schedule.moments(epochs, Moment(0, 0))][: count + _WARM_UP + 1]
    samples = [loader.sample(moment) for moment in moments[:8]]
    one_thread = iter(map(loader.sample, moments))
    figures: dict[str, Any] = {
        "device": str(device),
        "features": loader.store.placement.kind,
        "workers": loader.num_workers,
        "nodes": statistics.fmean(len(sample.n_id) for sample in samples),
        "edges": statistics.fmean(len(sample.sources) for sample in samples),
        "sample_one_thread_ms": _each_ms(one_thread, min(count, 20), device),
        "sample_ms": _each_ms(loader.samples(iter(moments)), count, device),
        "rows_ms": _each_ms(loader.fetched(_again(samples), 1), count, device),
    }
    batch = next(loader.fetched(iter(samples), 0))
    batch.await_copies()
    training = Training(config, world, parts)
    figures["train_ms"] = _median_ms(lambda: training.step(batch), device, min(count, 30))
    floor = max(figures[name] for name in ("sample_ms", "rows_ms", "train_ms"))
    run = loader.run(epochs)
    figures["step_ms"] = _each_ms(map(training.step, run), count, device)
    run.close()
    figures |= {"floor_ms": floor, "step_over_floor": figures["step_ms"] / floor}
    if config.evaluate:
        figures["evaluation_s"] = _evaluation_s(loader, training, world)
    return figures


def _again(samples: list[Any]) -> Iterator[Any]:
    while True:
        yield from samples


def _evaluation_s(loader: "Loader", training: Training, world: "World") -> float:
    from minidist.training.evaluate import LayerwiseInference, evaluate

    inference = LayerwiseInference(world, loader.server, loader.shards.mapped)
    times = []
    for _ in range(2):
        began = time.perf_counter()
        evaluate(inference, training.model, world, loader.shard)
        times.append(time.perf_counter() - began)
    return times[-1]  # the first compiles


def _table(figures: dict[str, Any]) -> str:
    rows = [
        ("sample, one thread", figures["sample_one_thread_ms"]),
        (f"sample, {figures['workers']} workers", figures["sample_ms"]),
        (f"rows ({figures['features']})", figures["rows_ms"]),
        ("training step", figures["train_ms"]),
        ("floor: the longest of the three", figures["floor_ms"]),
        ("a step, all side by side", figures["step_ms"]),
        ("  over the floor", figures["step_over_floor"]),
    ]
    if "evaluation_s" in figures:
        rows.append(("exact evaluation, s", figures["evaluation_s"]))
    title = (
        f"{figures['device']}: {figures['nodes']:,.0f} nodes and {figures['edges']:,.0f} edges a "
        "minibatch"
    )
    return f"{title}\n{render(rows, ('stage', 'ms'))}"


def main() -> None:
    """The command line."""
    config = parse(DeviceConfig, __doc__)
    import torch

    from minidist.comm.world import open_world
    from minidist.config import PartitionConfig
    from minidist.partition.partitioner import run
    from minidist.store.partition_dir import Parts

    if config.deterministic:
        torch.use_deterministic_algorithms(True)
    try:
        with tempfile.TemporaryDirectory() as scratch, open_world(device=config.device) as world:
            folder = Path(config.parts or f"{scratch}/parts")
            if not folder.exists():
                run(PartitionConfig(dataset=config.dataset, parts=1, out=str(folder)))
            figures = measure(config, world, Parts.open(folder))
    except ValueError as error:
        fail(error)
    if config.json is not None:
        write_json(config.json, {"config": vars(config), **figures})
    print(_table(figures))


if __name__ == "__main__":
    main()
