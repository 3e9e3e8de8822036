"""What planner costs training: a nonstop decider beside a step, and the prefetch thread's work.

    python -m benchmarks.overlap
    python -m benchmarks.overlap --agent-model model.gguf

1. Steps of GraphSAGE (1000 seeds, fanout 10,25, 100 features, hidden 64, one thread), in turns of
   some with nothing beside them, some with a decider that thinks without a pause in a thread of its
   own, and some with another process that counts: what a busy neighbour core costs on this machine
   in any case. Ratios of the medians.
2. The prefetch thread's own cost per minibatch as a share of the time that gathering the same
   remote rows takes, by policy, on a trace of the same graph: 4 parts, 25% buffer. Rows are cold
   in both: they lie in a table larger than any cache. look_up; scores (what the policy notes, and
   foresees); proposal; swap, in the book and of the rows themselves. ``share`` is that of these
   four together, and ``book`` what is beside them: snapshots, the decider and its ledger. ``touch``
   is what no look-up with scores can go below: one read and one addition of four bytes, by id.
"""

import itertools
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numba import njit
from tqdm import tqdm

from benchmarks.powerlaw import benchmark_step
from benchmarks.traces import record
from minidist.store.row_copy import copy_rows
from minidist.training.models import loss_sum
from rudder.buffer.rows import HostRows
from rudder.cli.flags import fail, flag, parse
from rudder.cli.table import render
from rudder.cli.whole_file import write_json
from rudder.config import SteerConfig
from rudder.deciders.base import Decider
from rudder.observations import Context
from rudder.presets import make_decider, read_preset
from rudder.replay.grid import planner_of
from rudder.replay.play import play
from rudder.replay.trace import Trace

POLICIES = ("fixed", "massivegnn", "vip", "lru", "lfu", "lookahead")


@dataclass(frozen=True, kw_only=True)
class OverlapConfig:
    """Settings of ``python -m benchmarks.overlap``."""

    folder: str = flag("traces", "where traces are kept; recorded there where missing")
    agent_model: str = flag("embedded", "the model that thinks beside the steps")
    width: int = flag(100, "features of a row: 100 as ogbn-products, 602 as reddit")
    turns: int = flag(30, "turns of steps with and without a decider")
    steps: int = flag(15, "steps in a turn")
    json: str | None = flag(None, "also write the figures to this file")


@contextmanager
def thinking(
    decider: Decider, contexts: Sequence[Context], stop: threading.Event
) -> Iterator[list[float]]:
    """Decide without a pause in a thread, each time on the next context, from the first on again
    after the last; yields the seconds of each decision."""
    seconds: list[float] = []

    def think() -> None:
        for context in itertools.cycle(contexts):
            if stop.is_set():
                return
            began = time.perf_counter()
            decider.decide(context, lambda replace: None)
            seconds.append(time.perf_counter() - began)

    thread = threading.Thread(target=think)
    thread.start()
    try:
        yield seconds
    finally:
        stop.set()
        thread.join()


@contextmanager
def counting() -> Iterator[None]:
    """Another process counts meanwhile."""
    with subprocess.Popen([sys.executable, "-c", "n = 0\nwhile True: n += 1"]) as process:
        try:
            yield
        finally:
            process.kill()


def step_beside(config: OverlapConfig, trace: Trace) -> dict[str, float]:
    """Median step time alone, beside a nonstop decider, and beside a busy process."""
    torch.set_num_threads(1)
    batch, model = benchmark_step()

    def step() -> float:
        began = time.perf_counter()
        loss_sum(model.forward(batch), batch.y).backward()  # type: ignore[no-untyped-call]
        return time.perf_counter() - began

    setting = SteerConfig(prefetch="rudder", agent_model=config.agent_model)
    planner, deciding = planner_of(trace, replace(setting, decider="always"))
    assert deciding is not None
    contexts = [deciding.ledger.context() for _ in play(planner, trace)]
    decider = make_decider(setting, read_preset(setting), planner.facts, 0)
    alone, beside, neighbour, thoughts = [], [], [], list[float]()
    for _ in tqdm(range(config.turns), unit="turn", disable=None):
        alone += [step() for _ in range(config.steps)]
        with thinking(decider, contexts, threading.Event()) as seconds:
            beside += [step() for _ in range(config.steps)]
        with counting():
            neighbour += [step() for _ in range(config.steps)]
        thoughts += seconds
    decider.close()
    alone_ms, beside_ms, neighbour_ms = (
        1e3 * statistics.median(times) for times in (alone, beside, neighbour)
    )
    return {
        "alone_ms": alone_ms,
        "beside_ms": beside_ms,
        "ratio": beside_ms / alone_ms,
        "neighbour_ratio": neighbour_ms / alone_ms,
        "decision_ms": 1e3 * statistics.median(thoughts),
        "decisions": len(thoughts),
    }


@njit(nogil=True)
def _touch(ids, entries, counts, out):  # type: ignore[no-untyped-def]
    for i in range(len(ids)):
        out[i] = entries[np.uint64(ids[i])]
    for i in range(len(ids)):
        counts[np.uint64(ids[i])] += np.float32(1)


def touch_cost(trace: Trace, table: np.ndarray) -> dict[str, Any]:
    """Per minibatch: touching the ids, and gathering their rows; medians in ms."""
    entries, counts = np.zeros(trace.num_ids, np.int32), np.zeros(trace.num_ids, np.float32)
    touch, gather = [], []
    for number in range(trace.num_minibatches):
        ids = trace.minibatch(number)
        out, found = np.empty((len(ids), table.shape[1]), np.float32), np.empty(len(ids), np.int32)
        began = time.perf_counter()
        copy_rows(table, ids, out, np.arange(len(ids)))
        gathered = time.perf_counter()
        _touch(ids, entries, counts, found)
        gather.append(gathered - began)
        touch.append(time.perf_counter() - gathered)
    own_ms, gather_ms = 1e3 * statistics.median(touch), 1e3 * statistics.median(gather)
    return {"touch_ms": own_ms, "gather_ms": gather_ms, "share": own_ms / gather_ms}


def _clocked(owner: object, method: str, part: str, spent: dict[str, float]) -> None:
    """Add what each call of a method takes to ``spent[part]``."""
    inner = getattr(owner, method)

    def clocked(*args: Any) -> Any:
        began = time.perf_counter()
        result = inner(*args)
        spent[part] += time.perf_counter() - began
        return result

    setattr(owner, method, clocked)


def own_cost(prefetch: str, trace: Trace, table: np.ndarray) -> dict[str, Any]:
    """Per minibatch: what the prefetch thread adds, by part, and gathering the same rows; medians.

    Shares are of the gather.
    """
    planner, _ = planner_of(trace, SteerConfig(prefetch=prefetch, buffer=0.25))
    facts = planner.facts
    width = table.shape[1]
    rows = HostRows(facts.capacity, width)
    planner.start()
    spent = dict.fromkeys(("look_up", "scores", "proposal", "swap"), 0.0)
    for owner, method, part in (
        (planner.buffer, "look_up", "look_up"),
        (planner.policy, "foresee", "scores"),
        (planner.policy, "observe", "scores"),
        (planner.policy, "propose", "proposal"),
        (planner.buffer, "assign", "swap"),
        (rows, "swap_in", "swap"),
    ):
        _clocked(owner, method, part, spent)
    parts: dict[str, list[float]] = {part: [] for part in spent}
    own, gather, swapped, foreseen = [], [], [], 0
    for number in range(trace.num_minibatches):
        spent.update(dict.fromkeys(spent, 0.0))
        ids = trace.minibatch(number)
        began = time.perf_counter()
        while foreseen < min(number + planner.window + 1, trace.num_minibatches):
            planner.foresee(trace.minibatch(foreseen))
            foreseen += 1
        plan = planner.plan(ids, *divmod(number, facts.minibatches_per_epoch))
        planned = time.perf_counter()
        # As the loader does it: a new output for every minibatch.
        out = np.empty((len(ids) + plan.swap.num_extra, width), np.float32)
        copy_rows(table, ids, out, np.arange(len(ids)))
        gathered = time.perf_counter()
        if len(plan.swap.ids):
            # Rows moved for the buffer alone lie behind the minibatch's; any of them will do here.
            rows.swap_in(plan.swap.slots, out, plan.swap.places % len(out))
        ended = time.perf_counter()
        own.append(planned - began + ended - gathered)
        gather.append(gathered - planned)
        swapped.append(len(plan.swap.ids))
        for part, seconds in spent.items():
            parts[part].append(seconds)
    # The first epoch compiles the kernels and fills the buffer.
    first = trace.facts.minibatches_per_epoch
    own_s, gather_s = (statistics.median(each[first:]) for each in (own, gather))
    shares = {part: statistics.median(each[first:]) / gather_s for part, each in parts.items()}
    share = sum(shares.values())
    return {
        "policy": prefetch,
        "remote_rows": round(trace.mean_remote),
        "capacity": facts.capacity,
        "swapped": statistics.fmean(swapped[first:]),
        "gather_ms": 1e3 * gather_s,
        "own_ms": 1e3 * own_s,
        **shares,
        "share": share,
        "book": max(own_s / gather_s - share, 0.0),
    }


def main() -> None:
    """Measure, and print both tables."""
    config = parse(OverlapConfig, __doc__)
    try:
        trace = record("synthetic:medium", Path(config.folder))[0]
        table = np.random.default_rng(0).random((trace.num_ids, config.width), np.float32)
        costs = [own_cost(policy, trace, table) for policy in POLICIES]
        touch = touch_cost(trace, table)
        beside = step_beside(config, trace)
    except ValueError as error:
        fail(error)
    print(render([list(cost.values()) for cost in costs], list(costs[0])))
    print()
    print(render(list(touch.items())))
    print()
    print(render(list(beside.items())))
    if config.json is not None:
        found = {"own": costs, "touch": touch, "beside": beside}
        write_json(config.json, found)


if __name__ == "__main__":
    main()
