"""Steps: what a buffer moved for each minibatch of one trainer, without any row.

It is ``rudder.replay`` minibatch by minibatch, which the time of a step depends on.

T minibatches.
"""

from dataclasses import dataclass

import numpy as np

from rudder.buffer.index import Ids
from rudder.config import SteerConfig
from rudder.planner import Counters
from rudder.presets import read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.grid import steering_of
from rudder.replay.play import play
from rudder.replay.trace import Trace


@dataclass(frozen=True, kw_only=True, eq=False)
class Steps:
    """One trainer under one setting.

    moved: int64 [T], rows moved for each minibatch: misses and rows for the buffer alone; those it
    starts with are the first minibatch's.   num_started: how many those were.
    asked: decisions that were taken.
    """

    moved: Ids
    num_started: int
    capacity: int
    counters: Counters
    asked: int

    @classmethod
    def of(cls, trace: Trace, config: SteerConfig, seed: int = 0) -> "Steps":
        """Play a trace under a setting; deciders are asked about every minibatch."""
        steering, deciding = steering_of(trace, config, seed=seed)
        moved = np.array([shown.moved for shown in play(steering, trace)], np.int64)
        num_started = steering.counters.moved - int(moved.sum())
        if num_started:
            moved[0] += num_started
        if deciding is not None:
            deciding.close()
        return cls(
            moved=moved,
            num_started=num_started,
            capacity=steering.facts.capacity,
            counters=steering.counters,
            asked=0 if deciding is None else deciding.ledger.tally.count,
        )


def label_of(config: SteerConfig) -> str:
    """``lookahead``, or ``rudder every:8`` with a decider."""
    preset = read_preset(config)
    return f"rudder {preset.decider}" if config.prefetch == "rudder" else config.prefetch


def bound_of(trace: Trace, capacity: int) -> int:
    """Belady's rows."""
    return belady_rows([trace.minibatch(t) for t in range(trace.num_minibatches)], capacity)
