"""RunLog: what one rank wrote down while it ran (``events-rank<r>.jsonl``, one object a line).

A folder that was used again holds several runs one after the other: the last counts, with what it
resumed from before it. Lines that cannot be read are counted and left out; the last line of a run
that was killed may be one.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Event = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One minibatch of one rank. Rows as in a summary's ``rows``."""

    loss: float
    remote: int
    hits: int
    misses: int
    replacements: int


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of one epoch. wait_s: the loop waiting for sample and fetch, which may overlap it."""

    epoch_time_s: float
    sample_s: float
    fetch_s: float
    wait_s: float
    train_s: float


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


@dataclass(kw_only=True)
class RunLog:
    """One rank's events. steps: by (epoch, step).   epochs, scores: by epoch.

    decisions, latencies (ms until decided, until answered): by the minibatch they were taken on.
    config: of the run, None where it never started training.   error: why it ended, if it failed.
    """

    rank: int
    config: dict[str, Any] | None = None
    finished: bool = False
    error: str | None = None
    broken: int = 0
    steps: dict[tuple[int, int], Step] = field(default_factory=dict)
    epochs: dict[int, Times] = field(default_factory=dict)
    scores: dict[int, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[int, Decided] = field(default_factory=dict)
    latencies: dict[int, tuple[float, float]] = field(default_factory=dict)
    exchange: Exchange | None = None
    failures: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, rank: int) -> "RunLog":
        """Read a rank's file. Raises ValueError where there is no reading it."""
        log = cls(rank=rank)
        handlers: dict[str, Callable[[Event], None]] = {
            "started": log._start,
            "step": log._add_step,
            "epoch": log._add_epoch,
            "evaluated": log._add_scores,
            "decision": log._add_decision,
            "exchange": log._add_exchange,
            "decider failed": log._add_failure,
            "finished": log._finish,
            "failed": log._fail,
        }
        try:
            with path.open(encoding="utf-8", errors="replace") as lines:
                for line in lines:
                    log._take(line, handlers)
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
        return log

    def _take(self, line: str, handlers: dict[str, Callable[[Event], None]]) -> None:
        try:
            event = json.loads(line)
            handler = handlers.get(event["event"])
            if handler is not None:
                handler(event)
        except (ValueError, KeyError, TypeError, AttributeError):
            self.broken += 1

    def _start(self, event: Event) -> None:
        config = dict(event["config"])
        if config.get("resume") is None:
            # The folder's earlier run was another one.
            self.__init__(rank=self.rank, broken=self.broken)  # type: ignore[misc]
        self.config, self.finished, self.error = config, False, None

    def _add_step(self, event: Event) -> None:
        rows = event["rows"]
        names = ("remote", "hits", "misses", "replacements")
        counts = {name: int(rows[name]) for name in names}
        self.steps[int(event["epoch"]), int(event["step"])] = Step(
            loss=float(event["loss"]), **counts
        )

    def _add_epoch(self, event: Event) -> None:
        names = ("epoch_time_s", "sample_s", "fetch_s", "wait_s", "train_s")
        self.epochs[int(event["epoch"])] = Times(**{name: float(event[name]) for name in names})

    def _add_scores(self, event: Event) -> None:
        shares = {name: float(event[name]) for name in ("train", "val", "test")}
        self.scores[int(event["epoch"])] = {
            "epoch": int(event["epoch"]),
            "metric": str(event["metric"]),
            **shares,
        }

    def _add_decision(self, event: Event) -> None:
        expected = {
            name: None if event[name] is None else str(event[name])
            for name in ("expect_hits", "expect_moved")
        }
        self.decisions[int(event["minibatch"])] = Decided(
            rank=self.rank,
            minibatch=int(event["minibatch"]),
            applied=int(event["applied"]),
            replace=bool(event["replace"]),
            valid=bool(event["valid"]),
            reason=str(event["reason"]),
            hits=str(event["hits"]),
            moved=str(event["moved"]),
            hits_pct_before=float(event["hits_pct_before"]),
            hits_pct_after=float(event["hits_pct_after"]),
            moved_before=int(event["moved_before"]),
            moved_after=int(event["moved_after"]),
            passed=bool(event["passed"]),
            **expected,
        )

    def _add_exchange(self, event: Event) -> None:
        minibatch = int(event["minibatch"])
        latency = float(event["decided_ms"]), float(event["answered_ms"])
        self.exchange = Exchange(
            rank=self.rank,
            minibatch=minibatch,
            prompt=str(event["prompt"]),
            answer=str(event["answer"]),
            thought=str(event.get("thought", "")),
            decided_ms=latency[0],
            answered_ms=latency[1],
        )
        self.latencies[minibatch] = latency

    def _add_failure(self, event: Event) -> None:
        self.failures.append(str(event["error"]))

    def _finish(self, event: Event) -> None:
        self.finished = True

    def _fail(self, event: Event) -> None:
        self.error = str(event["error"])
