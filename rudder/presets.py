"""Presets: what each ``--prefetch`` means, as a policy and the decider that goes with it."""

from dataclasses import dataclass
from pathlib import Path

from rudder.buffer.index import Buffer
from rudder.config import SteerConfig
from rudder.deciders.base import Decider
from rudder.deciders.fixed import fixed_decider
from rudder.deciders.rule import RuleDecider
from rudder.observations import Facts
from rudder.policies.base import Policy, Prior
from rudder.policies.demand import LfuPolicy, LruPolicy
from rudder.policies.lookahead import LookaheadPolicy
from rudder.policies.massivegnn import MassiveGNNPolicy
from rudder.policies.score import ScorePolicy
from rudder.policies.static import DegreePolicy, VipPolicy

# Without a buffer.
PLAIN = ("none", "overlap")
# With one whose contents follow by themselves, so that no decider is asked.
SELF_STEERED = ("degree", "vip", "lru", "lfu", "lookahead")
STEERED = ("fixed", "massivegnn", "rudder")
PRESETS = (*PLAIN, *STEERED, *SELF_STEERED)
CLASSIFIERS = ("mlp", "tabnet", "lr", "rf", "svm", "xgb")
# Of --steer size; never: the size it starts with.
SIZE_DECIDERS = ("llm", "rule", "never")
_WINDOW = 16
# Classifiers that ship with the package.
SHIPPED = Path(__file__).parent / "deciders" / "fitted"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One value of ``--prefetch``, read. decider: the name of the one it takes.   steer: what the
    decider changes."""

    name: str
    window: int = 0
    decider: str = "never"
    steer: str = "rows"

    @property
    def has_buffer(self) -> bool:
        return self.name not in PLAIN

    @property
    def presamples(self) -> bool:
        """Whether its policy wants to know how often nodes are drawn."""
        return self.name == "vip"

    @property
    def is_steered(self) -> bool:
        return self.name in STEERED or self.steer == "size"


def read_preset(config: SteerConfig) -> Preset:
    """What the config asks for. Raises ValueError on values that are none or do not go together."""
    name, _, argument = config.prefetch.partition(":")
    if name not in PRESETS or (argument and name != "lookahead"):
        raise ValueError(
            f"--prefetch {config.prefetch}: expected one of {', '.join(PRESETS)} or lookahead:W"
        )
    if config.steer == "size" and (name != "lookahead" or config.decider not in SIZE_DECIDERS):
        raise ValueError(
            f"--steer size --prefetch {name} --decider {config.decider}: expected --prefetch "
            f"lookahead[:W] and --decider {', '.join(SIZE_DECIDERS)}"
        )
    if config.decider is not None and name != "rudder" and config.steer == "rows":
        raise ValueError(
            f"--decider {config.decider}: only --prefetch rudder asks a decider, not {name}"
        )
    if name == "lookahead":
        try:
            window = int(argument or _WINDOW)
        except ValueError:
            window = 0
        if window < 1:
            raise ValueError(f"--prefetch {config.prefetch}: expected lookahead:W, W at least 1")
        decider = config.decider or "never"
        return Preset(name=name, window=window, decider=decider, steer=config.steer)
    if name == "rudder" and config.decider not in (None, "llm", *CLASSIFIERS):
        fixed_decider(config.decider or "")
    deciders = {
        "fixed": "always",
        "massivegnn": f"every:{config.interval}",
        "rudder": config.decider or "llm",
    }
    return Preset(name=name, decider=deciders.get(name, "never"))


def capacity_of(config: SteerConfig, preset: Preset, halo_rows: int) -> int:
    """Rows that the buffer of this rank holds."""
    if not preset.has_buffer:
        return 0
    return round(config.buffer * halo_rows) if config.buffer_rows is None else config.buffer_rows


def make_policy(
    config: SteerConfig, preset: Preset, capacity: int, num_ids: int, prior: Prior
) -> Policy:
    """The policy of a preset, new, with a new buffer."""
    buffer = Buffer(capacity, num_ids, prior.halo)
    match preset.name:
        case "massivegnn":
            return MassiveGNNPolicy(
                buffer, prior, interval=config.interval, decay=config.score_decay
            )
        case "degree":
            return DegreePolicy(buffer, prior)
        case "vip":
            return VipPolicy(buffer, prior)
        case "lru":
            return LruPolicy(buffer)
        case "lfu":
            return LfuPolicy(buffer)
        case "lookahead":
            return LookaheadPolicy(buffer, window=preset.window)
    return ScorePolicy(
        buffer,
        increment=config.score_increment,
        decay=config.score_decay,
        threshold=config.score_threshold,
    )


def make_decider(config: SteerConfig, preset: Preset, facts: Facts, seed: int) -> Decider:
    """The decider of a preset, ready to decide.

    Raises ValueError where it cannot be had.
    """
    name = preset.decider
    if name == "llm":
        from rudder.deciders.llm import LLMDecider

        return LLMDecider(facts, config)
    if name == "rule":
        return RuleDecider()
    if name in CLASSIFIERS:
        from rudder.deciders.classifier import ClassifierDecider

        folder = Path(config.classifier_dir) if config.classifier_dir else SHIPPED
        return ClassifierDecider(name, facts, folder, config.finetune_every)
    return fixed_decider(name, seed)
