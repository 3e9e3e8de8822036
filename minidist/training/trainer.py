"""Trainer: one rank's training loop, from the first minibatch to the summary."""

import copy
import json
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from minidist.comm.launch import shows_progress
from minidist.comm.signals import TERMINATED, Flag, termination_noted
from minidist.comm.world import World
from minidist.config import TrainConfig
from minidist.moment import Moment
from minidist.sampling.batch import MiniBatch
from minidist.sampling.kernels import hop_key
from minidist.sampling.loader import Loader
from minidist.store.partition_dir import Parts
from minidist.training.checkpoint import (
    Checkpoint,
    best_of,
    folder_of,
    go_on_in,
    load_rank,
    require_disk,
    save_best,
    save_rank,
    settings_of,
)
from minidist.training.evaluate import LayerwiseInference, Scores, evaluate
from minidist.training.event_log import EventLog
from minidist.training.gradients import GradientSum
from minidist.training.meter import Meter, diverged_at, finite, losses_sha256
from minidist.training.models import GNN, build_model, loss_sum
from rudder.deciders.judge import Tally
from rudder.prefetcher import Prefetcher
from rudder.row_counts import RowCounts

# The hop number that no sampler uses: its key seeds dropout.
_DROPOUT_HOP = -1
_BEGIN = Moment(0, 0)
# Steps of a GPU whose losses may be unread: reading one waits for the steps before it.
_LAG = 31


def describe(parts: Parts, world: World) -> dict[str, Any]:
    """What a summary says of the graph and the ranks."""
    return {
        "dataset": parts.name,
        "num_nodes": parts.num_nodes,
        "num_edges": parts.num_edges,
        "partition": {
            "path": str(parts.path),
            "method": parts.method,
            "seed": parts.seed,
            "halo_hops": parts.halo_hops,
        },
        "world_size": world.size,
        "transport": type(world.transport).__name__.removesuffix("Transport").lower(),
        "device": world.device.type,
    }


@dataclass
class Progress:
    """Where a run is: the next step, the loss of every step taken, the evaluations so far.

    best: the weights of the best evaluation and its scores, on a rank 0 that keeps checkpoints.
    """

    moment: Moment = _BEGIN
    losses: list[float] = field(default_factory=list)
    scores: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class Trainer:
    """Trains on one rank. Every rank of the world makes and runs one.

    prefetcher: what it uses, if anything.   out: folder for checkpoints, or None.
    """

    def __init__(
        self,
        config: TrainConfig,
        world: World,
        parts: Parts,
        loader: Loader,
        prefetcher: Prefetcher | None,
        out: Path | None,
        events: EventLog,
    ) -> None:
        self._config, self._world, self._parts = config, world, parts
        self._out, self._events = out, events
        self._loader, self._prefetcher = loader, prefetcher
        self._shard = loader.shard
        self._inference = LayerwiseInference(world, self._loader.server, self._loader.shards.mapped)
        self._model = self._build_model().to(world.device)
        if out is not None:
            world.group.first(lambda: require_disk(out, self._model), "looking at the disk")
        self._gradients = GradientSum(self._model, world.group)
        fused = world.device.type == "cuda"
        self._adam = torch.optim.Adam(self._model.parameters(), lr=config.lr, fused=fused)
        self._progress, self._meter = Progress(), Meter()
        self._unread: list[tuple[Moment, torch.Tensor, dict[str, Any]]] = []
        # Set where this rank was asked to end; and whether any rank was, which all of them know.
        self._asked, self._leaving = Flag(), False
        self._lag = _LAG if fused else 0

    def _build_model(self) -> GNN:
        config, parts = self._config, self._parts

        def build() -> GNN:
            return build_model(
                config.model,
                num_features=parts.num_features,
                hidden=config.hidden,
                num_classes=parts.num_classes,
                num_layers=len(config.fanout),
                dropout=config.dropout,
            )

        def seeded_state() -> dict[str, Any]:
            torch.manual_seed(config.seed)
            return build().state_dict()

        # Rank 0 alone draws the weights: ranks that are threads share one global generator.
        state = self._world.group.first(seeded_state, "building the model")
        model = build()
        model.load_state_dict(state)
        return model

    def run(self) -> dict[str, Any]:
        """Train, evaluate, and return the summary (the same on every rank)."""
        config = self._config
        if config.resume is not None:
            self._resume(Path(config.resume))
        progress = self._progress
        self._events.write("started", rank=self._world.rank, config=asdict(config))
        bar = tqdm(
            total=config.epochs * len(self._loader),
            initial=len(progress.losses),
            unit="step",
            disable=self._world.rank != 0 or not shows_progress(),
        )
        # Without a folder there is nothing to save, and a signal ends the job at once.
        with bar, nullcontext(self._asked) if self._out is None else termination_noted() as asked:
            self._asked = asked
            self._epochs(bar)
        if not progress.scores or progress.scores[-1]["epoch"] != config.epochs:
            self._evaluate(config.epochs - 1)
            self._checkpoint()
        summary = self._summary()
        self._events.write("finished", losses_sha256=summary["losses_sha256"])
        return summary

    def _epochs(self, bar: "tqdm[Any]") -> None:
        config, progress = self._config, self._progress
        last_step = len(self._loader) - 1
        if self._steps_left and (progress.moment.step == 0 or not self._meter.epochs):
            self._meter.start_epoch()
        ended = time.perf_counter()
        for batch in self._loader.run(config.epochs - progress.moment.epoch, progress.moment):
            began = time.perf_counter()
            moment = batch.moment
            loss = self._step(batch)
            sums = torch.stack([loss, self._gradients.num_leaving.to(loss.dtype)])
            self._unread.append((batch.moment, sums, self._times_of(batch, began)))
            if moment.step == last_step or len(self._unread) > self._lag:
                self._read_losses()
            step_ended = time.perf_counter()
            self._meter.add_step(batch, step_ended - began, step_ended - ended)
            if self._prefetcher is not None:
                self._prefetcher.after_step(step_ended - began, moment)
            progress.moment = Moment(moment.epoch, moment.step + 1)
            bar.update()
            if moment.step == last_step:
                self._end_epoch(moment.epoch, bar)
            elif self._leaving or (
                config.checkpoint_every and self._num_steps % config.checkpoint_every == 0
            ):
                self._checkpoint()
            if self._leaving:
                self._leave()
            ended = time.perf_counter()

    def _leave(self) -> None:
        """End as asked, once every rank has written its part of the checkpoint."""
        self._world.group.barrier("saving before the end", self._progress.moment)
        if self._world.rank == 0:
            words = f"stopped by a signal before {self._progress.moment}"
            print(f"{words}; --resume {self._out} goes on from there", file=sys.stderr, flush=True)
        raise SystemExit(TERMINATED)

    @property
    def _steps_left(self) -> bool:
        return self._progress.moment < Moment(self._config.epochs, 0)

    @property
    def _num_steps(self) -> int:
        return len(self._progress.losses) + len(self._unread)

    def _step(self, batch: MiniBatch) -> torch.Tensor:
        """Forward, backward, sum over ranks, update; returns the global mean loss."""
        seed, bf16 = self._config.seed, self._config.amp == "bf16"
        self._model.train()
        loss = None
        if batch.batch_size:
            key = (batch.moment.epoch, batch.moment.step, self._world.rank, _DROPOUT_HOP)
            self._model.reseed(hop_key(seed, *key))
            with torch.autocast(batch.x.device.type, torch.bfloat16, enabled=bf16):
                logits = self._model(batch)
            loss = loss_sum(logits.float(), batch.y) / batch.num_global_seeds
        self._adam.zero_grad()
        total = self._gradients.backward(loss, batch.moment, self._asked.is_set)
        self._adam.step()
        return total

    def _times_of(self, batch: MiniBatch, began: float) -> dict[str, Any]:
        """What the event log says of a step besides its loss."""
        return {
            "sample_s": batch.seconds.sample,
            "fetch_s": batch.seconds.fetch,
            "wait_s": batch.seconds.wait,
            "train_s": time.perf_counter() - began,
            "rows": batch.rows.by_cause(),
        }

    def _read_losses(self) -> None:
        """Bring in the losses of the steps since the last call, and log those steps.

        On a GPU that waits until they are done, so it happens once for many steps.
        """
        if not self._unread:
            return
        sums = torch.stack([pair for _, pair, _ in self._unread]).tolist()
        for (moment, _, times), (loss, num_leaving) in zip(self._unread, sums, strict=True):
            self._leaving |= num_leaving > 0
            self._tell_divergence(moment, loss)
            self._progress.losses.append(loss)
            known = finite(loss)
            self._events.write("step", epoch=moment.epoch, step=moment.step, loss=known, **times)
        self._unread.clear()

    def _tell_divergence(self, moment: Moment, loss: float) -> None:
        """Say at once that the loss is no number any more; the run goes on to its end."""
        before = self._progress.losses[-1:]
        if self._world.rank == 0 and finite(loss) is None and before == [*map(finite, before)]:
            told = f"the loss of epoch {moment.epoch + 1}, step {moment.step + 1} is {loss}"
            print(f"{told}: training diverges; try a lower --lr", file=sys.stderr, flush=True)

    def _end_epoch(self, epoch: int, bar: "tqdm[Any]") -> None:
        config, progress = self._config, self._progress
        progress.moment = Moment(epoch + 1, 0)
        self._gradients.check(Moment(epoch))
        every = config.eval_every
        if every and (epoch + 1) % every == 0:
            self._evaluate(epoch)
        self._checkpoint()
        loss = progress.losses[-1]
        self._events.write(
            "epoch", epoch=epoch, loss=finite(loss), **asdict(self._meter.epochs[-1])
        )
        score = progress.scores[-1]["val"] if progress.scores else None
        val = "" if score is None else f", val {score:.4f}"
        bar.set_postfix_str(f"epoch {epoch + 1}/{config.epochs}, loss {loss:.4f}{val}")
        if epoch + 1 < config.epochs:
            self._meter.start_epoch()

    def _evaluate(self, epoch: int) -> None:
        began = time.perf_counter()
        scores: Scores = evaluate(self._inference, self._model, self._world, self._shard)
        record = {"epoch": epoch + 1, **asdict(scores)}
        self._progress.scores.append(record)
        keeps = self._out if self._world.rank == 0 else None
        if keeps is not None and best_of(self._progress.scores) is record:
            weights = copy.deepcopy(self._model.state_dict())
            self._progress.best = {"model": weights, "scores": record}
            save_best(keeps, self._progress.best)
        seconds = time.perf_counter() - began
        self._events.write("evaluated", **{**record, "epoch": epoch, "seconds": seconds})

    def _checkpoint(self) -> None:
        self._read_losses()
        if self._out is None:
            return
        report = None if self._prefetcher is None else self._prefetcher.report()
        totals = {
            "epochs": [asdict(times) for times in self._meter.epochs],
            "rows": asdict(self._meter.rows),
            "tally": asdict(report.tally if report else Tally()),
            "failures": dict(report.failures if report else {}),
        }
        state = {} if self._prefetcher is None else self._prefetcher.state_dict()
        state["totals"] = np.array(json.dumps(totals))
        save_rank(self._out, self._world.rank, self._progress.moment, state)
        if self._world.rank != 0:
            return
        Checkpoint(
            settings=settings_of(self._config, self._world.size, self._parts),
            moment=self._progress.moment,
            model=self._model.state_dict(),
            optimizer=self._adam.state_dict(),
            losses=self._progress.losses,
            scores=self._progress.scores,
            best=self._progress.best,
        ).save(self._out)

    def _resume(self, path: Path) -> None:
        """Continue after the last step that rank 0 wrote down."""
        group, rank, config = self._world.group, self._world.rank, self._config
        settings = settings_of(config, self._world.size, self._parts)
        saved = group.first(
            lambda: Checkpoint.load(path, settings, config.epochs), "reading the checkpoint"
        )
        kept = load_rank(folder_of(path), rank, saved.moment)
        group.barrier("reading the checkpoint")
        if self._out is not None:
            if self._out.resolve() == folder_of(path).resolve():
                go_on_in(self._out, rank, saved.moment)
            if rank == 0 and saved.best is not None:
                save_best(self._out, saved.best)
        self._model.load_state_dict(saved.model)
        # A copy: ranks that are threads of one process are handed the same tensors.
        self._adam.load_state_dict(copy.deepcopy(saved.optimizer))
        self._progress = Progress(saved.moment, list(saved.losses), list(saved.scores), saved.best)
        totals = json.loads(str(kept.pop("totals")))
        self._meter.go_on_from(totals)
        if self._prefetcher is not None:
            self._prefetcher.go_on_from(RowCounts(**totals["rows"]), totals)
            # With no minibatch to come, no rows are brought back into the buffer.
            if self._steps_left and not (kept and self._prefetcher.load_state_dict(kept)):
                self._events.write("buffer starts afresh")

    def _summary(self) -> dict[str, Any]:
        config, progress, world, parts = self._config, self._progress, self._world, self._parts
        best = best_of(progress.scores)
        return {
            **describe(parts, world),
            "metric": best["metric"],
            "test_accuracy": best["test"],
            "val_accuracy": best["val"],
            "train_accuracy": best["train"],
            "best_epoch": best["epoch"],
            "steps_per_epoch": len(self._loader),
            "batch_size": self._loader.schedule.batch_size,
            **self._meter.summarize(world, 4 * parts.num_features, self._prefetcher),
            "scores": progress.scores,
            "losses": [*map(finite, progress.losses)],
            "diverged": diverged_at(progress.losses, len(self._loader)),
            "losses_sha256": losses_sha256(progress.losses),
            "config": asdict(config),
        }
