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
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from benchmarks.command import Row, answer
from benchmarks.micro import benchmark_step, medians_ms
from benchmarks.traces import record
from rudder.cli.flags import flag, parse
from rudder.cli.table import render
from rudder.config import SteerConfig

if TYPE_CHECKING:
    from rudder.deciders.base import Decider
    from rudder.observations import Context
    from rudder.replay.trace import Trace

POLICIES = ("fixed", "massivegnn", "vip", "lru", "lfu", "lookahead")
_PARTS = ("look_up", "scores", "proposal", "swap")


@dataclass(frozen=True, kw_only=True)
class OverlapConfig:
    folder: str = flag("traces", "where traces are kept; recorded there where missing")
    agent_model: str = flag("embedded", "the model that thinks beside the steps")
    width: int = flag(100, "features of a row: 100 as ogbn-products, 602 as reddit")
    turns: int = flag(30, "turns of steps with and without a decider")
    steps: int = flag(15, "steps in a turn")
    json: str | None = flag(None, "also write the figures to this file")


@contextmanager
def thinking(decider: "Decider", contexts: "Sequence[Context]") -> Iterator[list[float]]:
    """Decide without a pause in a thread, on one context after the other, round and round; yields
    the seconds of each decision."""
    seconds, stop = list[float](), threading.Event()

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
    with subprocess.Popen([sys.executable, "-c", "n = 0\nwhile True: n += 1"]) as process:
        try:
            yield
        finally:
            process.kill()


def step_beside(config: OverlapConfig, trace: "Trace") -> Row:
    """Median step time alone, beside a nonstop decider, and beside a busy process."""
    import torch

    from minidist.training.models import loss_sum
    from rudder.presets import make_decider, read_preset
    from rudder.replay.play import play
    from rudder.replay.runs import planner_of

    torch.set_num_threads(1)
    batch, model = benchmark_step()

    def steps() -> list[float]:
        times = [time.perf_counter()]
        for _ in range(config.steps):
            loss_sum(model.forward(batch), batch.y).backward()  # type: ignore[no-untyped-call]
            times.append(time.perf_counter())
        return [1e3 * (end - begin) for begin, end in itertools.pairwise(times)]

    setting = SteerConfig(prefetch="rudder", agent_model=config.agent_model)
    planner, deciding = planner_of(trace, replace(setting, decider="always"))
    assert deciding is not None
    contexts = [deciding.ledger.context() for _ in play(planner, trace)]
    decider = make_decider(setting, read_preset(setting), planner.facts, 0)
    times, thoughts = defaultdict[str, list[float]](list), list[float]()
    for _ in tqdm(range(config.turns), unit="turn", disable=None):
        times["alone"] += steps()
        with thinking(decider, contexts) as seconds:
            times["beside"] += steps()
        with counting():
            times["neighbour"] += steps()
        thoughts += seconds
    decider.close()
    alone, beside, neighbour = map(statistics.median, times.values())
    found: Row = {"alone_ms": alone, "beside_ms": beside, "ratio": beside / alone}
    found |= {"neighbour_ratio": neighbour / alone, "decisions": len(thoughts)}
    return found | {"decision_ms": 1e3 * statistics.median(thoughts)}


def touch_cost(trace: "Trace", table: np.ndarray) -> Row:
    """Per minibatch: touching the ids, and gathering their rows; medians in ms."""
    from numba import njit

    from minidist.store.row_copy import copy_rows

    @njit(nogil=True)
    def touch(ids, entries, counts, out):  # type: ignore[no-untyped-def]
        for i in range(len(ids)):
            out[i] = entries[np.uint64(ids[i])]
        for i in range(len(ids)):
            counts[np.uint64(ids[i])] += np.float32(1)

    entries, counts = np.zeros(trace.num_ids, np.int32), np.zeros(trace.num_ids, np.float32)
    turns = itertools.cycle(trace.minibatches)

    def given() -> tuple[Any, Any]:
        ids = next(turns)
        return ids, np.empty((len(ids), table.shape[1]), np.float32)

    works = {
        "touch_ms": lambda ids, _: touch(ids, entries, counts, np.empty(len(ids), np.int32)),
        "gather_ms": lambda ids, out: copy_rows(table, ids, out, np.arange(len(ids))),
    }
    times = medians_ms(works, trace.num_minibatches, given=given)
    return {**times, "share": times["touch_ms"] / times["gather_ms"]}


def _clock(owner: object, method: str, part: str, spent: dict[str, float]) -> None:
    """Add what each call of a method takes to ``spent[part]``."""
    inner = getattr(owner, method)

    def clocked(*args: Any) -> Any:
        began = time.perf_counter()
        result = inner(*args)
        spent[part] += time.perf_counter() - began
        return result

    setattr(owner, method, clocked)


def own_times(planner: Any, trace: "Trace", table: np.ndarray) -> Iterator[dict[str, float]]:
    """Of each minibatch: seconds of the prefetch thread's parts, of all its ``own`` work and of the
    ``gather`` of the same rows; rows ``swapped``."""
    from minidist.store.row_copy import copy_rows
    from rudder.buffer.rows import HostRows

    num, width, foreseen = trace.num_minibatches, table.shape[1], 0
    rows, spent = HostRows(planner.facts.capacity, width), dict[str, float]()
    planner.start()
    _clock(planner.buffer, "look_up", "look_up", spent)
    _clock(planner.policy, "foresee", "scores", spent)
    _clock(planner.policy, "observe", "scores", spent)
    _clock(planner.policy, "propose", "proposal", spent)
    _clock(planner.buffer, "assign", "swap", spent)
    _clock(rows, "swap_in", "swap", spent)
    for number in range(num):
        spent |= dict.fromkeys(_PARTS, 0.0)
        ids, began = trace.minibatch(number), time.perf_counter()
        while foreseen < min(number + planner.window + 1, num):
            planner.foresee(trace.minibatch(foreseen))
            foreseen += 1
        swap = planner.plan(ids, *divmod(number, planner.facts.minibatches_per_epoch)).swap
        planned = time.perf_counter()
        # As the loader does it: a new output for every minibatch.
        out = np.empty((len(ids) + swap.num_extra, width), np.float32)
        copy_rows(table, ids, out, np.arange(len(ids)))
        gathered = time.perf_counter()
        if len(swap.ids):
            # Rows moved for the buffer alone lie behind the minibatch's; any of them will do here.
            rows.swap_in(swap.slots, out, swap.places % len(out))
        own = planned - began + time.perf_counter() - gathered
        yield {**spent, "own": own, "gather": gathered - planned, "swapped": len(swap.ids)}


def own_cost(prefetch: str, trace: "Trace", table: np.ndarray) -> Row:
    """Per minibatch: what the prefetch thread adds, by part, in shares of the gather; medians."""
    from rudder.replay.runs import planner_of

    planner, _ = planner_of(trace, SteerConfig(prefetch=prefetch, buffer=0.25))
    facts = planner.facts
    # The first epoch compiles the kernels and fills the buffer.
    later = [*own_times(planner, trace, table)][facts.minibatches_per_epoch :]
    own, gather, *parts = (
        statistics.median(times[name] for times in later) for name in ("own", "gather", *_PARTS)
    )
    shares = {name: seconds / gather for name, seconds in zip(_PARTS, parts, strict=True)}
    share = sum(shares.values())
    return {
        "policy": prefetch,
        "remote_rows": round(trace.mean_remote),
        "capacity": facts.capacity,
        "swapped": statistics.fmean(times["swapped"] for times in later),
        "gather_ms": 1e3 * gather,
        "own_ms": 1e3 * own,
        **shares,
        "share": share,
        "book": max(own / gather - share, 0.0),
    }


def measure(config: OverlapConfig) -> Row:
    trace = record("synthetic:medium", Path(config.folder))[0]
    table = np.random.default_rng(0).random((trace.num_ids, config.width), np.float32)
    own = [own_cost(policy, trace, table) for policy in POLICIES]
    return {"own": own, "touch": touch_cost(trace, table), "beside": step_beside(config, trace)}


def tables(found: Row) -> str:
    own = render([list(cost.values()) for cost in found["own"]], list(found["own"][0]))
    others = [render(list(found[name].items())) for name in ("touch", "beside")]
    return "\n\n".join([own, *others])


if __name__ == "__main__":
    answer(parse(OverlapConfig, __doc__), measure, tables)
