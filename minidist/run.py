"""Job: one run on ranks that are there: its parts, its loader and prefetching, what it leaves."""

import sys
import tempfile
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from minidist.comm.rank_threads import run_in_threads
from minidist.comm.resources import require_memory
from minidist.comm.signals import termination_noted
from minidist.comm.world import World
from minidist.config import PartitionConfig
from minidist.data.graph_source import same_source, source_of
from minidist.prefetch import steer
from minidist.run_config import RunConfig
from minidist.sampling.loader import Loader
from minidist.store.host_shards import HostShards
from minidist.store.manifest import META
from minidist.store.partition_dir import Parts
from minidist.training.checkpoint import Checkpoint, folder_of, settings_of
from minidist.training.event_log import EventLog
from minidist.training.output_folder import clear, goes_on, output_folder
from minidist.training.summary import summary_table
from minidist.training.trace_only import rehearse
from minidist.training.trainer import Trainer, describe
from rudder.cli.whole_file import require_writable, write_json
from rudder.prefetcher import Prefetcher
from rudder.presets import capacity_of, read_preset
from rudder.replay.trace import Trace

# Minibatches that sampling and fetching may each be in front of training.
_AHEAD = 2


def train_in_threads(config: RunConfig, quiet: bool = False) -> dict[str, Any]:
    """Train with all ranks as threads of this process; returns the summary."""
    ranks = config.ranks or 2
    # Their signals are the main thread's to note.
    saves = config.out is not None or config.resume is not None
    with termination_noted() if saves else nullcontext():
        return run_in_threads(
            lambda world: train(config, world, quiet), ranks, config.fetch_timeout
        )[0]


def train(config: RunConfig, world: World, quiet: bool = False) -> dict[str, Any]:
    """Train on this rank; every rank of the world must call it. Returns the summary.

    quiet: print no table. Raises ValueError on bad input, PeerTimeout when a rank stops answering,
    SystemExit (143) after a checkpoint where SIGTERM came.
    """
    if config.buffer_device == "cuda" and world.device.type != "cuda":
        raise ValueError(f"--buffer-device cuda: training runs on {world.device.type} here")
    if config.deterministic and world.device.type == "cuda":
        torch.use_deterministic_algorithms(True)
    resume = None if config.resume is None else Path(config.resume)
    if resume is not None:
        done = world.group.first(lambda: _finished(config, world, resume), "reading the run")
        if done is not None:
            if world.rank == 0 and not quiet:
                print(f"the run in {resume} is finished: {config.epochs} epochs; see its summary")
            return done
    out = Path(config.out) if config.out else resume and folder_of(resume)
    with ExitStack() as held:
        # Rank 0 finds out before the long work; its error is everybody's.
        world.group.first(lambda: _claim(config, out, held), "checking the outputs")
        parts, shards = _open_parts(config, world, out)
        if out is not None and not goes_on(out, resume):
            world.group.first(lambda: clear(out), "clearing the outputs")
        summary = _run(config, world, parts, shards, out)
        if world.rank == 0:
            _publish(config, summary, out, quiet)
    return summary


def _open_parts(config: RunConfig, world: World, out: Path | None) -> tuple[Parts, HostShards]:
    """The parts to train on, made where they are missing, and this host's maps of them."""
    with ExitStack() as made:
        home = out
        if home is None and config.parts is None and world.rank == 0:
            home = Path(made.enter_context(tempfile.TemporaryDirectory(prefix="minidist-")))
        path = world.group.first(lambda: _find_parts(config, world, home), "partitioning")
        parts = Parts.open(path)
        shards = HostShards.open(parts, world, config.topology)
        # Our maps outlive the files: what was made for this run alone can go now.
        world.group.barrier("mapping the parts")
    if world.rank == 0 and parts.seed != config.seed:
        print(f"{path} was made by {parts.method} with --seed {parts.seed}", file=sys.stderr)
    return parts, shards


def _run(
    config: RunConfig, world: World, parts: Parts, shards: HostShards, out: Path | None
) -> dict[str, Any]:
    """Train, or only sample and fetch, from the first minibatch to the summary."""
    with EventLog(out, world.rank) as events:
        loader = Loader.open(
            world,
            shards,
            fanouts=config.fanout,
            batch_size=config.batch_size,
            seed=config.seed,
            ahead=0 if config.prefetch == "none" else _AHEAD,
            wire_type=config.wire_dtype,
            sample_threads=config.sample_threads,
            features=config.features,
        )
        prefetcher = _prefetcher(config, world, parts, loader, events)
        with closing(prefetcher) if prefetcher else nullcontext():
            if config.trace_only:
                figures = rehearse(world, loader, prefetcher, config.epochs)
                summary = {**describe(parts, world), **figures, "config": asdict(config)}
            else:
                run = Trainer(config, world, parts, loader, prefetcher, out, events)
                summary = run.run()
            trace = prefetcher.finish() if prefetcher else None
            if config.compare and trace:
                summary["policies"] = _compare(world, trace)
    return summary


def _publish(config: RunConfig, summary: dict[str, Any], out: Path | None, quiet: bool) -> None:
    """Write and print what a finished run says of itself."""
    if config.json is not None:
        write_json(config.json, summary)
    if out is not None:
        write_json(out / "summary.json", summary)
        _write_page(out)
    if not quiet:
        print(f"\n{summary_table(summary)}", flush=True)


def _prefetcher(
    config: RunConfig, world: World, parts: Parts, loader: Loader, events: EventLog
) -> Prefetcher | None:
    """What the flags ask for between the loader and the owners of rows, in use."""
    preset, shares = read_preset(config), config.buffer_scope == "host"
    if not preset.has_buffer and not config.records and not shares:
        return None
    rows = capacity_of(config, preset, len(loader.shard.halo)) * world.local_size
    require_memory(rows * 4 * loader.shard.num_features, "--buffer")
    return steer(
        config,
        world,
        parts,
        loader,
        num_epochs=config.epochs,
        seed=config.seed,
        log=events.write,
        run={"dataset": parts.name, **asdict(config)},
    )


def _compare(world: World, trace: Trace) -> list[dict[str, Any]]:
    """What every policy would have moved for the minibatches of all ranks."""
    from minidist.report.policies import try_policies

    traces = world.group.all_gather(trace, "gathering the traces")
    return world.group.first(lambda: try_policies(traces), "comparing the policies")


def _finished(config: RunConfig, world: World, resume: Path) -> dict[str, Any] | None:
    """The summary of the run to continue, if it has all its epochs. Writes nothing.

    Raises ValueError where the run is not the one that the flags ask for.
    """
    folder = folder_of(resume)
    home = Path(config.out) if config.out else folder
    there = _parts_path(config, home).exists()
    parts = Parts.open(_find_parts(config, world, home)) if there else None
    saved = Checkpoint.load(resume, settings_of(config, world.size, parts), config.epochs)
    return saved.summary(folder, config.epochs)


def _claim(config: RunConfig, out: Path | None, held: ExitStack) -> None:
    """Hold the output folder, until ``held`` is left; see that the JSON file can be written."""
    try:
        if config.json is not None:
            require_writable(config.json)
    except OSError as error:
        raise ValueError(f"--json {config.json}: cannot be written: {error.strerror}") from None
    if out is not None:
        resume = None if config.resume is None else Path(config.resume)
        held.enter_context(output_folder(out, resume, config.overwrite))


def _parts_path(config: RunConfig, home: Path | None) -> Path:
    if config.parts:
        return Path(config.parts)
    assert home is not None
    return home / "parts"


def _find_parts(config: RunConfig, world: World, home: Path | None) -> Path:
    """The partition directory to train on, made now if there is none."""
    path = _parts_path(config, home)
    if not path.exists():
        _make_parts(config, world, path)
    parts = Parts.open(path)
    if parts.num_parts != world.size:
        raise ValueError(
            f"{path} has {parts.num_parts} parts, but {world.size} ranks are running: start "
            f"{parts.num_parts} ranks, or partition into {world.size}"
        )
    if config.dataset is not None:
        _check_source(config, parts)
    if config.method not in (None, parts.method):
        raise ValueError(
            f"--method {config.method}: {path} was made by {parts.method}; leave --method out, or "
            "give another --parts to have it made"
        )
    if config.halo_hops not in (None, parts.halo_hops):
        raise ValueError(f"--halo-hops {config.halo_hops}: {path} keeps {parts.halo_hops}")
    return path


def _make_parts(config: RunConfig, world: World, path: Path) -> None:
    """Partition the dataset that the flags ask for into as many parts as ranks."""
    if config.parts is not None and config.dataset is None:
        raise ValueError(
            f"--parts {config.parts}: there is no such directory: give the path of one, or "
            "--dataset to have it made there"
        )
    shared = all(world.transport.shares_host(peer) for peer in range(world.size))
    if config.parts is None and config.out is None and not shared:
        raise ValueError(
            "--parts: the ranks run on several hosts; name a partition directory on a file "
            "system that all of them see (it is made if it does not exist)"
        )
    # Most runs find their parts: those do not wait for METIS and the readers of datasets.
    from minidist.partition.partitioner import run as partition

    settings = PartitionConfig(
        dataset=config.dataset or "synthetic:small",
        data_root=config.data_root,
        parts=world.size,
        method=config.method or "metis",
        halo_hops=config.halo_hops or 0,
        seed=config.seed,
        out=str(path),
    )
    try:
        partition(settings)
    except ValueError:
        if not (path / META).is_file():  # else another job has made it meanwhile
            raise


def _check_source(config: RunConfig, parts: Parts) -> None:
    """Raise ValueError unless the directory holds the graph of ``--dataset``."""
    assert config.dataset is not None
    try:
        asked = source_of(config.dataset, config.seed)
    except OSError as error:
        raise ValueError(f"--dataset {config.dataset}: cannot be read: {error.strerror}") from None
    if not same_source(asked, parts.source):
        held = parts.source["dataset"]
        held += "" if parts.source["seed"] is None else f" of seed {parts.source['seed']}"
        why = ""
        if asked["dataset"] == parts.source["dataset"]:
            why = ", as it was" if asked["seed"] is None else f", not of seed {asked['seed']}"
        raise ValueError(
            f"--dataset {config.dataset}: {parts.path} holds {held}{why}: give another --parts or "
            "--out, or delete that directory to have it made anew"
        )


def _write_page(out: Path) -> None:
    """The report for people, beside the summary; a run that has ended well does not fail for it."""
    # What draws takes seconds to import, and only runs that leave a page need it.
    from minidist.report.page import write_report

    try:
        write_report([out], out / "report.html")
    except OSError as error:
        print(f"no report: {error}", file=sys.stderr, flush=True)
