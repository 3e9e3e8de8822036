"""Prefetcher: one rank's buffer, policy and decider, from the settings to the summary."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.buffer.rows import DeviceRows, HostRows
from rudder.cached_store import CachedStore
from rudder.config import SteerConfig
from rudder.deciders.inline import Inline
from rudder.deciders.judge import Tally, decisions
from rudder.deciders.ledger import Ledger, Log
from rudder.deciders.worker import Worker
from rudder.feature_store import FeatureStore
from rudder.observations import Facts
from rudder.planner import Planner
from rudder.policies.base import Prior
from rudder.presets import make_decider, make_policy, read_preset
from rudder.replay.recorder import Recorder
from rudder.replay.trace import Trace
from rudder.row_counts import RowCounts


@dataclass(frozen=True, kw_only=True)
class RankContext:
    """What a rank tells its prefetcher about itself.

    facts: with the capacity of ``capacity_of``.   num_ids: ids are below it.   seed: of
    ``random:p``.   device: where training goes on.   run: what a trace should know of the run.
    """

    facts: Facts
    prior: Prior
    num_ids: int
    rank: int
    seed: int
    device: torch.device
    run: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank has to say at the end."""

    capacity: int
    counts: RowCounts
    tally: Tally
    failures: Counter[str]


class Prefetcher:
    """One rank's ``store``: a buffer in front of ``inner``, with its policy and its decider.

    log: ``log(event, **fields)``.   Raises ValueError where the decider or the trace cannot be had.
    """

    def __init__(
        self, config: SteerConfig, inner: FeatureStore, context: RankContext, log: Log
    ) -> None:
        self._config, self._context, self._log = config, context, log
        self._preset, facts = read_preset(config), context.facts
        policy = make_policy(config, self._preset, facts.capacity, context.num_ids, context.prior)
        self._recorder = self._recorded() if config.records else None
        self._decisions = self._start_decider() if self._preset.is_steered else None
        width = facts.row_bytes // 4
        rows = (
            HostRows(facts.capacity, width)
            if config.buffer_device == "cpu"
            else DeviceRows(facts.capacity, width, context.device)
        )
        self._planner = Planner(policy, facts, self._decisions)
        self._before = RowCounts(), Tally(), Counter[str]()
        self.store = CachedStore(inner, self._planner, rows, self._recorder)

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
        return Worker(
            decider,
            sync=config.decider_mode == "sync",
            timeout=config.agent_timeout,
            log=self._tell,
        )

    def _tell(self, event: str, **fields: Any) -> None:
        """Log what a decider does; its first failure is told to people as well."""
        self._log(event, **fields)
        if event == "decider failed":
            print(f"rank {self._context.rank}: {fields['error']}", file=sys.stderr, flush=True)

    def report(self) -> Report:
        """Our rows and decisions so far, for ``summarize``."""
        ledger = Ledger("never") if self._decisions is None else self._decisions.ledger
        counts, tally, failures = RowCounts(), Tally(), Counter[str]()
        for before in (self._before, (self._planner.counts, ledger.tally, ledger.failures)):
            counts += before[0]
            tally += before[1]
            failures += before[2]
        capacity = self._context.facts.capacity
        return Report(capacity=capacity, counts=counts, tally=tally, failures=failures)

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
        buffer = {"capacity": [report.capacity for report in reports], **asdict(counts)}
        for name in ("received_bytes", "mapped_bytes"):
            del buffer[name]
        steered = self._preset.is_steered
        return {
            "buffer": {**buffer, **counts.hit_shares()},
            "decisions": decisions(self._preset.decider, tally, failures) if steered else None,
        }

    def finish(self) -> Trace | None:
        """The run is over and all its minibatches were served: write the trace, and return it."""
        if self._recorder is None:
            return None
        context, counts = self._context, asdict(self._planner.counts)
        run = {**context.run, "rank": context.rank, "counters": counts}
        trace = self._recorder.trace(context.facts, context.num_ids, context.prior, run)
        self._recorder.write(trace)
        return trace

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps of us, and under which settings it holds."""
        past = {} if self._decisions is None else {"past": np.array(self._decisions.state())}
        return {
            "settings": np.array(json.dumps(self._settings())),
            **past,
            **self.store.state_dict(),
        }

    def load_state_dict(self, state: dict[str, NDArray[Any]]) -> bool:
        """Go on from ``state_dict()``. Returns False, and starts afresh, where settings differ."""
        if str(state.pop("settings")) != json.dumps(self._settings()):
            return False
        if self._decisions is not None:
            self._decisions.load(str(state.pop("past")))
        self.store.load_state_dict(state)
        return True

    def _settings(self) -> dict[str, Any]:
        config = self._config
        names = ("score_increment", "score_decay", "score_threshold", "interval")
        policy = {name: getattr(config, name) for name in names}
        return {
            "prefetch": config.prefetch,
            "decider": self._preset.decider,
            "capacity": self._context.facts.capacity,
            **policy,
        }

    def close(self) -> None:
        """End the decider and let go of what was not finished."""
        if self._decisions is not None:
            self._decisions.close()
        if self._recorder is not None:
            self._recorder.close()
