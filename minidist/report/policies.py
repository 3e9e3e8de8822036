"""Policies: what every policy would have moved of a run's remote rows, against Belady's bound."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rudder.config import SteerConfig
from rudder.presets import SELF_STEERED, read_preset
from rudder.replay.belady import belady_rows
from rudder.replay.grid import own_setting, replay, replay_own, row_of
from rudder.replay.trace import Trace

Row = dict[str, Any]
_NEEDED = ("trace", "prefetch", "buffer", "rows_moved", "rows_none", "belady_rows")


def read_grid(path: Path) -> list[Row]:
    """The rows of ``rudder.replay --json``. Raises ValueError where the file holds none."""
    hint = f"expected what `python -m rudder.replay TRACE --json {path}` writes"
    try:
        grid = json.loads(path.read_text(encoding="utf-8"))["grid"]
    except (OSError, ValueError) as error:
        raise ValueError(f"--grid {path}: cannot be read: {error}; {hint}") from None
    except (KeyError, TypeError):
        raise ValueError(f"--grid {path}: no grid in it; {hint}") from None
    if not isinstance(grid, list) or not all(
        isinstance(row, dict) and all(name in row for name in _NEEDED) for row in grid
    ):
        raise ValueError(f"--grid {path}: not the rows of a grid; {hint}")
    return grid


def try_policies(traces: Sequence[Trace]) -> list[Row]:
    """A run's traces under every policy that needs no model, at the size of the run's buffer.

    Rows as of ``rudder.replay``'s grid, with the run's own decisions marked ``own``.
    """
    own = own_setting(traces[0])
    buffered = read_preset(own).has_buffer
    if not buffered:
        own = replace(own, buffer=SteerConfig.buffer)
    capacities = [
        trace.facts.capacity if buffered else round(own.buffer * trace.facts.halo_rows)
        for trace in traces
    ]
    sized = [*zip(traces, capacities, strict=True)]
    bound = sum(
        belady_rows([trace.minibatch(t) for t in range(trace.num_minibatches)], capacity)
        for trace, capacity in sized
    )
    rows = []
    if buffered:
        ranks = [replay_own(trace) for trace in traces]
        rows.append({**row_of(traces, own, ranks, bound), "own": True})
    for name in ("fixed", "massivegnn", *SELF_STEERED):
        if name != own.prefetch:
            setting = replace(own, prefetch=name, decider=None)
            ranks = [
                replay(trace, replace(setting, buffer_rows=capacity)) for trace, capacity in sized
            ]
            rows.append(row_of(traces, setting, ranks, bound))
    return rows
