"""Settings of ``python -m benchmarks.paper``, and the ways to steer that its exhibits compare."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.command import at_least
from benchmarks.lab.hosts import bits_per_second
from rudder.agent.models import SHORT_NAMES
from rudder.cli.flags import flag, require
from rudder.config import PolicyConfig

# The models of the paper's section 5.6; its other six are in all other comparisons.
EXPERTS = ("granite3.1-3b", "mixtral-8x7b", "mixtral-8x22b")
DENSE = tuple(name for name in SHORT_NAMES if name not in EXPERTS)
RATE, QUICK_RATE, QUICK_EPOCHS = "50mbit", "200mbit", 4
QUICK = "one graph, two numbers of ranks, two buffers, two classifiers, "
QUICK += f"{QUICK_EPOCHS} epochs, {QUICK_RATE} links"
_NO_GGUF = "not run: give its GGUF"
_UNFITTED = "not run: fit it (python -m rudder.fit) and give --classifier-dir"


@dataclass(frozen=True)
class Variant:
    """One way to steer, under the name that tables give it.

    kind: plain (no buffer), heuristic, agent, expert, classifier or tuned (one that is refitted).
    steer: settings, as ``SteerConfig`` names them.   missing: why it cannot run here.
    """

    name: str
    kind: str
    steer: Mapping[str, object] = field(default_factory=dict)
    missing: str | None = None


NONE = Variant("none", "plain", {"prefetch": "none"})
FIXED = Variant("fixed", "heuristic", {"prefetch": "fixed"})
SINGLE = Variant("single", "heuristic", {"prefetch": "rudder", "decider": "once"})
SELDOM = Variant("infrequent", "heuristic", {"prefetch": "rudder", "decider": "every:32"})


@dataclass(frozen=True, kw_only=True)
class PaperConfig:
    exhibits: str | None = flag(None, "names with commas between (default: all); none: the page")
    quick: bool = flag(False, f"minutes instead of an hour: {QUICK}")
    folder: str = flag("traces/paper", "where parts, traces and runs are kept and used again")
    out: str = flag("runs/paper", "folder for the page, and each exhibit's NAME.json and NAME.svg")
    graphs: str | None = flag(None, "names with commas between (default: the exhibit's)")
    ranks: tuple[int, ...] = flag((), "numbers of ranks (default: the exhibit's)")
    buffer: tuple[float, ...] = flag((), "shares of the halo rows (default: the exhibit's)")
    agent_model: str = flag(
        "embedded", "models with commas between: as for training, or NAME=FILE to call it NAME"
    )
    agent_threads: int = flag(1, "CPU threads of the agent's model")
    agent_gpu_layers: int = flag(0, "layers of the agent's model on the GPU; -1: all")
    classifier_dir: str | None = flag(None, "folder of rudder.fit (default: the shipped ones)")
    rate: str | None = flag(None, f"of timed runs' links (default: {RATE}); none: all on this host")
    epochs: int | None = flag(None, "of every run (default: the graph's recipe)")
    hidden: int = flag(32, "hidden size of timed runs")

    def __post_init__(self) -> None:
        # Imported late: who asks for help does not wait for PyTorch.
        from benchmarks.traces import graphs_of

        self.chosen()
        graphs_of(self.graphs)
        at_least(self, 2, "ranks")
        at_least(self, 1, "epochs", "hidden")
        for buffer in self.buffer:
            require(buffer > 0, "buffer", buffer, "more than 0")
        require(bool(self.models), "agent_model", self.agent_model, "at least one model")
        # Its own settings check what both share.
        PolicyConfig(agent_threads=self.agent_threads, agent_gpu_layers=self.agent_gpu_layers)
        bits_per_second(self.rate or RATE)
        folder = self.classifier_dir
        require(
            folder is None or (Path(folder) / "meta.json").is_file(),
            *("classifier_dir", folder, "a folder that python -m rudder.fit wrote"),
        )

    def chosen(self) -> list[str]:
        from benchmarks.paper.exhibits import EXHIBITS

        names = [] if self.exhibits == "none" else (self.exhibits or ",".join(EXHIBITS)).split(",")
        for name in names:
            require(name in EXHIBITS, "exhibits", name, "none, or some of " + ", ".join(EXHIBITS))
        return names

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
        shared = {"agent_threads": self.agent_threads, "agent_gpu_layers": self.agent_gpu_layers}
        steer = {"prefetch": "rudder", "decider": "llm", **shared}
        found = {
            name: Variant(name, "agent", {**steer, "agent_model": model})
            for name, model in self.models.items()
        }
        missing = {name: Variant(name, "agent", {}, _NO_GGUF) for name in names}
        return list({**found, **missing, **found}.values())

    def classifiers(self, *names: str) -> list[Variant]:
        """Classifiers (all, or of these names), from ``classifier_dir`` or as they ship."""
        from rudder.presets import CLASSIFIERS, SHIPPED

        meta = Path(self.classifier_dir or SHIPPED) / "meta.json"
        fitted = json.loads(meta.read_text())["classes"] if meta.is_file() else {}
        steer = {"prefetch": "rudder", "classifier_dir": str(meta.parent)}
        found = {name: Variant(name, "classifier", {**steer, "decider": name}) for name in fitted}
        return [
            found.get(name, Variant(name, "classifier", {}, _UNFITTED))
            for name in names or CLASSIFIERS[: 2 if self.quick else None]
        ]
