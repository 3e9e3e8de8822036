"""Rehearse: a run that samples and fetches every minibatch, and trains nothing.

What it leaves is a trace of the remote rows, and the figures of sampling and fetching.
"""

import time
from typing import Any

from tqdm import tqdm

from minidist.comm.launch import shows_progress
from minidist.comm.world import World
from minidist.sampling.loader import Loader
from minidist.training.meter import Meter
from rudder.prefetcher import Prefetcher


def rehearse(
    world: World, loader: Loader, prefetcher: Prefetcher | None, num_epochs: int
) -> dict[str, Any]:
    """Take every minibatch of the run; returns the part of the summary that knows no model."""
    meter = Meter()
    bar = tqdm(
        total=num_epochs * len(loader),
        unit="step",
        disable=world.rank != 0 or not shows_progress(),
    )
    with bar:
        ended = time.perf_counter()
        for batch in loader.run(num_epochs):
            if batch.moment.step == 0:
                meter.start_epoch()
            now = time.perf_counter()
            meter.add_step(batch, 0.0, now - ended)
            ended = now
            bar.update()
    figures = meter.summarize(world, 4 * loader.shard.num_features, prefetcher)
    sizes = {"steps_per_epoch": len(loader), "batch_size": loader.schedule.batch_size}
    return {**sizes, **figures}
