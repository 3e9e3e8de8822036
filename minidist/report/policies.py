"""Policies: what every policy would have moved of a run's remote rows, against Belady's bound."""

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rudder.config import SteerConfig
from rudder.presets import SELF_STEERED, read_preset
from rudder.replay.grid import row_of
from rudder.replay.runs import bound_of, hosts_of_run, own_setting, replay_run, sized_itself
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

    On several hosts, also with one buffer a host where its ranks can share one. Rows as of
    ``rudder.replay``'s grid, with the run's own decisions marked ``own``.
    """
    own = own_setting(traces[0])
    buffered = read_preset(own).has_buffer
    if not buffered:
        own = replace(own, buffer=SteerConfig.buffer)
    own = replace(own, buffer_scope=own.buffer_scope or "rank")
    capacities = [
        trace.facts.capacity if buffered else round(float(own.buffer) * trace.facts.halo_rows)
        for trace in traces
    ]
    hosts = hosts_of_run(traces)
    bound = functools.cache(functools.partial(bound_of, traces, hosts, tuple(capacities)))
    rows = []
    chose_size = sized_itself(traces[0])
    if buffered and not chose_size:
        ranks = replay_run(traces, None, hosts)
        rows.append({**row_of(traces, own, ranks, bound(own.buffer_scope), hosts), "own": True})
    kinds = [(name, "rank") for name in ("fixed", "massivegnn", *SELF_STEERED)]
    kinds += [(name, "host") for name in SELF_STEERED if hosts is not None]
    for name, scope in kinds:
        if (name, scope) == (own.prefetch, own.buffer_scope) and not chose_size:
            continue
        setting = replace(own, prefetch=name, buffer_scope=scope, decider=None)
        settings = [replace(setting, buffer_rows=capacity) for capacity in capacities]
        ranks = replay_run(traces, settings, hosts)
        rows.append(row_of(traces, setting, ranks, bound(scope), hosts))
    return rows
