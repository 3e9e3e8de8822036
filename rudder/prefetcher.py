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
from rudder.deciders.inline import Inline
from rudder.deciders.judge import Tally, decisions
from rudder.deciders.ledger import Ledger
from rudder.deciders.worker import Worker
from rudder.feature_store import FeatureStore, When
from rudder.observations import Facts, Outcome, hits_trend, moved_trend
from rudder.planner import Planner
from rudder.policies.base import Prior
from rudder.presets import make_decider, make_policy, read_preset
from rudder.replay.recorder import Recorder
from rudder.replay.trace import Trace
from rudder.row_counts import RowCounts
from rudder.sizing.governor import Governor, Host, windows_up_to
from rudder.sizing.watch import Watch

Log = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class RankContext:
    """What a rank tells its prefetcher about itself.

    facts: with the capacity of ``capacity_of``.   num_ids: ids are below it.   seed: of
    ``random:p``.   device: where training goes on.   run: what a trace should know of the run.
    host: with whom a buffer that chooses its size does so; None where there is none.
    """

    facts: Facts
    prior: Prior
    num_ids: int
    rank: int
    seed: int
    device: torch.device
    run: Mapping[str, Any] = field(default_factory=dict)
    host: Host | None = None


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
        watch = Watch() if self._preset.sizes_itself else None
        self.store = CachedStore(inner, self._planner, rows, self._recorder, watch)
        self._governor = None if watch is None else self._start_governor(watch)

    def _start_governor(self, watch: Watch) -> Governor:
        context, preset = self._context, self._preset
        assert context.host is not None
        return Governor(
            context.host,
            watch,
            self.store.resize,
            context.facts.halo_rows,
            context.facts.row_bytes,
            windows_up_to(preset.window, preset.window_is_free),
            self._log,
        )

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

        def log_exchange(exchange: dict[str, Any]) -> None:
            self._log(**exchange)

        decider = make_decider(config, self._preset, context.facts, context.seed, log_exchange)
        if not decider.slow:
            return Inline(decider, self._log_outcome)
        return Worker(
            decider,
            sync=config.decider_mode == "sync",
            timeout=config.agent_timeout,
            on_outcome=self._log_outcome,
            warn=self._warn,
        )

    def _log_outcome(self, outcome: Outcome) -> None:
        before, after, decision = outcome.before, outcome.after, outcome.decision
        self._log(
            "decision",
            minibatch=before.minibatch,
            applied=outcome.applied,
            replace=decision.replace,
            valid=decision.valid,
            reason=decision.reason,
            expect_hits=decision.expect_hits,
            expect_moved=decision.expect_moved,
            hits_pct_before=before.hits_pct,
            hits_pct_after=after.hits_pct,
            moved_before=before.moved,
            moved_after=after.moved,
            hits=hits_trend(before, after),
            moved=moved_trend(before, after),
            passed=outcome.passed,
        )

    def _warn(self, text: str) -> None:
        self._log("decider failed", error=text)
        print(f"rank {self._context.rank}: {text}", file=sys.stderr, flush=True)

    def report(self) -> Report:
        """Our rows and decisions so far, for ``summarize``."""
        ledger = Ledger("never") if self._decisions is None else self._decisions.ledger
        counts, tally, failures = RowCounts(), Tally(), Counter[str]()
        for before in (self._before, (self._planner.counts, ledger.tally, ledger.failures)):
            counts += before[0]
            tally += before[1]
            failures += before[2]
        capacity = self._planner.buffer.capacity
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
        context, counts = self._context, asdict(self._planner.counts)
        run = {**context.run, "rank": context.rank, "counters": counts}
        facts = replace(context.facts, capacity=self._planner.buffer.capacity)
        trace = self._recorder.trace(facts, context.num_ids, context.prior, run)
        self._recorder.write(trace)
        return trace

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps of us, and under which settings it holds."""
        past = {} if self._decisions is None else {"past": np.array(self._decisions.past())}
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
            self._decisions.recall(str(state.pop("past")))
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
            **policy,
        }

    def close(self) -> None:
        """End the decider and let go of what was not finished."""
        if self._decisions is not None:
            self._decisions.close()
        if self._recorder is not None:
            self._recorder.close()
