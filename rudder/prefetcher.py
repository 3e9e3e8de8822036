"""Prefetcher: one rank's buffer, policy and decider, from the settings to the summary."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.buffer.rows import DeviceRows, HostRows
from rudder.cached_store import CachedStore
from rudder.config import SteerConfig
from rudder.deciders.judge import Tally, decisions
from rudder.deciders.ledger import Ledger, Log
from rudder.deciders.worker import Inline, Worker
from rudder.feature_store import BufferedStore, FeatureStore, When
from rudder.observations import Facts
from rudder.planner import Planner
from rudder.policies.base import Prior
from rudder.presets import make_decider, make_policy, read_preset
from rudder.replay.recorder import Recorder
from rudder.replay.trace import Trace
from rudder.row_counts import RowCounts
from rudder.sizing.governor import Governor, Host, windows_up_to
from rudder.sizing.watch import Watch


@dataclass(frozen=True, kw_only=True)
class RankContext:
    """What a rank tells its prefetcher about itself.

    facts: with the capacity of ``capacity_of``.   num_ids: ids are below it.   seed: of
    ``random:p``.   device: where training goes on.   run: what a trace should know of the run.
    scope: of the run's buffers.   sharing: the ranks that share ours, us among them, if any do.
    host: with whom a buffer that chooses its size does so; None where there is none.
    """

    facts: Facts
    prior: Prior
    num_ids: int
    rank: int
    seed: int
    device: torch.device
    run: Mapping[str, Any] = field(default_factory=dict)
    scope: str = "rank"
    sharing: tuple[int, ...] = ()
    host: Host | None = None


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank has to say at the end."""

    capacity: int
    counts: RowCounts
    tally: Tally
    failures: Counter[str]
    ring_bytes: int = 0


class Prefetcher:
    """One rank's ``store``: a buffer in front of ``inner``, with its policy and its decider.

    log: ``log(event, **fields)``.   make_store: makes our end of a buffer that ranks share, in
    place of one of our own. Raises ValueError where the decider or the trace cannot be had.
    """

    def __init__(
        self,
        config: SteerConfig,
        inner: FeatureStore,
        context: RankContext,
        log: Log,
        make_store: Callable[[Recorder | None], BufferedStore] | None = None,
    ) -> None:
        self._config, self._context, self._log = config, context, log
        self._preset = read_preset(config)
        self._recorder = self._recorded() if config.records else None
        self._decisions = self._start_decider() if self._preset.is_steered else None
        self._before = RowCounts(), Tally(), Counter[str]()
        self._governor: Governor | None = None
        self.store = make_store(self._recorder) if make_store else self._own_store(inner)

    def _own_store(self, inner: FeatureStore) -> BufferedStore:
        config, context, facts = self._config, self._context, self._context.facts
        policy = make_policy(config, self._preset, facts.capacity, context.num_ids, context.prior)
        width = facts.row_bytes // 4
        rows = (
            HostRows(facts.capacity, width)
            if config.buffer_device == "cpu"
            else DeviceRows(facts.capacity, width, context.device)
        )
        watch = Watch() if self._preset.sizes_itself else None
        planner = Planner(policy, facts, self._decisions)
        store = CachedStore(inner, planner, rows, self._recorder, watch)
        if watch is not None:
            self._governor = self._start_governor(watch, store)
        return store

    def _start_governor(self, watch: Watch, store: CachedStore) -> Governor:
        context, preset = self._context, self._preset
        assert context.host is not None
        return Governor(
            context.host,
            watch,
            store.resize,
            context.facts.halo_rows,
            context.facts.row_bytes,
            windows_up_to(preset.window, preset.window_is_free),
            self._log,
        )

    @property
    def _capacity(self) -> int:
        """Rows of this rank's buffer now, or its share of its host's."""
        if isinstance(self.store, CachedStore):
            return self.store.planner.buffer.capacity
        return self._context.facts.capacity

    def after_step(self, compute_s: float, moment: When) -> None:
        """A step was trained in so many seconds; every rank says so after every step.

        Where the buffer chooses its size this is when. Raises what ``Host.agree`` does.
        """
        chosen = None if self._governor is None else self._governor.after_step(compute_s, moment)
        if chosen and self._context.rank == 0:
            print(chosen, file=sys.stderr, flush=True)

    def _recorded(self) -> Recorder:
        folder = self._config.trace
        return Recorder(None if folder is None else Path(folder), self._context.rank)

    def _start_decider(self) -> Inline | Worker:
        config, context = self._config, self._context
        decider = make_decider(config, self._preset, context.facts, context.seed)
        if decider.about:
            self._log("agent", **decider.about)
        if not decider.slow:
            return Inline(decider, self._tell)
        sync, timeout = config.decider_mode == "sync", config.agent_timeout
        return Worker(decider, self._tell, sync=sync, timeout=timeout)

    def _tell(self, event: str, **fields: Any) -> None:
        """Log what a decider does; its first failure is told to people as well."""
        self._log(event, **fields)
        if event == "decider failed":
            print(f"rank {self._context.rank}: {fields['error']}", file=sys.stderr, flush=True)

    def report(self) -> Report:
        """Our rows and decisions so far, for ``summarize``."""
        ledger = Ledger("never") if self._decisions is None else self._decisions.ledger
        counts, tally, failures = RowCounts(), Tally(), Counter[str]()
        for before in (self._before, (self.store.counts, ledger.tally, ledger.failures)):
            counts += before[0]
            tally += before[1]
            failures += before[2]
        return Report(
            capacity=self._capacity,
            counts=counts,
            tally=tally,
            failures=failures,
            ring_bytes=self.store.ring_bytes,
        )

    def go_on_from(self, counts: RowCounts, report: Mapping[str, Any]) -> None:
        """Add to our figures those of a run that this one continues.

        counts: of the minibatches it trained on.   report: ``tally`` and ``failures`` of its
        ``report``, as dictionaries.
        """
        self._before = counts, Tally(**report["tally"]), Counter(report["failures"])

    def summarize(self, reports: Sequence[Report]) -> dict[str, Any]:
        """``buffer`` and ``decisions`` of the summary, from all ranks' reports."""
        counts, tally, failures = RowCounts(), Tally(), Counter[str]()
        for report in reports:
            counts += report.counts
            tally += report.tally
            failures += report.failures
        capacity, row_bytes = [report.capacity for report in reports], self._context.facts.row_bytes
        buffer = {
            "scope": self._context.scope,
            "capacity": capacity,
            "bytes": sum(capacity) * row_bytes,
            "ring_bytes": sum(report.ring_bytes for report in reports),
            **asdict(counts),
        }
        for name in ("received", "received_bytes", "mapped_bytes"):
            del buffer[name]
        steered = self._preset.is_steered
        if self._governor is not None:
            buffer["choices"] = self._governor.changes
        return {
            "buffer": {**buffer, **counts.hit_shares()},
            "decisions": decisions(self._preset.decider, tally, failures) if steered else None,
        }

    def finish(self) -> Trace | None:
        """The run is over and all its minibatches were served: write the trace, and return it."""
        if self._recorder is None:
            return None
        context, counts = self._context, asdict(self.store.counts)
        run = {**context.run, "rank": context.rank, "counters": counts}
        facts = replace(context.facts, capacity=self._capacity)
        trace = self._recorder.trace(facts, context.num_ids, context.prior, run)
        self._recorder.write(trace)
        return trace

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps of us, and under which settings it holds."""
        past = {} if self._decisions is None else {"past": np.array(self._decisions.state())}
        chosen = {} if self._governor is None else {"chosen": np.array(self._governor.state())}
        return {
            "settings": np.array(json.dumps(self._settings())),
            **past,
            **chosen,
            **self.store.state_dict(),
        }

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> bool:
        """Go on from ``state_dict()``. Returns False, and starts afresh, where settings differ."""
        if str(state.pop("settings")) != json.dumps(self._settings()):
            return False
        if self._decisions is not None:
            self._decisions.load(str(state.pop("past")))
        chosen = state.pop("chosen", None)
        self.store.load_state_dict(state)
        if self._governor is not None:
            self._governor.load(str(chosen))
        return True

    def _settings(self) -> dict[str, Any]:
        config = self._config
        names = ("score_increment", "score_decay", "score_threshold", "interval")
        policy = {name: getattr(config, name) for name in names}
        return {
            "prefetch": config.prefetch,
            "decider": self._preset.decider,
            "capacity": "auto" if self._governor else self._context.facts.capacity,
            "sharing": self._context.sharing,
            **policy,
        }

    def close(self) -> None:
        """End the decider and let go of what was not finished."""
        if self._decisions is not None:
            self._decisions.close()
        self.store.close()
        if self._recorder is not None:
            self._recorder.close()
