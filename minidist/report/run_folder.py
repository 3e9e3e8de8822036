"""A run's folder, read so strictly that a report shows what the run wrote and nothing else.

    DIR/summary.json           what the run said at its end
        events-rank<r>.jsonl   what each rank wrote on the way, one JSON object a line

In a folder that was used again the last run counts, with what it resumed from before it. Lines that
cannot be read are counted and left out; the last line of a killed run may be one. A run that did
not finish has no summary, or an earlier run's: its figures come from the events.
"""

import itertools
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rudder.deciders.judge import Tally, decisions
from rudder.presets import PLAIN, SELF_STEERED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
RecordT = TypeVar("RecordT")
_COUNTS = ("remote", "hits", "misses", "replacements")
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
# What a page computes with, of what kind it is.
_CONFIG: dict[type, tuple[str, ...]] = {
    int: ("epochs", "ranks"),
    list: ("fanout",),
    str: ("prefetch", "dataset", "parts"),
}
_SUMMARY: dict[type, tuple[str, ...]] = {
    int: ("num_nodes", "num_edges", "world_size", "steps_per_epoch", "batch_size"),
    str: ("dataset", "transport", "device", "metric"),
    dict: ("rows", "buffer", "decisions", "config"),
    list: ("policies",),
}
_ASKED: dict[type, tuple[str, ...]] = {
    list: ("pass_at_1_ci",),
    dict: ("failure_reasons",),
    str: ("decider",),
}


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one epoch. wait_s: the loop waiting for sample and fetch, which may overlap it."""

    epoch_time_s: float
    sample_s: float
    fetch_s: float
    wait_s: float
    train_s: float


@dataclass(frozen=True, kw_only=True)
class Score:
    """An evaluation after an epoch, which counts from 0. Shares; NaN of a split without nodes."""

    epoch: int
    metric: str
    train: float
    val: float
    test: float


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision, what it expected and what happened.

    minibatch: it was taken on this one.   expect_hits, expect_moved, hits, moved: increase,
    decrease or stagnant; None where the decider stated nothing.
    """

    rank: int
    minibatch: int
    applied: int
    replace: bool
    valid: bool
    reason: str
    expect_hits: str | None
    expect_moved: str | None
    hits: str
    moved: str
    hits_pct_before: float
    hits_pct_after: float
    moved_before: int
    moved_after: int
    passed: bool

    @property
    def expected(self) -> str:
        """The direction of %-Hits that it stated, or what it implies where it stated none."""
        return self.expect_hits or ("increase" if self.replace else "stagnant")


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """What a language model was shown and what it said; thought: before that, if it may think."""

    rank: int
    minibatch: int
    prompt: str
    answer: str
    thought: str
    decided_ms: float
    answered_ms: float


def _real(value: Any) -> float:
    """JSON has null for NaN. Raises ValueError for what is infinite."""
    number = math.nan if value is None else float(value)
    if math.isinf(number):
        raise ValueError(f"{value}: expected a number or null")
    return number


def _whole(value: Any) -> int:
    """Raises ValueError for what no run counts."""
    if not 0 <= int(value) < 1 << 31:
        raise ValueError(f"{value}: expected 0 to 2^31 - 1")
    return int(value)


_READ: dict[Any, Callable[[Any], Any]] = {bool: bool, int: _whole, str: str, float: _real}
_READ[str | None] = lambda value: None if value is None else str(value)


def _record(kind: type[RecordT], event: dict[str, Any]) -> RecordT:
    """An event as a dataclass. Raises KeyError, TypeError or ValueError where it is none."""
    known = fields(kind)  # type: ignore[arg-type]
    return kind(**{each.name: _READ[each.type](event[each.name]) for each in known})


@dataclass(kw_only=True)
class RankLog:
    """One rank's events. steps: loss and rows by (epoch, step).   epochs, scores: by epoch.

    config: of the run, None where it never started training.   error: why it ended, if it failed.
    decisions, latencies (ms until decided, until answered): by the minibatch they were taken on.
    broken: lines that could not be read.
    """

    rank: int
    broken: int = 0
    config: dict[str, Any] | None = None
    finished: bool = False
    error: str | None = None
    steps: dict[tuple[int, int], tuple[float, list[int]]] = field(default_factory=dict)
    epochs: dict[int, Times] = field(default_factory=dict)
    scores: dict[int, Score] = field(default_factory=dict)
    decisions: dict[int, Decided] = field(default_factory=dict)
    latencies: dict[int, tuple[float, float]] = field(default_factory=dict)
    exchange: Exchange | None = None
    failures: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, rank: int) -> "RankLog":
        """Read a rank's file. Raises ValueError where there is no reading it."""
        log = cls(rank=rank)
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    try:
                        log._add(json.loads(line))
                    except _UNREADABLE:
                        log.broken += 1
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
        return log

    def _add(self, event: dict[str, Any]) -> None:
        match event["event"]:
            case "started":
                config = dict(event["config"])
                _check("started", config, _CONFIG)
                if config.get("resume") is None:
                    # The folder's earlier run was another one.
                    self.__init__(rank=self.rank, broken=self.broken)  # type: ignore[misc]
                self.config, self.finished, self.error = config, False, None
            case "step":
                counts = [_whole(event["rows"][name]) for name in _COUNTS]
                moment = _whole(event["epoch"]), _whole(event["step"])
                self.steps[moment] = _real(event["loss"]), counts
            case "epoch":
                self.epochs[_whole(event["epoch"])] = _record(Times, event)
            case "evaluated":
                self.scores[_whole(event["epoch"])] = _record(Score, event)
            case "decision":
                made = _record(Decided, {**event, "rank": self.rank})
                self.decisions[made.minibatch] = made
            case "exchange":
                said = _record(Exchange, {"thought": "", **event, "rank": self.rank})
                self.exchange = said
                self.latencies[said.minibatch] = said.decided_ms, said.answered_ms
            case "decider failed":
                self.failures.append(str(event["error"]))
            case "finished":
                self.finished = True
            case "failed":
                self.error = str(event["error"])


@dataclass(frozen=True, kw_only=True, eq=False)
class Minibatches:
    """What all ranks of a run needed and moved for each of T minibatches, in order.

    number: [T], epoch x minibatches of an epoch + step.   loss: [T].   rows: as a summary's, [T].
    """

    number: Ints
    loss: Floats
    rows: dict[str, Ints]

    @classmethod
    def of(cls, logs: Sequence[RankLog], per_epoch: int) -> "Minibatches":
        """Those that every rank wrote down, rows added up over the ranks."""
        moments = _common([log.steps for log in logs])
        counts = [[log.steps[moment][1] for moment in moments] for log in logs]
        table = np.array(counts, np.int64).reshape(len(logs), len(moments), len(_COUNTS)).sum(0)
        return cls(
            number=np.array([epoch * per_epoch + step for epoch, step in moments], np.int64),
            loss=np.array([logs[0].steps[moment][0] for moment in moments], np.float64),
            rows={name: table[:, column] for column, name in enumerate(_COUNTS)},
        )

    @property
    def hits_pct(self) -> Floats:
        """%-Hits of each minibatch, NaN where it needed no remote row."""
        remote = self.rows["remote"]
        return np.where(remote > 0, 100.0 * self.rows["hits"] / np.maximum(remote, 1), np.nan)

    @property
    def late_hits_pct(self) -> float:
        """Mean of those of the last quarter."""
        late = self.hits_pct[-max(len(self.number) // 4, 1) :]
        return float(np.nanmean(late)) if np.isfinite(late).any() else math.nan


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """One run. summary: its own, or what its events say where it did not finish."""

    name: str
    finished: bool
    summary: dict[str, Any]
    config: dict[str, Any]
    logs: list[RankLog]

    @property
    def prefetch(self) -> str:
        """The preset, ``unknown`` where the run left no settings."""
        return str(self.config.get("prefetch", "unknown"))

    @property
    def kind(self) -> str:
        """The preset without its argument."""
        return self.prefetch.partition(":")[0]

    @property
    def decider(self) -> str | None:
        """Who decides, where anyone is asked."""
        asked = self.summary.get("decisions")
        return str(asked.get("decider")) if asked else None

    @property
    def has_buffer(self) -> bool:
        return self.kind not in PLAIN

    @property
    def steers_itself(self) -> bool:
        return self.kind in SELF_STEERED

    @property
    def rows(self) -> dict[str, int]:
        """remote, hits, misses, replacements over the run."""
        return {key: int(self.summary["rows"].get(key) or 0) for key in _COUNTS}

    @property
    def moved(self) -> int:
        """Rows that crossed between partitions."""
        return self.rows["misses"] + self.rows["replacements"]

    @property
    def moved_pct(self) -> float | None:
        """Those as a share of what no buffer would have moved."""
        return 100.0 * self.moved / self.rows["remote"] if self.rows["remote"] else None

    @property
    def hits_pct(self) -> float | None:
        return 100.0 * self.rows["hits"] / self.rows["remote"] if self.rows["remote"] else None

    def figure(self, name: str, part: str | None = None) -> float | None:
        """A number of the summary, or of a part of it; None where it has none."""
        values = self.summary if part is None else self.summary.get(part) or {}
        value = values.get(name)
        return float(value) if isinstance(value, int | float) and math.isfinite(value) else None

    @cached_property
    def minibatches(self) -> Minibatches:
        per_epoch = self.summary.get("steps_per_epoch") or _per_epoch(self.logs)
        return Minibatches.of(self.logs, per_epoch)

    @cached_property
    def times(self) -> dict[int, Times]:
        """By epoch, of the rank whose epoch took longest."""
        return {
            epoch: max((log.epochs[epoch] for log in self.logs), key=lambda each: each.epoch_time_s)
            for epoch in _common([log.epochs for log in self.logs])
        }

    @property
    def scores(self) -> list[Score]:
        """Every evaluation, in order."""
        return [score for _, score in sorted(self.logs[0].scores.items())] if self.logs else []

    @cached_property
    def decisions(self) -> list[Decided]:
        """Of all ranks, in order."""
        made = [decision for log in self.logs for decision in log.decisions.values()]
        return sorted(made, key=lambda decision: (decision.minibatch, decision.rank))


def read_run(folder: Path) -> Run:
    """Read a run folder. Raises ValueError where there is no run in it, or none can be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder}: no such folder; name one that minidist.train --out wrote")
    summary = _read_summary(folder / "summary.json")
    paths = {
        int(digits): path
        for path in folder.glob("events-rank*.jsonl")
        if (digits := path.stem.removeprefix("events-rank")).isdigit()
    }
    if summary is None and not paths:
        raise ValueError(
            f"{folder}: no run there, neither summary.json nor events-rank*.jsonl; "
            f"`python -m minidist.train --out {folder}` makes one"
        )
    logs = [RankLog.read(paths[rank], rank) for rank in sorted(paths)]
    begun = [log for log in logs if log.config is not None]
    # Rank 0 writes the summary, when all ranks are done; their last words may come after it.
    finished = summary is not None and all(log.finished for log in begun[:1])
    config = (begun[0].config or {}) if begun and not finished else {}
    config = config or (summary or {}).get("config") or {}
    if summary is None or not finished:
        summary = _summary_so_far(logs, config)
    name = folder.resolve().name
    return Run(name=name, finished=finished, summary=summary, config=config, logs=logs)


def _read_summary(path: Path) -> dict[str, Any] | None:
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as a run's summary: {error}") from None
    if not isinstance(summary, dict) or not isinstance(summary.get("rows"), dict):
        raise ValueError(f"{path}: not the summary of a minidist.train run")
    _check(path, summary, _SUMMARY)
    _check(path, summary["rows"], {int: _COUNTS})
    _check(path, summary.get("config") or {}, _CONFIG)
    _check(path, summary.get("decisions") or {}, _ASKED)
    buffer, asked = summary.get("buffer") or {}, summary.get("decisions") or {}
    _check(path, buffer, {list: ("capacity",), float: ("halo_hits_pct",)})
    capacity = dict(enumerate(buffer.get("capacity") or []))
    _check(path, capacity, {int: capacity})
    ends = asked.get("pass_at_1_ci") or [0.0, 0.0]
    if len(ends) != 2:
        raise ValueError(f"{path}: pass_at_1_ci has {len(ends)} ends, expected 2")
    _check(path, dict(enumerate(ends)), {float: range(2)})
    return {key: value for key, value in summary.items() if value is not None}


def _check(where: object, values: Mapping[Any, Any], kinds: Mapping[type, Iterable[Any]]) -> None:
    """Raise ValueError where a value that is not null is of another kind."""
    for kind, names in kinds.items():
        for name in values.keys() & {*names}:
            value = values[name]
            good = isinstance(value, int | float if kind is float else kind)
            if good and kind in (int, float):
                good = not isinstance(value, bool) and 0 <= value < 2**53
            if value is not None and not good:
                raise ValueError(
                    f"{where}: {name} is {str(value)[:40]!r}, expected {kind.__name__}; "
                    "the file is not as minidist.train left it"
                )


def _summary_so_far(logs: list[RankLog], config: dict[str, Any]) -> dict[str, Any]:
    """What a summary would have said after the last minibatch that every rank wrote down."""
    per_epoch = _per_epoch(logs)
    rows = Minibatches.of(logs, per_epoch).rows
    dataset = str(config.get("dataset") or config.get("parts") or "unknown dataset")
    summary = {
        # An archive's graph is called by the name of its file.
        "dataset": Path(dataset).stem if dataset.startswith("npz:") else dataset,
        "world_size": config.get("ranks") or len(logs),
        "transport": config.get("transport", "unknown"),
        "steps_per_epoch": per_epoch,
        "rows": {name: int(counts.sum()) for name, counts in rows.items()},
        "decisions": _decisions_so_far(logs, config),
    }
    epochs = _common([log.epochs for log in logs])
    for name in (each.name for each in fields(Times) if epochs):
        # As in a summary: medians over the epochs after the first, of the slowest rank.
        slowest = [max(getattr(log.epochs[epoch], name) for log in logs) for epoch in epochs]
        summary[name] = statistics.median(slowest[1:] or slowest)
    scores = list(logs[0].scores.values()) if logs else []
    if scores:
        best = max(reversed(scores), key=lambda score: -1.0 if math.isnan(score.val) else score.val)
        summary |= {"metric": best.metric, "best_epoch": best.epoch + 1}
        summary |= {f"{split}_accuracy": getattr(best, split) for split in ("train", "val", "test")}
    return summary


def _decisions_so_far(logs: list[RankLog], config: dict[str, Any]) -> dict[str, Any] | None:
    if not any(log.decisions for log in logs):
        return None
    tally, failures = Tally(), Counter[str]()
    for log in logs:
        made = [log.decisions[number] for number in sorted(log.decisions)]
        counts = ("valid", "replace", "passed")
        tally += Tally(
            **{name: sum(getattr(decision, name) for decision in made) for name in counts},
            count=len(made),
            judged=len(made),
            gaps=[after.applied - before.applied for before, after in itertools.pairwise(made)],
            decided_ms=[decided for decided, _ in log.latencies.values()],
            answered_ms=[answered for _, answered in log.latencies.values()],
        )
        failures.update(log.failures)
    preset = {"fixed": "always", "massivegnn": f"every:{config.get('interval')}", "rudder": "llm"}
    name = config.get("decider") or preset.get(str(config.get("prefetch")), "unknown")
    return decisions(str(name), tally, failures)


def _common(logs: Sequence[Mapping[Any, Any]]) -> list[Any]:
    """What all ranks wrote down: their common keys, in order."""
    return sorted(set.intersection(*map(set, logs))) if logs else []


def _per_epoch(logs: Sequence[RankLog]) -> int:
    """Minibatches of an epoch, as far as they were written down."""
    return max((step + 1 for log in logs for _, step in log.steps), default=1)
