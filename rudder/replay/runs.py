"""Runs: the ranks of a recorded run once more, under their own setting or under others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from rudder.cli.flags import require
from rudder.config import SteerConfig
from rudder.deciders.base import Decider
from rudder.deciders.fixed import recorded_decider
from rudder.deciders.judge import Tally
from rudder.deciders.worker import Inline
from rudder.planner import Planner
from rudder.presets import (
    capacity_of,
    make_decider,
    make_policy,
    read_preset,
)
from rudder.replay.belady import belady_rows
from rudder.replay.hosts import Hosts
from rudder.replay.link import Link, Step
from rudder.replay.play import play
from rudder.replay.trace import Trace
from rudder.row_counts import RowCounts


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """One rank's trace under one setting.

    crossed: rows that came from other hosts; of a shared buffer, all are its first rank's.
    steps: what they cost, where a link is stated.
    """

    capacity: int
    counts: RowCounts
    tally: Tally
    failures: Counter[str]
    crossed: int = 0
    steps: list[Step] = field(default_factory=list)


def planner_of(
    trace: Trace, config: SteerConfig, decider: Decider | None = None, seed: int = 0
) -> tuple[Planner, Inline | None]:
    """What plays a trace under a setting, and who decides in it, to be closed in the end.

    decider: in place of the setting's own.
    """
    preset = read_preset(config)
    capacity = capacity_of(config, preset, trace.facts.halo_rows)
    facts = replace(trace.facts, capacity=capacity)
    policy = make_policy(config, preset, capacity, trace.num_ids, trace.prior)
    inline = None
    if preset.is_steered:
        inline = Inline(decider or make_decider(config, preset, facts, seed))
    return Planner(policy, facts, inline), inline


def replay(
    trace: Trace,
    config: SteerConfig,
    decider: Decider | None = None,
    seed: int = 0,
    hosts: Hosts | None = None,
    link: Link | None = None,
) -> Replayed:
    """Play a trace under a setting; decider: in place of the setting's own.

    hosts: of the run, to tell what crossed between them; without, all that moved did.
    """
    planner, inline = planner_of(trace, config, decider, seed)
    planner.conditions = link
    steps = []
    if hosts is None:
        steps = [Step.of(snapshot) for snapshot in play(planner, trace) if link]
        crossed = planner.counts.moved
    else:
        crossed = hosts.crossed(planner, trace)
    if inline is None:
        tally, failures = Tally(), Counter[str]()
    else:
        inline.close()
        tally, failures = inline.ledger.tally, inline.ledger.failures
    capacity = planner.facts.capacity
    return Replayed(
        capacity=capacity,
        counts=planner.counts,
        tally=tally,
        failures=failures,
        crossed=crossed,
        steps=steps,
    )


def own_setting(trace: Trace) -> SteerConfig:
    """The setting under which a trace was recorded.

    Of a buffer that chose its size: the size that it had in the end.
    """
    names = {field.name for field in fields(SteerConfig)}
    known = {name: value for name, value in trace.run.items() if name in names}
    known |= {"buffer_rows": trace.facts.capacity, "trace": None, "trace_only": False}
    if sized_itself(trace):
        prefetch = "lookahead" if known["prefetch"] == "auto" else known["prefetch"]
        known |= {"prefetch": prefetch, "buffer": SteerConfig.buffer, "buffer_memory": None}
    return SteerConfig(**known)


def sized_itself(trace: Trace) -> bool:
    """Whether the run's buffer chose its size; a trace does not keep what it was meanwhile."""
    return "auto" in (trace.run.get("prefetch"), trace.run.get("buffer"))


def replay_own(trace: Trace, hosts: Hosts | None = None) -> Replayed:
    """A rank's own policy and decisions: counts exactly what it counted, if it shared no buffer.

    Raises ValueError where the run's buffer changed its size.
    """
    if sized_itself(trace):
        raise ValueError(
            f"{trace.name}: its buffer chose its size while it ran, which cannot be played again: "
            "give --prefetch lookahead --buffer SIZE"
        )
    decider = recorded_decider(trace.replace.tolist())
    return replay(trace, own_setting(trace), decider, hosts=hosts)


def replay_run(
    traces: Sequence[Trace],
    settings: Sequence[SteerConfig] | None,
    hosts: Hosts | None,
    seed: int = 0,
) -> list[Replayed]:
    """Play all ranks of a run, each under its setting; None: under their own, and own decisions.

    Raises ValueError for one buffer a host where all ranks are on one.
    """
    own, settings = settings is None, settings or [own_setting(trace) for trace in traces]
    if settings[0].buffer_scope != "host":
        if own:
            return [replay_own(trace, hosts) for trace in traces]
        return [
            replay(trace, setting, seed=seed, hosts=hosts)
            for trace, setting in zip(traces, settings, strict=True)
        ]
    if hosts is None:
        raise ValueError(
            f"--buffer-scope host: the ranks of {traces[0].name.split('/')[0]} ran on one host; "
            "deal them to several with --hosts"
        )
    return _replay_shared(hosts, settings)


def _replay_shared(hosts: Hosts, settings: Sequence[SteerConfig]) -> list[Replayed]:
    """Play one buffer a host; settings: of each rank."""
    traces = hosts.traces
    preset, found = read_preset(settings[0]), dict[int, Replayed]()
    capacities = [
        capacity_of(setting, preset, trace.facts.halo_rows)
        for setting, trace in zip(settings, traces, strict=True)
    ]
    for group in hosts.groups:
        if len(group) == 1:
            found[group[0]] = replay(traces[group[0]], settings[group[0]], hosts=hosts)
            continue
        of_group = [capacities[rank] for rank in group]
        counts, crossed = hosts.share(group, settings[0], of_group)
        for rank, each in zip(group, counts, strict=True):
            found[rank] = Replayed(
                capacity=capacities[rank],
                counts=each,
                tally=Tally(),
                failures=Counter(),
                crossed=crossed if rank == group[0] else 0,
            )
    return [found[rank] for rank in range(len(traces))]


def hosts_of_run(traces: Sequence[Trace], num_hosts: int | None = None) -> Hosts | None:
    """The hosts that a run's ranks ran on, or so many; None where there is one."""
    if num_hosts is None:
        layout = list(traces[0].run.get("hosts") or [0])
    else:
        most = f"1 to {len(traces)}, the ranks of {traces[0].name.split('/')[0]}"
        require(1 <= num_hosts <= len(traces), "hosts", num_hosts, most)
        layout = [rank * num_hosts // len(traces) for rank in range(len(traces))]
    return Hosts(traces, layout) if len(set(layout)) > 1 else None


def bound_of(
    traces: Sequence[Trace], hosts: Hosts | None, capacities: Sequence[int], scope: str | None
) -> int:
    """Belady's bound of buffers of these capacities a rank, and of this scope."""
    if hosts is not None:
        return hosts.bound(capacities, scope or "rank")
    return sum(
        belady_rows(trace.minibatches, capacity)
        for trace, capacity in zip(traces, capacities, strict=True)
    )
