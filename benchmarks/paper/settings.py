"""Settings: what every command of ``benchmarks.paper`` can be told, and the deciders it asks."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.lab.hosts import bits_per_second
from benchmarks.traces import graphs_of
from rudder.agent.models import SHORT_NAMES
from rudder.cli.flags import flag, require
from rudder.config import PolicyConfig
from rudder.presets import CLASSIFIERS, SHIPPED

# The models that the paper's section 5.6 asks; its other six are in all other comparisons.
EXPERTS = ("granite3.1-3b", "mixtral-8x7b", "mixtral-8x22b")
DENSE = tuple(name for name in SHORT_NAMES if name not in EXPERTS)
_NO_GGUF = "not run: give its GGUF"
_NO_CLASSIFIERS = "not run: fit it (python -m rudder.fit) and give --classifier-dir"


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to steer, under the name that tables give it.

    steer: its settings, as ``SteerConfig`` and training's flags name them.
    kind: plain (no buffer), heuristic, agent or classifier.   missing: why it cannot run here.
    """

    name: str
    kind: str
    steer: Mapping[str, object] = field(default_factory=dict)
    missing: str | None = None


NONE = Variant(name="none", kind="plain", steer={"prefetch": "none"})
FIXED = Variant(name="fixed", kind="heuristic", steer={"prefetch": "fixed"})


def ready(variants: Sequence[Variant]) -> list[Variant]:
    """Those that can run here."""
    return [variant for variant in variants if not variant.missing]


def massivegnn(interval: int, decay: float) -> Variant:
    """MassiveGNN with an interval between replacements and a decay of scores."""
    steer = {"prefetch": "massivegnn", "interval": interval, "score_decay": decay}
    return Variant(name=f"massivegnn {interval} {decay:g}", kind="heuristic", steer=steer)


def scheduled(name: str, decider: str) -> Variant:
    """The score policy on a schedule of ``--decider``."""
    return Variant(name=name, kind="heuristic", steer={"prefetch": "rudder", "decider": decider})


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    """Settings of every ``python -m benchmarks.paper.NAME``."""

    folder: str = flag(
        "traces/paper",
        "where parts, traces and finished runs are kept and used again by the same code",
    )
    out: str = flag("runs/paper", "folder for NAME.json and NAME.svg")
    graphs: str | None = flag(None, "names with commas between (default: the exhibit's)")
    ranks: str | None = flag(None, "numbers of ranks with commas between (default: the exhibit's)")
    buffer: str | None = flag(None, "shares of the halo rows (default: the exhibit's)")
    agent_model: str = flag(
        "embedded", "models with commas between: as for training, or NAME=FILE to call it NAME"
    )
    agent_threads: int = flag(1, "CPU threads of the agent's model")
    agent_gpu_layers: int = flag(0, "layers of the agent's model on the GPU; -1: all")
    classifier_dir: str | None = flag(None, "folder of rudder.fit (default: the shipped ones)")
    rate: str = flag("50mbit", "of each host's link in timed runs; none: all ranks on this host")
    epochs: int | None = flag(None, "of every run (default: the graph's recipe)")
    hidden: int = flag(32, "hidden size of timed runs")

    def __post_init__(self) -> None:
        graphs_of(self.graphs)
        try:
            require(all(n > 1 for n in self.rank_counts), "ranks", self.ranks, "2 or more")
            require(all(b > 0 for b in self.buffers), "buffer", self.buffer, "more than 0")
        except ValueError as error:
            if "expected" in str(error):
                raise
            raise ValueError(
                f"--ranks {self.ranks}, --buffer {self.buffer}: expected numbers with commas "
                "between"
            ) from None
        require(bool(self.models), "agent_model", self.agent_model, "at least one model")
        require(self.epochs is None or self.epochs >= 1, "epochs", self.epochs, "at least 1")
        # Their own settings check what both share.
        PolicyConfig(agent_threads=self.agent_threads, agent_gpu_layers=self.agent_gpu_layers)
        require(self.hidden >= 1, "hidden", self.hidden, "at least 1")
        bits_per_second(self.rate)
        folder = self.classifier_dir
        require(
            folder is None or (Path(folder) / "meta.json").is_file(),
            *("classifier_dir", folder, "a folder that python -m rudder.fit wrote"),
        )

    @property
    def graph_names(self) -> list[str]:
        return self.graphs.split(",") if self.graphs else []

    @property
    def rank_counts(self) -> list[int]:
        return [int(count) for count in self.ranks.split(",")] if self.ranks else []

    @property
    def buffers(self) -> list[float]:
        return [float(share) for share in self.buffer.split(",")] if self.buffer else []

    @property
    def models(self) -> dict[str, str]:
        """What each model that was given is called, and what ``--agent-model`` takes."""
        named = {}
        for word in filter(None, self.agent_model.split(",")):
            name, equals, file = word.partition("=")
            named[name if equals else Path(word).stem if "/" in word else word] = file or name
        return named

    def agents(self, names: Sequence[str] = DENSE) -> list[Variant]:
        """The models that were given; then those of these names that were not, as missing."""
        shared = {
            "prefetch": "rudder",
            "decider": "llm",
            "agent_threads": self.agent_threads,
            "agent_gpu_layers": self.agent_gpu_layers,
        }
        given = [
            Variant(name=name, kind="agent", steer={**shared, "agent_model": model})
            for name, model in self.models.items()
        ]
        others = [name for name in names if name not in self.models]
        return given + [Variant(name=name, kind="agent", missing=_NO_GGUF) for name in others]

    @property
    def agent(self) -> Variant:
        """The first model that was given: the one that stands for Rudder."""
        return self.agents()[0]

    def classifiers(self, names: Sequence[str] = CLASSIFIERS) -> list[Variant]:
        """Classifiers, from ``classifier_dir`` or as they ship."""
        folder = Path(self.classifier_dir) if self.classifier_dir else SHIPPED
        steer = {"prefetch": "rudder", "classifier_dir": str(folder)}
        meta = folder / "meta.json"
        fitted = json.loads(meta.read_text())["classes"] if meta.is_file() else {}
        return [
            Variant(
                name=name,
                kind="classifier",
                steer={**steer, "decider": name},
                missing=None if name in fitted else _NO_CLASSIFIERS,
            )
            for name in names
        ]
