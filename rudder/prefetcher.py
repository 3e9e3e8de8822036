"""Prefetcher: one rank's buffer, policy and decider, from the settings to the summary."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from rudder.buffer.rows import DeviceRows, HostRows
from rudder.cached_store import BufferedRows, Inner
from rudder.config import SteerConfig
from rudder.deciders.inline import Inline
from rudder.deciders.judge import Tally, decisions
from rudder.deciders.ledger import Ledger
from rudder.deciders.worker import Worker
from rudder.observations import Facts, Outcome, hits_trend, moved_trend
from rudder.planner import Counters, Steering
from rudder.policies.base import Prior
from rudder.presets import Preset, make_decider, make_policy
from rudder.replay.recorder import Recorder

Log = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one rank has to say at the end."""

    capacity: int
    counters: Counters
    tally: Tally
    failures: Counter[str]


class Prefetcher:
    """What stands between a rank and the owners of remote rows.

    facts: with the capacity of ``capacity_of``.   num_ids: ids are below it.   width: D.
    seed: of ``random:p``.   device: where training goes on.   log: ``log(event, **fields)``.
    run: what a trace should know of the run.
    Raises ValueError where the decider or the trace cannot be had.
    """

    def __init__(
        self,
        config: SteerConfig,
        preset: Preset,
        inner: Inner,
        *,
        facts: Facts,
        prior: Prior,
        num_ids: int,
        width: int,
        seed: int,
        rank: int,
        device: torch.device,
        log: Log,
        run: dict[str, Any],
    ) -> None:
        self._config, self._preset, self._facts, self._prior = config, preset, facts, prior
        self._num_ids, self._rank, self._log, self._run = num_ids, rank, log, run
        policy = make_policy(config, preset, facts.capacity, num_ids, prior)
        self._recorder = Recorder(Path(config.trace), rank) if config.trace else None
        self._deciding = self._start_decider(seed) if preset.is_steered else None
        rows = (
            HostRows(facts.capacity, width)
            if config.buffer_device == "cpu"
            else DeviceRows(facts.capacity, width, device)
        )
        self._steering = Steering(policy, facts, self._deciding)
        self.rows = BufferedRows(inner, self._steering, rows, width, self._recorder)

    def _start_decider(self, seed: int) -> Inline | Worker:
        config = self._config

        def log_exchange(exchange: dict[str, Any]) -> None:
            self._log(**exchange)

        decider = make_decider(config, self._preset, self._facts, seed, log_exchange)
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
        print(f"rank {self._rank}: {text}", file=sys.stderr, flush=True)

    def report(self) -> Report:
        """Our rows and decisions so far, for ``summarize``."""
        ledger = Ledger("never") if self._deciding is None else self._deciding.ledger
        return Report(
            capacity=self._facts.capacity,
            counters=self._steering.counters,
            tally=ledger.tally,
            failures=ledger.failures,
        )

    def summarize(self, reports: Sequence[Report]) -> dict[str, Any]:
        """``buffer`` and ``decisions`` of the summary, from all ranks' reports."""
        counters, tally, failures = Counters(), Tally(), Counter[str]()
        for report in reports:
            counters += report.counters
            tally += report.tally
            failures += report.failures
        buffer = {"capacity": [report.capacity for report in reports], **asdict(counters)}
        steered = self._preset.is_steered
        return {
            "buffer": {**buffer, **counters.hit_shares()},
            "decisions": decisions(self._preset.decider, tally, failures) if steered else None,
        }

    def finish(self) -> None:
        """The run is over and all its minibatches were served: write the trace, if any."""
        if self._recorder is not None:
            run = {**self._run, "rank": self._rank, "counters": asdict(self._steering.counters)}
            self._recorder.finish(self._facts, self._num_ids, self._prior, run)

    def state(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps of us, and under which settings it holds."""
        past = {} if self._deciding is None else {"past": np.array(self._deciding.past())}
        return {"settings": np.array(json.dumps(self._settings())), **past, **self.rows.state()}

    def load(self, state: dict[str, NDArray[Any]]) -> bool:
        """Go on from ``state()``. Returns False, and starts afresh, where settings differ."""
        if str(state.pop("settings")) != json.dumps(self._settings()):
            return False
        if self._deciding is not None:
            self._deciding.recall(str(state.pop("past")))
        self.rows.load(state)
        return True

    def _settings(self) -> dict[str, Any]:
        config = self._config
        names = ("score_increment", "score_decay", "score_threshold", "interval")
        policy = {name: getattr(config, name) for name in names}
        return {
            "prefetch": config.prefetch,
            "decider": self._preset.decider,
            "capacity": self._facts.capacity,
            **policy,
        }

    def close(self) -> None:
        """End the decider and let go of what was not finished."""
        if self._deciding is not None:
            self._deciding.close()
        if self._recorder is not None:
            self._recorder.close()
