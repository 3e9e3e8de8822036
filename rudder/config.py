"""The settings of steering, for training and for replay (see ``rudder.cli.flags``)."""

import re
from dataclasses import dataclass

from rudder.cli.flags import flag, require


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Settings of policies and deciders, whichever of them is asked for."""

    score_increment: float = flag(1.0, "score policy: what an accessed row's score grows by")
    score_decay: float = flag(0.95, "score policy: factor of a row that was not accessed")
    score_threshold: float = flag(0.95, "score policy: rows below give way")
    interval: int = flag(32, "massivegnn: minibatches between replacements")
    steer: str = flag(
        "rows",
        "what a decider changes: rows, when --prefetch rudder replaces; size, how large the buffer "
        "of --prefetch lookahead is (in replays with --link)",
        ("rows", "size"),
    )
    agent_model: str = flag(
        "embedded", "GGUF file, Hugging Face repo:file-glob, or a short name such as gemma3-4b"
    )
    agent_gpu_layers: int = flag(0, "layers of the agent's model on the GPU; -1: all")
    agent_threads: int = flag(1, "CPU threads of the agent's model")
    agent_context: int = flag(2048, "tokens of the agent's context; history is trimmed to fit")
    agent_reasoning: bool = flag(False, "let the agent think aloud before it decides")
    agent_timeout: float = flag(60.0, "seconds after which an answer counts as failed")
    classifier_dir: str | None = flag(None, "folder of rudder.fit with the classifier")
    finetune_every: int = flag(0, "refit a classifier's head every so many minibatches; 0: never")

    def __post_init__(self) -> None:
        require(self.score_increment >= 0, "score_increment", self.score_increment, "0 or more")
        require(0 < self.score_decay < 1, "score_decay", self.score_decay, "between 0 and 1")
        require(self.score_threshold > 0, "score_threshold", self.score_threshold, "more than 0")
        require(self.interval >= 1, "interval", self.interval, "at least 1")
        require(self.agent_threads >= 1, "agent_threads", self.agent_threads, "at least 1")
        require(
            self.agent_gpu_layers >= -1, "agent_gpu_layers", self.agent_gpu_layers, "-1 or more"
        )
        require(self.agent_context >= 256, "agent_context", self.agent_context, "at least 256")
        require(self.agent_timeout > 0, "agent_timeout", self.agent_timeout, "more than 0 seconds")
        require(self.finetune_every >= 0, "finetune_every", self.finetune_every, "0 or more")


def bytes_of(memory: str) -> float:
    """Bytes of ``--buffer-memory``. Raises ValueError on what is none."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(MB|GB)", memory)
    require(match is not None, "buffer_memory", memory, "an amount such as 500MB or 2GB")
    assert match is not None
    return float(match[1]) * {"MB": 1e6, "GB": 1e9}[match[2]]


@dataclass(frozen=True, kw_only=True)
class SteerConfig(PolicyConfig):
    """What is kept of remote rows, and who decides when to replace it."""

    prefetch: str = flag(
        "rudder",
        "none: fetch when needed; overlap: ahead; with a buffer: fixed, massivegnn, rudder, "
        "degree, vip, lru, lfu, lookahead[:W]; auto: lookahead whose buffer and window choose "
        "themselves, or overlap where that hides fetching",
    )
    buffer: float | str = flag(
        0.25,
        "capacity of the buffer as a share of the part's halo rows, or auto: the smallest of a "
        "lookahead buffer that hides fetching behind computing, measured while it trains",
        words=("auto",),
    )
    buffer_memory: str | None = flag(
        None,
        "most memory that the auto buffers of a host take, such as 500MB or 2GB (default: a "
        "quarter of what is free)",
    )
    buffer_rows: int | None = flag(None, "capacity in rows, in place of --buffer")
    buffer_device: str = flag("cpu", "memory that holds the buffer's rows", ("cpu", "cuda"))
    buffer_scope: str | None = flag(
        None,
        "rank: a buffer each; host: the ranks of a host share one, of the sum of their capacities "
        "(default: host where that can be and --prefetch asks no decider)",
        ("rank", "host"),
    )
    decider: str | None = flag(
        None,
        "who decides when --prefetch rudder replaces: never, always, once, every:N, after:N, "
        "random:P, llm, mlp, tabnet, lr, rf, svm, xgb (default: llm)",
    )
    decider_mode: str = flag(
        "async", "async: training goes on meanwhile; sync: each minibatch waits", ("async", "sync")
    )
    trace: str | None = flag(None, "folder to record each rank's remote ids and decisions in")
    trace_only: bool = flag(False, "sample and fetch for --trace, without training")
    compare: bool | None = flag(
        None,
        "at the end, also count the rows that every other policy would have moved for the same "
        "minibatches (default: for the generated default graph)",
    )

    @property
    def records(self) -> bool:
        """Whether the remote ids of minibatches are written down, for a trace or to compare."""
        return self.trace is not None or bool(self.compare)

    def __post_init__(self) -> None:
        super().__post_init__()
        is_size = not isinstance(self.buffer, str) and self.buffer >= 0
        require(is_size or self.buffer == "auto", "buffer", self.buffer, "0 or more, or auto")
        if self.buffer_memory is not None:
            bytes_of(self.buffer_memory)
        require(
            self.buffer_rows is None or self.buffer_rows >= 0,
            *("buffer_rows", self.buffer_rows, "0 or more"),
        )
        require(
            not self.trace_only or self.trace is not None,
            *("trace_only", True, "a folder in --trace"),
        )
