"""The settings of each runnable: a frozen dataclass, and the command line generated from it.

A field's ``help`` stands beside it; its flag is its name with dashes, its type is its annotation.
Nonsense raises ValueError that names the flag; ``parse`` turns that into one line and exit code 2.
"""

import argparse
import dataclasses
import os
import sys
import types
import typing
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

ConfigT = TypeVar("ConfigT")


def flag(default: Any, text: str, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its help text and, where there are few values, those values."""
    return dataclasses.field(default=default, metadata={"help": text, "choices": choices})


def require(condition: bool, name: str, value: object, expected: str) -> None:
    """Raise ValueError naming the flag of field ``name`` unless the condition holds."""
    if not condition:
        raise ValueError(f"--{name.replace('_', '-')} {value}: expected {expected}")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see --help)")


def _value_type(annotation: Any) -> Any:
    """The type a flag's text is read as: ``int | None`` reads an int."""
    if isinstance(annotation, types.UnionType):
        return next(kind for kind in typing.get_args(annotation) if kind is not type(None))
    return annotation


def _read(kind: Any, text: str) -> Any:
    if typing.get_origin(kind) is tuple:
        return tuple(int(part) for part in text.split(","))
    return kind(text)


def from_args(config_class: type[ConfigT], argv: list[str], description: str = "") -> ConfigT:
    """Build a config from command-line words. Raises ValueError on anything it cannot read."""
    parser = _Parser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(config_class)
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        name = "--" + field.name.replace("_", "-")
        kind = _value_type(hints[field.name])
        shown = (
            ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
        )
        text = field.metadata["help"] + ("" if shown is None else f" (default: {shown})")
        if kind is bool:
            parser.add_argument(
                name, action=argparse.BooleanOptionalAction, default=None, help=text
            )
        else:
            metavar = "|".join(field.metadata["choices"]) or field.name.upper()
            parser.add_argument(name, default=None, help=text.replace("%", "%%"), metavar=metavar)
    given = {
        key: value for key, value in vars(parser.parse_args(argv)).items() if value is not None
    }
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if field.name not in given or isinstance(given[field.name], bool):
            continue
        kind, text = _value_type(hints[field.name]), given[field.name]
        choices = field.metadata["choices"]
        require(not choices or text in choices, field.name, text, "one of " + ", ".join(choices))
        expected = {int: "a whole number", float: "a number"}.get(
            kind, "whole numbers with commas between"
        )
        try:
            given[field.name] = _read(kind, text)
        except ValueError:
            raise ValueError(
                f"--{field.name.replace('_', '-')} {text}: expected {expected}"
            ) from None
    return config_class(**given)


def parse(
    config_class: type[ConfigT], description: str = "", argv: list[str] | None = None
) -> ConfigT:
    """``from_args`` for a ``main``: bad input prints one line to stderr and exits with 2."""
    try:
        return from_args(config_class, sys.argv[1:] if argv is None else argv, description)
    except ValueError as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Print a user's error, once per job where the launcher tells us our rank, and exit with 2."""
    rank = next((os.environ[key] for key in RANK_VARIABLES if key in os.environ), "0")
    if rank == "0":
        print(f"error: {error}", file=sys.stderr, flush=True)
    raise SystemExit(2)


# Set by torchrun, MPICH's and Open MPI's mpiexec, and srun, in the order in which they are trusted.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID")

METHODS = ("metis", "random", "stream")


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """Settings of ``python -m minidist.partition``."""

    dataset: str = flag("synthetic:small", "dataset name, npz:PATH or synthetic:PRESET")
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
        require(self.seed >= 0, "seed", self.seed, "0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of ``python -m minidist.train``."""

    dataset: str | None = flag(None, "dataset to partition (default: synthetic:small)")
    data_root: str = flag("data", "folder where datasets are kept")
    parts: str | None = flag(None, "partition directory; made from --dataset where missing")
    method: str = flag("metis", "partitioner for a directory made here", METHODS)
    ranks: int | None = flag(None, "ranks to start where no launcher did (default: 2)")
    model: str = flag("sage", "sage, gat, or a conv of torch_geometric.nn such as GATv2Conv")
    fanout: tuple[int, ...] = flag((10, 25), "neighbours drawn per hop, nearest the seeds first")
    layers: int | None = flag(None, "layers of the model (default: one per fanout)")
    hidden: int = flag(256, "hidden units of each layer")
    batch_size: int = flag(2000, "most seed nodes of a rank in a step")
    epochs: int = flag(10, "epochs to train")
    lr: float = flag(0.003, "learning rate of Adam")
    dropout: float = flag(0.5, "dropout between layers")
    seed: int = flag(0, "seed of everything random")
    eval_every: int = flag(5, "evaluate every so many epochs; 0: after the last one only")
    out: str | None = flag(None, "folder for the event log, checkpoint, summary and partition")
    checkpoint_every: int = flag(0, "also checkpoint every so many steps, not just every epoch")
    resume: str | None = flag(None, "folder of the run to continue")
    json: str | None = flag(None, "write the summary to this file")
    prefetch: str = flag("overlap", "none: fetch when needed; overlap: ahead", ("none", "overlap"))
    transport: str = flag(
        "auto", "what carries rows between ranks", ("auto", "local", "mpi", "collective")
    )
    topology: str = flag("partitioned", "in-edges on a host", ("partitioned", "replicated"))
    halo_hops: int | None = flag(None, "hops of remote in-edges kept with a part (default: 0)")
    wire_dtype: str = flag("float32", "type of rows between hosts", ("float32", "float16"))
    fetch_timeout: float = flag(60.0, "seconds after which a silent peer ends the run")
    device: str = flag("auto", "where to train", ("auto", "cpu", "cuda"))

    def __post_init__(self) -> None:
        for name in ("hidden", "batch_size", "epochs"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("seed", "eval_every", "checkpoint_every"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(self.ranks is None or self.ranks >= 1, "ranks", self.ranks, "at least 1")
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
