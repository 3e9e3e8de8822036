"""Trials: a run's own trace under every policy that needs no model, at the size of its buffer."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rudder.config import SteerConfig
from rudder.presets import SELF_STEERED, read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.grid import Replayed, own_setting, replay, replay_own, row_of
from rudder.replay.trace import Trace, read_traces

_DEFAULT_BUFFER = 0.25


def try_policies(folder: Path) -> list[dict[str, Any]]:
    """Rows as of ``rudder.replay``'s grid, with the run's own decisions marked ``own``.

    Raises ValueError where the trace cannot be read.
    """
    traces = read_traces(folder)
    own = own_setting(traces[0])
    buffered = read_preset(own).has_buffer
    if not buffered:
        own = replace(own, buffer=_DEFAULT_BUFFER)
    capacities = [
        trace.facts.capacity if buffered else round(own.buffer * trace.facts.halo_rows)
        for trace in traces
    ]
    bound = sum(map(_bound, traces, capacities))
    rows = []
    if buffered:
        ranks = [replay_own(trace) for trace in traces]
        rows.append({**row_of(traces, own, ranks, bound), "own": True})
    for name in ("fixed", "massivegnn", *SELF_STEERED):
        if name == own.prefetch:
            continue
        setting = replace(own, prefetch=name, decider=None)
        rows.append(row_of(traces, setting, _replay(traces, setting, capacities), bound))
    return rows


def _replay(
    traces: Sequence[Trace], setting: SteerConfig, capacities: Sequence[int]
) -> list[Replayed]:
    return [
        replay(trace, replace(setting, buffer_rows=capacity))
        for trace, capacity in zip(traces, capacities, strict=True)
    ]


def _bound(trace: Trace, capacity: int) -> int:
    return belady_rows([trace.minibatch(t) for t in range(trace.num_minibatches)], capacity)
