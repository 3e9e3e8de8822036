"""Cells that are replayed from recorded minibatches."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import traces
from benchmarks.paper.cells import Row, base_of, figures_of
from benchmarks.paper.kept import kept_or_made
from benchmarks.paper.settings import PaperConfig, Variant
from benchmarks.runs import parts_of
from benchmarks.traces import NUM_PARTS, RECIPES
from minidist.run_config import RunConfig
from rudder.config import SteerConfig
from rudder.deciders.base import Act, Decider
from rudder.observations import Context, Decision, Snapshot
from rudder.presets import capacity_of, make_decider, read_preset
from rudder.replay.grid import replay, row_of
from rudder.replay.trace import Trace


def record(
    config: PaperConfig, graph: str, ranks: int, batch_size: int | None = None
) -> list[Trace]:
    """All ranks' traces of a graph; recorded in the config's folder if they are not there yet."""
    recipe, folder = RECIPES[graph], Path(config.folder)
    if (ranks, batch_size, config.epochs) == (NUM_PARTS, None, None):
        return traces.record(graph, folder)
    batch_size, epochs = batch_size or recipe.batch_size, config.epochs or recipe.epochs
    run = RunConfig(
        parts=str(parts_of(graph, ranks, folder)), batch_size=batch_size, epochs=epochs, ranks=ranks
    )
    name = f"{graph.replace(':', '-')}-p{ranks}-b{batch_size}-e{epochs}"
    return traces.record_as(folder / name, run, quiet=True)


class Watched(Decider):
    """A decider beside a note of what it saw and said.

    snapshots: those it decided on; replaced: what it said of each.
    """

    def __init__(self, inner: Decider) -> None:
        self.name, self.slow, self.looks_ahead = inner.name, inner.slow, inner.looks_ahead
        self._inner = inner
        self.snapshots: list[Snapshot] = []
        self.replaced: list[bool] = []

    def decide(self, context: Context, act: Act) -> Decision:
        decision = self._inner.decide(context, act)
        self.snapshots.append(context.latest)
        self.replaced.append(decision.replace)
        return decision

    def close(self) -> None:
        self._inner.close()


def _setting_of(variant: Variant, buffer: float) -> SteerConfig:
    """How ``rudder`` is told of a variant."""
    steer: dict[str, Any] = {**variant.steer}
    return SteerConfig(**steer, buffer=buffer)


def replayed(
    config: PaperConfig, recorded: Sequence[Trace], graph: str, variant: Variant, buffer: float
) -> Row:
    """A variant on recorded minibatches: rows in percent of no buffer's, %-Hits, decisions.

    What came of it is kept in the config's folder, as with ``live``.
    """
    setting = _setting_of(variant, buffer)
    lengths = [[trace.num_minibatches, len(trace.ids)] for trace in recorded]
    named = {"trace": recorded[0].name, "lengths": lengths, "buffer": buffer, **variant.steer}

    def play_all() -> dict[str, Any]:
        return row_of(recorded, setting, [replay(trace, setting) for trace in recorded], belady=0)

    found = kept_or_made(config, named, play_all)
    base = base_of(graph, len(recorded), buffer, variant)
    return base | figures_of(found["rows_moved"], found["rows_none"], found)


def watched(trace: Trace, variant: Variant, buffer: float) -> Watched:
    """What the decider of a steered variant saw and said, minibatch by minibatch, on one rank."""
    setting = _setting_of(variant, buffer)
    preset = read_preset(setting)
    facts = replace(trace.facts, capacity=capacity_of(setting, preset, trace.facts.halo_rows))
    decider = Watched(make_decider(setting, preset, facts, 0, lambda _: None))
    replay(trace, setting, decider)
    return decider
