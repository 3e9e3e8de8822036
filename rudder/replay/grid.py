"""The grid: recorded traces under every policy, decider and buffer size, beside the bound."""

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from rudder.cli.flags import flag, positional, require
from rudder.cli.table import render
from rudder.config import PolicyConfig, SteerConfig
from rudder.deciders.judge import Tally, decisions
from rudder.observations import Facts
from rudder.presets import (
    PRESETS,
    SHARED,
    read_preset,
)
from rudder.replay.hosts import Hosts
from rudder.replay.link import Link, costs
from rudder.replay.runs import Replayed, bound_of, hosts_of_run, own_setting, replay, replay_run
from rudder.replay.trace import Trace, read_traces
from rudder.row_counts import RowCounts


@dataclass(frozen=True, kw_only=True)
class ReplayConfig(PolicyConfig):
    """Settings of ``python -m rudder.replay``."""

    traces: tuple[str, ...] = positional("folders that --trace recorded")
    prefetch: str = flag("all", "presets with commas between; all; own: the run's own decisions")
    buffer: tuple[float, ...] = flag(
        (0.25,), "capacities as shares of the halo rows, with commas between"
    )
    buffer_scope: str = flag("rank", "rank, host or both, with a comma between")
    hosts: int | None = flag(
        None, "hosts to deal the ranks to, in blocks; rows between them count (default: as it ran)"
    )
    decider: str = flag(
        "llm", "deciders of the rudder preset, or of --steer size, with commas between"
    )
    link: tuple[float, ...] = flag(
        (), "also time each run: Mbit/s of the link in equal stretches of it, with commas between"
    )
    latency_ms: float = flag(0.5, "of a request, with --link")
    compute_ms: float = flag(30.0, "of a step, with --link")
    memory_limit: tuple[float, ...] = flag(
        (1.0,), "with --link, most that a buffer may have, as --buffer, in equal stretches"
    )
    seed: int = flag(0, "seed of random:P")
    json: str | None = flag(None, "also write the grid to this file")

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("link", "memory_limit"):
            values = getattr(self, name)
            require(all(value > 0 for value in values), name, values, "numbers over 0")
        for name in ("latency_ms", "compute_ms"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        require(
            bool(self.link) or self.steer != "size",
            *("steer", self.steer, "--link as well: a size is chosen by what fetching takes"),
        )

        alone = self.hosts is None and self.buffer_scope == "rank" and self.prefetch != "own"
        require(
            alone or not self.link,
            *("link", self.link, "no --hosts, no --buffer-scope host and no --prefetch own"),
        )

    def link_of(self, facts: Facts) -> Link | None:
        """What a rank's rows cost, where that is stated."""
        if not self.link:
            return None
        return Link(
            rates=self.link,
            latency_ms=self.latency_ms,
            compute_ms=self.compute_ms,
            limits=self.memory_limit,
            facts=facts,
        )

    def cells(self) -> list[SteerConfig]:
        """One setting for each row of the grid. Raises ValueError on what cannot be read."""
        names = PRESETS if self.prefetch == "all" else self.prefetch.split(",")
        shared = {field.name: getattr(self, field.name) for field in fields(PolicyConfig)}
        cells = []
        scopes = self.buffer_scope.split(",")
        require(set(scopes) <= {"rank", "host"}, "buffer_scope", self.buffer_scope, "rank or host")
        kinds = [
            (name, scope, decider)
            for name in names
            for scope in scopes
            if scope == "rank" or self.prefetch != "all" or name in SHARED
            for decider in (
                self.decider.split(",") if name == "rudder" or self.steer == "size" else [None]
            )
        ]
        for name, scope, decider in kinds:
            kind = SteerConfig(prefetch=name, buffer_scope=scope, decider=decider, **shared)
            cells += [replace(kind, buffer=share) for share in self.buffer]
        for cell in cells:
            read_preset(cell)
        return cells


def row_of(
    traces: Sequence[Trace],
    config: SteerConfig,
    ranks: Sequence[Replayed],
    belady: int,
    hosts: Hosts | None = None,
) -> dict[str, Any]:
    """One row of the grid: all ranks of a run under one setting.

    hosts: where there are several, the rows moved are those that crossed between them.   belady:
    the bound of buffers of this scope, ``Hosts.bound`` on several hosts.
    """
    counts, tally, failures = RowCounts(), Tally(), Counter[str]()
    for rank in ranks:
        counts += rank.counts
        tally += rank.tally
        failures += rank.failures
    preset = read_preset(config)
    remote = sum(trace.mean_remote for trace in traces)
    return {
        "trace": traces[0].name.split("/")[0],
        "prefetch": config.prefetch,
        "decider": preset.decider if preset.is_steered else None,
        "buffer": config.buffer if preset.has_buffer else 0.0,
        "scope": config.buffer_scope or "rank",
        "between_hosts": hosts is not None,
        "rows_moved": sum(rank.crossed for rank in ranks),
        "rows_none": counts.remote if hosts is None else hosts.num_far,
        **counts.hit_shares(),
        "replacement_rows": counts.replacements,
        # No bound of one size holds for a buffer that changes its own.
        "belady_rows": None if config.steer == "size" else belady,
        "capacity_over_batch": sum(rank.capacity for rank in ranks) / remote if remote else None,
        "decisions": decisions(preset.decider, tally, failures) if preset.is_steered else None,
    }


def grid(config: ReplayConfig) -> Iterator[dict[str, Any]]:
    """The rows, one by one. Raises ValueError on traces or settings that cannot be read."""
    runs = [read_traces(Path(folder)) for folder in config.traces]
    own = config.prefetch == "own"
    cells = [] if own else config.cells()
    bar = tqdm(total=len(runs) * (1 if own else len(cells)), unit="cell", disable=None)
    with bar:
        for traces in runs:
            links = [link for trace in traces if (link := config.link_of(trace.facts))]
            # The stated link is each rank's own, whatever hosts the run had.
            hosts = None if links else hosts_of_run(traces, config.hosts)
            bound = functools.cache(functools.partial(bound_of, traces, hosts))
            for cell in [own_setting(traces[0])] if own else cells:
                bar.set_postfix_str(f"{cell.prefetch} {cell.decider or ''}")
                if links:
                    ranks = [
                        replay(trace, cell, seed=config.seed, link=link)
                        for trace, link in zip(traces, links, strict=True)
                    ]
                else:
                    ranks = replay_run(
                        traces, None if own else [cell] * len(traces), hosts, config.seed
                    )
                capacities = tuple(rank.capacity for rank in ranks)
                best = {scope: bound(capacities, scope) for scope in ("rank", cell.buffer_scope)}
                row = row_of(traces, cell, ranks, best[cell.buffer_scope], hosts)
                steps = [rank.steps for rank in ranks]
                row["belady_rank_rows"] = best["rank"]
                yield row | (costs(steps, links) if links else {})
                bar.update()


def costs_table(rows: Sequence[dict[str, Any]]) -> str:
    """What each row of a grid with a link costs, for people."""
    header = (
        *("trace", "decider", "buffer", "seconds", "MB held", "cost", "regret %", "rows moved"),
        *("%-Hits", "Pass@1", "grow %", "shrink %"),
    )
    lines = []
    for row in rows:
        decided = row["decisions"] or {}
        shares = [decided.get(name) for name in ("pass_at_1", "grow_pct", "shrink_pct")]
        lines.append(
            (
                *(row["trace"], row["decider"] or row["prefetch"], row["buffer"], row["seconds"]),
                *(row["held_mb"], row["cost"], _shown(row["regret_pct"]), row["rows_moved"]),
                *map(_shown, (row["hits_pct"], *shares)),
            )
        )
    return render(lines, header)


def grid_table(rows: Sequence[dict[str, Any]]) -> str:
    """The grid for people: rows as shares of no buffer's, beside the bound."""
    several = any(row["between_hosts"] for row in rows)
    header = (
        *("trace", "prefetch", "decider", "scope", "buffer", "rows moved", "% of none", "x Belady"),
        *(("x Belady a rank",) if several else ()),
        *("%-Hits", "halo", "replacement rows", "C/b", "Pass@1", "replace %"),
    )
    lines = []
    for row in rows:
        decided = row["decisions"] or {}
        lines.append(
            (
                row["trace"],
                row["prefetch"],
                row["decider"] or "-",
                row["scope"],
                row["buffer"],
                row["rows_moved"],
                _ratio(100 * row["rows_moved"], row["rows_none"]),
                _ratio(row["rows_moved"], row["belady_rows"]),
                *([_ratio(row["rows_moved"], row["belady_rank_rows"])] if several else []),
                _shown(row["hits_pct"]),
                _shown(row["halo_hits_pct"]),
                row["replacement_rows"],
                _shown(row["capacity_over_batch"]),
                _shown(decided.get("pass_at_1")),
                _shown(decided.get("replace_pct")),
            )
        )
    return render(lines, header)


def _ratio(part: float, whole: float) -> str:
    return f"{part / whole:.2f}" if whole else "-"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
