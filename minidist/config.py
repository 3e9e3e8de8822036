"""The settings of minidist's runnables: one frozen dataclass each (see ``rudder.cli.flags``)."""

from dataclasses import dataclass

from rudder.cli.flags import flag, require

METHODS = ("metis", "random", "stream")
# What the keys of random draws hold.
MOST_SEED = 2**63 - 1


def require_seed(seed: int) -> None:
    """Raise ValueError unless ``--seed`` fits what draws depend on."""
    require(0 <= seed <= MOST_SEED, "seed", seed, "0 to 2^63 - 1")


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """Settings of ``python -m minidist.partition``."""

    dataset: str = flag(
        "synthetic:small", "dataset name, npz:PATH, pyg:CLASS/NAME or synthetic:PRESET"
    )
    data_root: str = flag("data", "folder where datasets are kept")
    parts: int = flag(2, "number of parts")
    method: str = flag("metis", "how nodes are assigned to parts", METHODS)
    halo_hops: int = flag(0, "also store the in-edges of nodes up to this many hops away")
    seed: int = flag(0, "seed of the generated graph and of the partitioner")
    out: str = flag("parts", "directory to write")
    overwrite: bool = flag(False, "replace an existing partition directory")
    json: str | None = flag(None, "also write the report to this file")

    def __post_init__(self) -> None:
        require(self.parts >= 1, "parts", self.parts, "at least 1")
        require(self.halo_hops >= 0, "halo_hops", self.halo_hops, "0 or more")
        require_seed(self.seed)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of ``python -m minidist.train``."""

    dataset: str | None = flag(None, "dataset to partition (default: synthetic:small)")
    data_root: str = flag("data", "folder where datasets are kept")
    parts: str | None = flag(None, "partition directory; made from --dataset where missing")
    method: str | None = flag(
        None, "partitioner for a directory made here (default: metis)", METHODS
    )
    ranks: int | None = flag(
        None, "ranks to start where no launcher did (default: one a GPU, or 2)"
    )
    model: str = flag("sage", "sage, gat, or a conv of torch_geometric.nn such as GATv2Conv")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    layers: int | None = flag(None, "layers of the model (default: one per fanout)")
    hidden: int = flag(256, "hidden units of each layer")
    batch_size: int | None = flag(
        None,
        "most seed nodes of a rank in a step (default: 2000, or fewer for an epoch of 12 steps)",
    )
    epochs: int = flag(10, "epochs to train")
    lr: float = flag(0.003, "learning rate of Adam")
    dropout: float = flag(0.5, "dropout between layers")
    seed: int = flag(0, "seed of everything random")
    eval_every: int = flag(5, "evaluate every so many epochs; 0: after the last one only")
    out: str | None = flag(None, "folder for the event log, checkpoint, summary and partition")
    overwrite: bool = flag(False, "replace the run that --out holds")
    checkpoint_every: int = flag(0, "also checkpoint every so many steps, not just every epoch")
    resume: str | None = flag(None, "folder of the run to continue, or a checkpoint in it")
    json: str | None = flag(None, "write the summary to this file")
    transport: str = flag(
        "auto", "what carries rows between ranks", ("auto", "local", "mpi", "collective")
    )
    topology: str = flag("partitioned", "in-edges on a host", ("partitioned", "replicated"))
    halo_hops: int | None = flag(None, "hops of remote in-edges kept with a part (default: 0)")
    wire_dtype: str = flag("float32", "type of rows between hosts", ("float32", "float16"))
    fetch_timeout: float = flag(60.0, "seconds after which a silent peer ends the run")
    device: str = flag("auto", "where to train", ("auto", "cpu", "cuda"))
    share_gpus: bool = flag(
        False, "let ranks share a GPU where there are too few; gradients go by the host"
    )
    amp: str = flag("none", "precision of the forward pass", ("none", "bf16"))
    deterministic: bool = flag(False, "the same losses to the bit in each run on a GPU")
    sample_threads: int | None = flag(
        None, "threads of a rank that sample and gather rows (default: two thirds of its cores)"
    )
    features: str = flag(
        "auto",
        "where a rank's own rows lie: cuda, GPU memory; pinned, read by the GPU; host, copied",
        ("auto", "host", "pinned", "cuda"),
    )

    def __post_init__(self) -> None:
        for name in ("hidden", "epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require_seed(self.seed)
        for name in ("eval_every", "checkpoint_every"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        for name in ("ranks", "batch_size"):
            value = getattr(self, name)
            require(value is None or value >= 1, name, value, "at least 1")
        require(
            self.sample_threads is None or self.sample_threads >= 1,
            *("sample_threads", self.sample_threads, "at least 1"),
        )
        require(
            self.halo_hops is None or self.halo_hops >= 0, "halo_hops", self.halo_hops, "0 or more"
        )
        require(
            bool(self.fanout) and min(self.fanout) >= 1,
            "fanout",
            self.fanout,
            "numbers of at least 1",
        )
        require(self.lr > 0, "lr", self.lr, "more than 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and less than 1")
        require(self.fetch_timeout > 0, "fetch_timeout", self.fetch_timeout, "more than 0 seconds")
        require(
            self.layers is None or self.layers == len(self.fanout),
            "layers",
            self.layers,
            f"as many as --fanout has numbers ({len(self.fanout)})",
        )
