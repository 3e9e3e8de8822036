"""Families of generated graphs, and the traces of sampling them: what the embedded model learns on.

``minidist.train --trace-only`` records them, as a user would; rudder itself knows no graphs.
Held-out families are shapes that no family of the training set has.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from rudder.replay.trace import Trace, read_traces

_SHARE_TRAINED = 0.3
# Of a rank, about.
_MINIBATCHES = 120


@dataclass(frozen=True, kw_only=True)
class Family:
    """A shape of graphs, and how it is partitioned and sampled.

    shape: fields of ``synthetic:tiny`` that differ.
    """

    name: str
    shape: dict[str, float]
    parts: int = 2
    fanout: str = "10,25"
    batch_size: int = 40
    method: str = "metis"

    def flags(self, trace: Path, seed: int) -> list[str]:
        """Of ``python -m minidist.train``, to record a trace of every rank."""
        num_train = int(_SHARE_TRAINED * self.shape["num_nodes"])
        steps = -(-num_train // (self.parts * self.batch_size))
        spec = {
            "num_features": 2,
            "num_classes": 8,
            "num_train": num_train,
            "num_val": 100,
            "community_size": 400,
            **self.shape,
        }
        graph = ",".join(f"{key}={value}" for key, value in spec.items())
        return [
            *(f"--dataset=synthetic:tiny,{graph}", f"--method={self.method}"),
            *(f"--ranks={self.parts}", "--transport=local", f"--fanout={self.fanout}"),
            *(f"--batch-size={self.batch_size}", f"--epochs={max(round(_MINIBATCHES / steps), 1)}"),
            *(f"--seed={seed}", "--prefetch=overlap", f"--trace={trace}", "--trace-only"),
        ]


def _vary(name: str, num_nodes: int, mean_degree: float, **shape: float) -> list[Family]:
    """A shape under three ways of partitioning and sampling."""
    base = Family(name=name, shape={"num_nodes": num_nodes, "mean_degree": mean_degree, **shape})
    return [
        base,
        replace(base, name=f"{name}-wide", parts=4, fanout="5,10", batch_size=100),
        replace(base, name=f"{name}-cut", parts=3, fanout="10,10", batch_size=60, method="random"),
    ]


_DEEP = {"num_nodes": 15_000, "mean_degree": 14, "exponent": 2.6}
TRAINED = (
    *_vary("hubs", 12_000, 18, exponent=2.1),
    *_vary("even", 10_000, 12, exponent=3.5),
    *_vary("dense", 8_000, 50, exponent=2.4),
    *_vary("sparse", 16_000, 6, exponent=2.4),
    *_vary("local", 12_000, 16, locality=0.95, global_share=0.01),
    *_vary("mixed", 12_000, 20, homophily=0.3, global_share=0.4),
)
HELD_OUT = (
    *_vary("villages", 14_000, 10, community_size=60, locality=0.9, exponent=2.8),
    *_vary("metropolis", 20_000, 30, community_size=4000, homophily=0.9, exponent=2.2),
    Family(name="deep", shape=_DEEP, parts=4, fanout="4,4,4", batch_size=50),
)


def record(families: Sequence[Family], seed: int = 0) -> list[Trace]:
    """All ranks' traces of sampling each family's graph; a function of its arguments alone.

    Raises ValueError where minidist cannot record one: what it said last.
    """
    traces: list[Trace] = []
    with tempfile.TemporaryDirectory(prefix="rudder-distill-") as folder:
        for number, family in enumerate(tqdm(families, "traces", disable=None)):
            home = Path(folder) / family.name
            words = [sys.executable, "-m", "minidist.train", *family.flags(home, seed + number)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode:
                said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
                raise ValueError(f"recording the traces of {family.name} failed: {said}")
            traces += read_traces(home)
    return traces
