"""Cells: the rows of an exhibit before they are measured, and the ways to measure one.

``replayed`` counts exactly what a run counts, in seconds, with every decision taken at once; a
``live`` run has real times and real asynchrony. Both are kept in the config's folder.
"""

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minidist
import rudder
from benchmarks.command import Row
from benchmarks.lab.hosts import Unavailable, hosts, missing
from benchmarks.paper.settings import PaperConfig, Variant
from benchmarks.runs import kept, parts_of, train
from benchmarks.traces import NUM_PARTS, RECIPES, dataset_of, record_as
from minidist.run_config import RunConfig
from rudder.agent.models import EMBEDDED
from rudder.config import SteerConfig
from rudder.observations import Snapshot
from rudder.replay.grid import row_of
from rudder.replay.play import play
from rudder.replay.runs import planner_of, replay
from rudder.replay.trace import Trace

Measure = Callable[[PaperConfig, "Cell"], Row]
TIMED = ("amazon_photo", "synthetic:small")  # graphs whose epochs stand beside MassiveGNN's
_DECIDED = ("pass_at_1", "valid_pct", "replace_pct", "interval", "latency_ms_p50", "count")


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One way to steer on one graph, with so many ranks and such a buffer.

    buffer: share of the halo rows.   how: measures it.   flags: of training, beside the variant's.
    """

    graph: str
    ranks: int
    buffer: float
    variant: Variant
    how: Measure
    flags: Mapping[str, Any] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        return int(self.flags.get("batch_size", RECIPES[self.graph].batch_size))

    @property
    def steer(self) -> dict[str, Any]:
        plain = self.variant.kind == "plain"
        return {**self.variant.steer, **({} if plain else {"buffer": self.buffer})}

    def measure(self, config: PaperConfig) -> Row:
        cell = {"graph": self.graph, "ranks": self.ranks, "buffer": self.buffer}
        cell |= {"batch": self.batch, "mode": self.flags.get("decider_mode", "async")}
        cell |= {"live": self.how is live, "variant": self.variant.name, "kind": self.variant.kind}
        return cell | self.how(config, self)


def grid(config: PaperConfig, some: Sequence[Variant], how: Measure, **flags: Any) -> list[Cell]:
    """A cell for each graph, number of ranks, buffer and variant."""
    every = itertools.product(str(config.graphs).split(","), config.ranks, config.buffer, some)
    return [
        Cell(graph=graph, ranks=ranks, buffer=buffer, variant=variant, how=how, flags=flags)
        for graph, ranks, buffer, variant in every
    ]


def again(*fields: str) -> Callable[[Measure], Measure]:
    """Used again while cell, these fields, models, machine and code are the same."""

    def keeping(how: Measure) -> Measure:
        @wraps(how)
        def measure(config: PaperConfig, cell: Cell) -> Row:
            named = {name: getattr(config, name) for name in fields}
            named |= {"how": how.__name__, "recipe": repr(RECIPES[cell.graph]), "ranks": cell.ranks}
            named |= {**cell.steer, **cell.flags, "graph": cell.graph, "model": _model(cell.steer)}
            asked = [named, missing(), _code()]
            return kept(Path(config.folder) / "kept", asked, lambda: how(config, cell))

        return measure

    return keeping


def _model(steer: Mapping[str, Any]) -> list[int]:
    """Size and time of the model that is read: another file is another run."""
    model = str(steer.get("agent_model"))
    file = EMBEDDED if model == "embedded" else Path(model)
    file = Path(steer["classifier_dir"]) / "meta.json" if "classifier_dir" in steer else file
    return [file.stat().st_size, file.stat().st_mtime_ns] if file.is_file() else []


@cache
def _code() -> str:
    """A hash of all that trains, steers and measures: what other code made is not used again."""
    packages = [Path(str(package.__file__)).parent for package in (minidist, rudder)]
    files = [Path(__file__), *(file for each in packages for file in sorted(each.rglob("*.py")))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _figures(moved: int, without: int, found: Mapping[str, Any]) -> Row:
    """What exhibits show of a run: rows in percent of those without a buffer; decisions."""
    decided = found.get("decisions") or {}
    row = {"moved_pct": 100.0 * moved / without if without else None}
    row["hits_pct"] = found.get("hits_pct", 0.0)  # no buffer, no hit
    row |= {name: decided.get(name) for name in _DECIDED}
    low, high = ends = [round(end, 1) for end in decided.get("pass_at_1_ci") or (0.0, 0.0)]
    return row | ({"pass_at_1_ci": ends, "ci_width": high - low} if high else {})


@again("epochs", "rate", "hidden")
def live(config: PaperConfig, cell: Cell) -> Row:
    """A training run.   epoch_s, train_s, wait_s: the median over epochs after the first.

    link: of each host, or why there is none. Raises ValueError with a failed run's last words.
    """
    recipe, parts = RECIPES[cell.graph], _parts(config, cell)
    rate, lacking = str(config.rate), missing()
    # About 100 minibatches a rank, whatever the number of ranks.
    epochs = config.epochs or max(recipe.epochs * cell.ranks // (4 * NUM_PARTS), 4)
    flags = {"batch_size": recipe.batch_size, "epochs": epochs, "hidden": config.hidden}
    flags |= {"eval_every": 0, **cell.steer, **cell.flags}
    if rate == "none" or lacking:
        why = "not asked for" if rate == "none" else f"needs {lacking}"
        link = f"none: all ranks on this host ({why})"
        run = train(parts, flags)
    else:
        link = rate
        try:
            with hosts(cell.ranks, rate) as up:
                run = train(parts, flags, up.mpiexec)
        except Unavailable as error:
            raise ValueError(f"--rate {rate}: {error}: give --rate none") from None
    rows, found = run["rows"], {**(run["buffer"] or {}), "decisions": run["decisions"]}
    row = _figures(rows["misses"] + rows["replacements"], rows["remote"], found)
    times = {"epoch_s": run["epoch_time_s"], "train_s": run["train_s"], "wait_s": run["wait_s"]}
    return row | times | {"link": link}


def _parts(config: PaperConfig, cell: Cell) -> Path:
    return parts_of(dataset_of(cell.graph), cell.ranks, Path(config.folder))


def record(config: PaperConfig, cell: Cell) -> list[Trace]:
    """All ranks' traces; recorded in the config's folder if they are not there yet."""
    folder, epochs = Path(config.folder), config.epochs or RECIPES[cell.graph].epochs
    parts = _parts(config, cell)
    run = RunConfig(parts=str(parts), batch_size=cell.batch, epochs=epochs, ranks=cell.ranks)
    return record_as(folder / f"{parts.name}-b{cell.batch}-e{epochs}", run, quiet=True)


@again("epochs")
def replayed(config: PaperConfig, cell: Cell) -> Row:
    setting, traces = SteerConfig(**cell.steer), record(config, cell)
    found = row_of(traces, setting, [replay(trace, setting) for trace in traces], belady=0)
    return _figures(found["rows_moved"], found["rows_none"], found)


def also_timed(config: PaperConfig, cell: Cell) -> Row:
    """Rows that are replayed; times of a live run where the graph is one of ``TIMED``."""
    run = live(config, cell) if cell.graph in TIMED else {}
    times = {name: run[name] for name in ("epoch_s", "wait_s", "link") if run}
    return replayed(config, cell) | times


def best_massivegnn(config: PaperConfig, cell: Cell) -> Row:
    """``also_timed`` with the parameters that move fewest rows."""
    tried = []
    for interval, decay in itertools.product((8, 16, 25, 32, 64), (0.95, 0.995)):
        steer = {**cell.variant.steer, "interval": interval, "score_decay": decay}
        tried.append(replace(cell, variant=Variant(f"{interval} {decay}", "heuristic", steer)))
    best = min(tried, key=lambda one: float(replayed(config, one)["moved_pct"]))
    return also_timed(config, best) | {"best": best.variant.name}


def _curve(values: Sequence[float] | NDArray[Any], most: int = 50) -> dict[str, list[float]]:
    """Means over at most ``most`` pieces of the minibatches, and where each piece is."""
    places, means = (
        [float(piece.mean()) for piece in np.array_split(each, min(most, len(values)))]
        for each in (np.arange(len(values)), np.asarray(values, np.float64))
    )
    return {"places": places, "values": means}


def _watched(trace: Trace, cell: Cell) -> tuple[list[Snapshot], NDArray[np.bool_]]:
    """The minibatches that a decider decided on, and whether it said to replace."""
    planner, deciding = planner_of(trace, SteerConfig(**cell.steer))
    assert deciding is not None, "a steered variant has a decider"
    seen, replacements = [], [0]
    for snapshot in play(planner, trace):
        seen.append(snapshot)
        replacements.append(deciding.ledger.tally.replace)
    deciding.close()
    # Each is decided on while the next is planned, and the last not at all.
    return seen[:-1], np.diff(replacements)[1:] > 0


@again("epochs")
def hits_curve(config: PaperConfig, cell: Cell) -> Row:
    """``replayed``, and %-Hits of each minibatch over all ranks."""
    seen = [_watched(trace, cell)[0] for trace in record(config, cell)]
    hits = np.sum([[one.hits for one in rank] for rank in seen], axis=0)
    remote = np.sum([[one.remote for one in rank] for rank in seen], axis=0)
    curve = _curve(100.0 * hits / np.maximum(remote, 1))
    return replayed(config, cell) | {"curves": {cell.variant.name: curve}}


@again("epochs")
def trajectory(config: PaperConfig, cell: Cell) -> Row:
    """What a decider saw and said on the first rank, minibatch by minibatch."""
    seen, replaced = _watched(record(config, cell)[0], cell)
    hits = [one.hits_pct for one in seen]
    early, _, _, late = (100 * float(part.mean()) for part in np.array_split(replaced, 4))
    tenths = [float(part.mean()) for part in np.array_split(hits, 10)]
    row: Row = {"replace_pct": 100 * float(replaced.mean()), "early_pct": early, "late_pct": late}
    row |= {"start_hits": tenths[0], "steady_hits": tenths[-1], "rise": tenths[-1] - tenths[0]}
    row |= {"later": late - early, "drift": tenths[-1] - tenths[-3]}
    row |= {name: sum(getattr(one, name) for one in seen) for name in ("moved", "replacement_rows")}
    said = [one.minibatch for one, word in zip(seen, replaced, strict=True) if word]
    return row | {"curves": {cell.variant.name: _curve(hits, most=100)}, "decisions": said}


@again("epochs")
def remote_nodes(config: PaperConfig, cell: Cell) -> Row:
    """Distinct remote nodes of each minibatch, and those new to its rank: means over ranks."""
    traces = record(config, cell)
    firsts = [np.unique(trace.ids, return_index=True)[1] for trace in traces]
    offsets = [trace.offsets for trace in traces]
    new = [np.histogram(*pair)[0] for pair in zip(firsts, offsets, strict=True)]
    row: Row = {"minibatches": traces[0].num_minibatches, "curves": {}}
    for name, label, counts in (
        ("distinct", "of each minibatch", [np.diff(each) for each in offsets]),
        ("new", "not sampled before", new),
    ):
        means = np.mean(counts, axis=0)
        first, _, _, last = (float(part.mean()) for part in np.array_split(means, 4))
        change = 100 * (last / max(first, 1e-9) - 1)
        row |= {f"{name}_first": first, f"{name}_last": last, f"{name}_change": change}
        row["curves"][label] = _curve(means)
    return row
