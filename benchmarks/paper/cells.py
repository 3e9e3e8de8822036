"""Cells: one way to steer on one graph, with so many ranks and such a buffer; replayed or live.

A replay counts exactly what a run counts, in seconds, with every decision taken at once. A live run
is a real training run, its ranks on hosts of their own with links of ``--rate`` where this machine
can make them (see ``benchmarks.lab.hosts``), so that its times and its asynchrony are real.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import minidist
import rudder
from benchmarks import traces
from benchmarks.lab.hosts import HostsError, hosts, missing
from benchmarks.paper.settings import PaperConfig, Variant
from benchmarks.runs import parts_of, train
from benchmarks.traces import NUM_PARTS, RECIPES
from minidist.train import RunConfig, train_in_threads
from rudder.agent.models import EMBEDDED
from rudder.config import SteerConfig
from rudder.deciders.base import Act, Decider
from rudder.presets import capacity_of, make_decider, read_preset
from rudder.replay import replay, row_of
from rudder.snapshot import Context, Decision, Snapshot
from rudder.trace import Trace, read_traces

Row = dict[str, Any]
Floats = NDArray[np.float64]
CellT = TypeVar("CellT")
# Of a decider's figures, those that rows carry.
_DECIDED = (
    *("pass_at_1", "pass_at_1_ci", "valid_pct", "replace_pct", "interval"),
    *("latency_ms_p50", "count"),
)


def progress(cells: Sequence[CellT], name: str) -> Iterable[CellT]:
    """The cells one by one, beside a progress bar."""
    bar: Iterable[CellT] = tqdm(cells, desc=name, unit="cell", disable=None, leave=False)
    return bar


def record(
    config: PaperConfig, graph: str, ranks: int, batch_size: int | None = None
) -> list[Trace]:
    """All ranks' traces of a graph; recorded in the config's folder if they are not there yet."""
    recipe, folder = RECIPES[graph], Path(config.folder)
    if (ranks, batch_size, config.epochs) == (NUM_PARTS, None, None):
        return traces.record(graph, folder)
    batch_size, epochs = batch_size or recipe.batch_size, config.epochs or recipe.epochs
    path = folder / f"{graph.replace(':', '-')}-p{ranks}-b{batch_size}-e{epochs}"
    if not path.exists():
        parts = parts_of(graph, ranks, folder)
        train_in_threads(
            RunConfig(
                parts=str(parts),
                batch_size=batch_size,
                epochs=epochs,
                ranks=ranks,
                transport="local",
                prefetch="overlap",
                trace_only=True,
                trace=str(path),
            ),
            quiet=True,
        )
    return read_traces(path)


class Watched(Decider):
    """A decider beside a note of what it saw and said.

    snapshots: those it decided on; replaced: what it said of each.
    """

    def __init__(self, inner: Decider) -> None:
        self.name, self.slow, self.looks_ahead = inner.name, inner.slow, inner.looks_ahead
        self._inner = inner
        self.snapshots: list[Snapshot] = []
        self.replaced: list[bool] = []

    def decide(self, context: Context, act: Act) -> Decision:
        decision = self._inner.decide(context, act)
        self.snapshots.append(context.latest)
        self.replaced.append(decision.replace)
        return decision

    def close(self) -> None:
        self._inner.close()


def setting_of(variant: Variant, buffer: float) -> SteerConfig:
    """How ``rudder`` is told of a variant."""
    steer: dict[str, Any] = {**variant.steer}
    return SteerConfig(**steer, buffer=buffer)


def _base(graph: str, ranks: int, buffer: float, variant: Variant) -> Row:
    return {
        "graph": graph,
        "ranks": ranks,
        "buffer": buffer,
        "variant": variant.name,
        "kind": variant.kind,
    }


def absent(variants: Sequence[Variant]) -> list[Row]:
    """One row for each variant that cannot run here, which says why in ``missing``."""
    return [
        {"graph": "-", "variant": one.name, "kind": one.kind, "missing": one.missing}
        for one in variants
        if one.missing
    ]


def replayed(
    config: PaperConfig, recorded: Sequence[Trace], graph: str, variant: Variant, buffer: float
) -> Row:
    """A variant on recorded minibatches: rows in percent of no buffer's, %-Hits, decisions.

    What came of it is kept in the config's folder, as with ``live``.
    """
    setting = setting_of(variant, buffer)
    lengths = [[trace.num_minibatches, len(trace.ids)] for trace in recorded]
    named = {"trace": recorded[0].name, "lengths": lengths, "buffer": buffer, **variant.steer}

    def play_all() -> dict[str, Any]:
        return row_of(recorded, setting, [replay(trace, setting) for trace in recorded], belady=0)

    found = _kept(config, named, play_all)
    base = _base(graph, len(recorded), buffer, variant)
    return base | _figures(found["rows_moved"], found["rows_none"], found)


def watched(trace: Trace, variant: Variant, buffer: float) -> Watched:
    """What the decider of a steered variant saw and said, minibatch by minibatch, on one rank."""
    setting = setting_of(variant, buffer)
    preset = read_preset(setting)
    facts = replace(trace.facts, capacity=capacity_of(setting, preset, trace.facts.halo_rows))
    decider = Watched(make_decider(setting, preset, facts, 0, lambda _: None))
    replay(trace, setting, decider)
    return decider


def live(
    config: PaperConfig,
    graph: str,
    ranks: int,
    variant: Variant,
    buffer: float,
    flags: Mapping[str, object] | None = None,
) -> Row:
    """A training run: the figures of ``replayed``, and its times.

    flags: of training, beside the variant's.   epoch_s, train_s, wait_s: seconds, the median over
    epochs after the first.   link: of each host, or why there is none.
    The run is kept in the config's folder, and used again where settings, models and code are the
    same. Raises ValueError with the run's last words where it fails.
    """
    base = _base(graph, ranks, buffer, variant)
    recipe = RECIPES[graph]
    settings: dict[str, object] = {
        "batch_size": recipe.batch_size,
        # About 100 minibatches a rank, whatever the number of ranks.
        "epochs": config.epochs or max(recipe.epochs * ranks // (4 * NUM_PARTS), 4),
        "hidden": config.hidden,
        "eval_every": 0,
        **({"buffer": buffer} if variant.kind != "plain" else {}),
        **variant.steer,
        **(flags or {}),
    }
    named = {"graph": graph, "ranks": ranks, "rate": config.rate, **settings}

    def run() -> dict[str, Any]:
        parts = parts_of(graph, ranks, Path(config.folder))
        with _links(config.rate, ranks) as (launcher, link):
            return {**train(parts, settings, launcher), "link": link}

    summary = _kept(config, named, run)
    rows = summary["rows"]
    figures = {**(summary["buffer"] or {}), "decisions": summary["decisions"]}
    times = {
        name.replace("epoch_time_s", "epoch_s"): summary[name]
        for name in ("epoch_time_s", "train_s", "wait_s")
    }
    moved = rows["misses"] + rows["replacements"]
    return base | _figures(moved, rows["remote"], figures) | times | {"link": summary["link"]}


def _figures(moved: int, without: int, found: Mapping[str, Any]) -> Row:
    decided = found.get("decisions") or {}
    return {
        "moved_pct": 100.0 * moved / without if without else None,
        # Without a buffer, none.
        "hits_pct": found.get("hits_pct", 0.0),
        **{name: decided.get(name) for name in _DECIDED},
    }


def _kept(
    config: PaperConfig, named: Mapping[str, object], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """What was made before under these settings and by this code; made now if it was not."""
    words = json.dumps([named, _files(named), _code()], sort_keys=True)
    name = hashlib.sha256(words.encode()).hexdigest()[:20]
    file = Path(config.folder) / "kept" / f"{name}.json"
    if file.is_file():
        kept: dict[str, Any] = json.loads(file.read_text())["figures"]
        return kept
    made = make()
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps({"settings": named, "figures": made}, indent=1) + "\n")
    os.replace(partial, file)
    return made


def _files(named: Mapping[str, object]) -> list[tuple[str, int, int]]:
    """Size and time of the models that are read: another file is another run."""
    paths = []
    if named.get("decider") == "llm":
        model = str(named["agent_model"])
        paths.append(EMBEDDED if model == "embedded" else Path(model))
    elif "classifier_dir" in named:
        paths.append(Path(str(named["classifier_dir"])) / "meta.json")
    known = [(path, path.stat()) for path in paths if path.is_file()]
    return [(str(path), stat.st_size, stat.st_mtime_ns) for path, stat in known]


@cache
def _code() -> str:
    """A hash of all that trains and steers: what other code made is not used again."""
    digest = hashlib.sha256()
    for package in (minidist, rudder):
        for file in sorted(Path(str(package.__file__)).parent.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


@contextmanager
def _links(rate: str, ranks: int) -> Iterator[tuple[list[str], str]]:
    """Words that start ranks on hosts of their own, and the rate of each one's link."""
    lacking = missing()
    if rate == "none" or lacking:
        why = f"needs {lacking}" if lacking and rate != "none" else "not asked for"
        yield [], f"none: all ranks on this host ({why})"
        return
    try:
        with hosts(ranks, rate) as up:
            yield up.mpiexec, rate
    except HostsError as error:
        raise ValueError(f"--rate {rate}: {error}: give --rate none") from None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A figure over minibatches, in pieces: where each piece ends on average, and its mean."""

    places: list[float]
    values: list[float]


def curve(values: Sequence[float] | Floats, most: int = 50) -> Curve:
    """Means over at most ``most`` pieces of equal length."""
    pieces = np.array_split(np.arange(len(values)), min(most, len(values)))
    array = np.asarray(values, np.float64)
    return Curve(
        places=[float(piece.mean()) for piece in pieces],
        values=[float(array[piece].mean()) for piece in pieces],
    )
