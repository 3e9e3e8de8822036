"""Variants: the ways of training that the model knows, as flags and as what time knows of them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.model.costs import Variant, Work
from benchmarks.runs import parts_of
from benchmarks.simulate.steps import Steps
from benchmarks.simulate.trainers import ID_BYTES, Played, Trainers
from minidist.store.partition_dir import Parts
from minidist.training.models import build_model
from rudder.config import SteerConfig

# Minibatches that the loader samples beyond the one it fetches: what any buffer shows its decider,
# and what lookahead looks at.
_SHOWN, _LOOKAHEAD = 2, 16
VARIANTS: dict[str, tuple[dict[str, str], Variant]] = {
    "none": ({"prefetch": "none"}, Variant(ahead=False)),
    "overlap": ({"prefetch": "overlap"}, Variant()),
    "fixed": ({"prefetch": "fixed"}, Variant(window=_SHOWN)),
    "lookahead": ({"prefetch": "lookahead"}, Variant(window=_LOOKAHEAD)),
    "rudder": ({"prefetch": "rudder"}, Variant(window=_SHOWN, decides=True)),
    "rudder sync": (
        {"prefetch": "rudder", "decider_mode": "sync"},
        Variant(window=_SHOWN, decides=True, sync=True),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Setup:
    """The training that is measured and predicted.

    graph: of ``traces.RECIPES``.   folder: where its partitions are kept.
    """

    graph: str
    fanout: tuple[int, ...]
    batch_size: int
    epochs: int
    hidden: int
    buffer: float
    seed: int
    folder: Path

    def parts(self, ranks: int) -> Path:
        """The partition directory; made where missing."""
        return parts_of(self.graph, ranks, self.folder)

    def flags(self, variant: str) -> dict[str, object]:
        """Of ``minidist.train``."""
        return {
            "fanout": ",".join(map(str, self.fanout)),
            "batch_size": self.batch_size,
            "epochs": self.epochs,
            "hidden": self.hidden,
            "buffer": self.buffer,
            "seed": self.seed,
            "eval_every": 0,
            **VARIANTS[variant][0],
        }

    def work(self, ranks: int, variant: str) -> Work:
        """What all ranks' minibatches need, without any run."""
        played = _play(self, ranks)
        config = SteerConfig(prefetch=VARIANTS[variant][0]["prefetch"], buffer=self.buffer)
        moved = [Steps.of(one.trace, config, self.seed + one.rank).moved for one in played]
        facts = played[0].trace.facts
        return Work(
            nodes=np.array([one.nodes for one in played], float),
            edges=np.array([one.edges for one in played], float),
            neighbor_bytes=np.array([one.reply_bytes + one.request_bytes for one in played], float),
            row_bytes=np.array(moved, float) * (facts.row_bytes + ID_BYTES),
            steps_per_epoch=facts.minibatches_per_epoch,
        )

    def gradient_bytes(self, num_features: int, num_classes: int) -> float:
        """That each rank puts into the sum: those of the model, and the loss."""
        model: Any = build_model(
            "sage",
            num_features=num_features,
            hidden=self.hidden,
            num_classes=num_classes,
            num_layers=len(self.fanout),
            dropout=0.0,
        )
        return 4.0 * (1 + sum(int(each.numel()) for each in model.parameters()))


@cache
def _play(setup: Setup, ranks: int) -> list[Played]:
    """All trainers, once for all variants."""
    trainers = Trainers(
        parts=Parts.open(setup.parts(ranks)),
        fanouts=setup.fanout,
        batch_size=setup.batch_size,
        epochs=setup.epochs,
        seed=setup.seed,
    )
    return [trainers.play(rank) for rank in range(ranks)]
