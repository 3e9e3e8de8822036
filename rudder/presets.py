"""Presets: what each ``--prefetch`` means, as a policy and the decider that goes with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rudder.buffer.index import Buffer
from rudder.config import SteerConfig
from rudder.deciders.base import Decider
from rudder.deciders.fixed import fixed_decider, rule_decider
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
# Whose rows the ranks of a host may share.
SHARED = ("overlap", *SELF_STEERED)
PRESETS = (*PLAIN, *STEERED, *SELF_STEERED)
CLASSIFIERS = ("mlp", "tabnet", "lr", "rf", "svm", "xgb")
# Of --steer size; never: the size it starts with.
SIZE_DECIDERS = ("llm", "rule", "never")
_WINDOW = 16
# Classifiers that ship with the package.
SHIPPED = Path(__file__).parent / "deciders" / "fitted"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """One value of ``--prefetch``, read. decider: the name of the one it takes.

    sizes_itself: its buffer does (see ``rudder.sizing``).   window_is_free: so does its window.
    steer: what the decider changes.
    """

    name: str
    window: int = 0
    decider: str = "never"
    sizes_itself: bool = False
    window_is_free: bool = False
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
    if name not in (*PRESETS, "auto") or (argument and name != "lookahead"):
        raise ValueError(
            f"--prefetch {config.prefetch}: expected one of {', '.join(PRESETS)}, lookahead:W or "
            "auto"
        )
    _check_scope(config, name)
    _check_decider(config, name)
    sizes_itself = _sizes_itself(config, name)
    if name == "auto":
        return Preset(name="lookahead", window=_WINDOW, sizes_itself=True, window_is_free=True)
    if name == "lookahead":
        return Preset(
            name=name,
            window=_window(config, argument),
            decider=config.decider or "never",
            steer=config.steer,
            sizes_itself=sizes_itself,
        )
    if name == "rudder" and config.decider not in (None, "llm", *CLASSIFIERS):
        fixed_decider(config.decider or "")
    deciders = {
        "fixed": "always",
        "massivegnn": f"every:{config.interval}",
        "rudder": config.decider or "llm",
    }
    return Preset(name=name, decider=deciders.get(name, "never"))


def _check_scope(config: SteerConfig, name: str) -> None:
    if config.buffer_scope != "host":
        return
    if name not in SHARED:
        raise ValueError(
            f"--buffer-scope host: --prefetch {name} is a rank's own; expected {', '.join(SHARED)}"
        )
    if config.buffer_device != "cpu":
        raise ValueError(
            f"--buffer-scope host: --buffer-device {config.buffer_device} is a rank's own memory; "
            "expected cpu"
        )


def _check_decider(config: SteerConfig, name: str) -> None:
    if config.steer == "size" and (name != "lookahead" or config.decider not in SIZE_DECIDERS):
        raise ValueError(
            f"--steer size --prefetch {name} --decider {config.decider}: expected --prefetch "
            f"lookahead[:W] and --decider {', '.join(SIZE_DECIDERS)}"
        )
    if config.decider is not None and name != "rudder" and config.steer == "rows":
        raise ValueError(
            f"--decider {config.decider}: only --prefetch rudder asks a decider, not {name}"
        )


def _window(config: SteerConfig, argument: str) -> int:
    """Minibatches that ``lookahead:W`` looks ahead."""
    if argument and not (argument.isdecimal() and int(argument) >= 1):
        raise ValueError(f"--prefetch {config.prefetch}: expected lookahead:W, W at least 1")
    return int(argument or _WINDOW)


def scope_of(config: SteerConfig, hosts: Sequence[int]) -> str:
    """``host`` where ranks of a host share what is fetched, else ``rank``.

    hosts: of each rank, equal for those on one host. Raises ValueError for ``--buffer-scope host``
    where no row crosses between hosts.
    """
    preset, num_hosts = read_preset(config), len(set(hosts))
    if config.buffer_scope == "host" and num_hosts == 1:
        raise ValueError(
            "--buffer-scope host: all ranks run on one host and read each other's rows from its "
            "maps; leave it out, or run on several hosts"
        )
    asked = config.buffer_scope or ("host" if preset.name in SELF_STEERED else "rank")
    can = 1 < num_hosts < len(hosts) and config.buffer_device == "cpu" and not preset.sizes_itself
    return "host" if asked == "host" and can else "rank"


def _sizes_itself(config: SteerConfig, name: str) -> bool:
    """Whether the buffer does. Raises ValueError where flags contradict each other."""
    is_auto = name == "auto" or config.buffer == "auto"
    if config.buffer == "auto" and name not in ("lookahead", "auto"):
        raise ValueError(
            f"--buffer auto: only --prefetch lookahead and auto change a buffer's size, not {name}"
        )
    if is_auto and config.buffer_rows is not None:
        raise ValueError(f"--buffer-rows {config.buffer_rows}: the buffer chooses its size itself")
    if name == "auto" and config.buffer not in ("auto", SteerConfig.buffer):
        raise ValueError(f"--buffer {config.buffer}: --prefetch auto chooses the size itself")
    if not is_auto and config.buffer_memory is not None:
        raise ValueError(
            f"--buffer-memory {config.buffer_memory}: it limits --buffer auto and --prefetch auto"
        )
    return is_auto


def capacity_of(config: SteerConfig, preset: Preset, halo_rows: int) -> int:
    """Rows that the buffer of this rank holds, at first where it chooses its size itself."""
    if not preset.has_buffer or preset.sizes_itself:
        return 0
    if config.buffer_rows is not None:
        return config.buffer_rows
    return round(float(config.buffer) * halo_rows)


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
        return rule_decider()
    if name in CLASSIFIERS:
        from rudder.deciders.classifier import ClassifierDecider

        folder = Path(config.classifier_dir) if config.classifier_dir else SHIPPED
        return ClassifierDecider(name, facts, folder, config.finetune_every)
    return fixed_decider(name, seed)
