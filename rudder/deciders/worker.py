"""Worker: a slow decider in a thread of its own. The latest snapshot wins.

    async    fetch thread:    post 4 | take: -  post 5 | take: -  post 6 | take: yes | post 7 ...
             decider thread:  [ decides on 4 ..................... yes ]                [ on 7 ...

    sync     fetch thread:    post 4 | take: waits .... yes | post 5 | take: waits ...

A decision is applied once; then the next begins, on the snapshot of the minibatch that applied it
or a later one. Nothing here ends a run: a decider that fails, is late or whose thread dies means
``keep``, is counted with its reason, and is told of once.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rudder.deciders.base import Decider
from rudder.deciders.inline import Settle, no_settling
from rudder.deciders.ledger import Ledger
from rudder.observations import Decision, Outcome, Snapshot

# What enters a buffer first stays for long, and before the first steps there is nothing to overlap
# with: up to this minibatch even asynchronous decisions are waited for, this long in all.
_EARLY, _PATIENCE_S = 16, 0.3
# How long closing waits for a thought to end by itself, and then for one that was interrupted.
_FINISH_S, _JOIN_S = 0.25, 2.0


@dataclass
class _Thought:
    """What the thread thinks about. word: decided; applied: at which minibatch; late: given up."""

    before: Snapshot
    began: float
    word: bool | None = None
    applied: int | None = None
    late: bool = False
    decided_ms: float = 0.0
    decision: Decision | None = None


class Worker:
    """Runs a decider beside the fetch thread.

    sync: every minibatch waits for the decision on the one before, at most ``timeout`` seconds.
    timeout: an answer that takes longer is not acted on, and counts as a failure.
    on_outcome: told of each decision and what came of it, by either thread.
    warn: told once, at the first failure.
    """

    def __init__(
        self,
        decider: Decider,
        *,
        sync: bool = False,
        timeout: float = 60.0,
        on_outcome: Settle = no_settling,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._decider, self._sync, self._timeout = decider, sync, timeout
        self._on_outcome, self._warn = on_outcome, warn
        self.ledger = Ledger(decider.name)
        self.looks_ahead = decider.looks_ahead
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._thought: _Thought | None = None
        self._closing, self._dead, self._patience = False, False, _PATIENCE_S
        self._thread = threading.Thread(target=self._run, name="rudder-decider", daemon=True)
        self._thread.start()

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was served; it takes the place of one that still waits to be looked at."""
        with self._changed:
            self._waiting = snapshot
            outcomes = self.ledger.see(snapshot)
            self._changed.notify_all()
        self._tell(outcomes)

    def take(self, minibatch: int) -> bool:
        """Whether to replace at this minibatch: the word of a decision that was not applied yet."""
        outcomes: list[Outcome] = []
        with self._changed:
            in_time = self._wait(minibatch)
            thought = self._thought
            if thought is None or thought.applied is not None or thought.late:
                return False
            if thought.word is None:
                if not in_time or time.perf_counter() - thought.began > self._timeout:
                    thought.late = True
                    self._fail(f"no answer within {self._timeout:g} s")
                return False
            thought.applied = minibatch
            # Posted before this word was applied: the next thought is for what comes of it.
            self._waiting = None
            if thought.decision is not None:
                outcomes = self._book(thought, thought.decision)
            self._changed.notify_all()
        self._tell(outcomes)
        return thought.word

    def past(self) -> str:
        """What the decider remembers, for a checkpoint."""
        with self._changed:
            return self.ledger.state()

    def recall(self, past: str) -> None:
        """Go on from ``past()``."""
        with self._changed:
            self.ledger.load(past)
            self._waiting = self.ledger.latest
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; a thought that takes long is interrupted, and counts for nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle, _FINISH_S)
        self._decider.interrupt()
        self._thread.join(_JOIN_S)

    def _wait(self, minibatch: int) -> bool:
        """Wait for the newest snapshot's word as long as the mode allows; whether it is there."""
        if self._sync:
            return self._changed.wait_for(self._settled, self._timeout)
        if minibatch <= _EARLY and self._patience > 0:
            began = time.perf_counter()
            self._changed.wait_for(self._settled, self._patience)
            self._patience -= time.perf_counter() - began
        return True

    def _is_idle(self) -> bool:
        return self._thought is None or self._thought.decision is not None

    def _settled(self) -> bool:
        """Whether there is nothing to wait for, or the newest snapshot's word is there."""
        thought = self._thought
        if self._dead or (thought is not None and thought.late):
            return True
        return self._waiting is None and (thought is None or thought.word is not None)

    def _run(self) -> None:
        try:
            while (thought := self._next()) is not None:
                self._think(thought)
            self._decider.close()
        except BaseException as error:
            with self._changed:
                self._dead, self._thought = True, None
                self._fail(f"the decider's thread died of {type(error).__name__}: {error}")
                self._changed.notify_all()

    def _next(self) -> _Thought | None:
        """The next thing to think about; None when closing."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._waiting is not None and self._thought is None)
            )
            if self._closing or self._waiting is None:
                return None
            self._thought = _Thought(self._waiting, time.perf_counter())
            self._waiting = None
            return self._thought

    def _think(self, thought: _Thought) -> None:
        def act(replace: bool) -> None:
            with self._changed:
                thought.word = replace
                thought.decided_ms = 1e3 * (time.perf_counter() - thought.began)
                self._changed.notify_all()

        with self._changed:
            context = self.ledger.context()
        try:
            decision = self._decider.decide(context, act)
        except Exception as error:
            self._give_up(thought, error)
            return
        if thought.word is None:
            act(decision.replace)
        outcomes: list[Outcome] = []
        with self._changed:
            self.ledger.tally.decided_ms.append(thought.decided_ms)
            self.ledger.tally.answered_ms.append(1e3 * (time.perf_counter() - thought.began))
            thought.decision = decision
            self._changed.notify_all()
            if thought.late:
                self._thought = None
            elif thought.applied is not None:
                outcomes = self._book(thought, decision)
        self._tell(outcomes)

    def _give_up(self, thought: _Thought, error: Exception) -> None:
        """The decider raised. If its word was acted on, that was a decision without an answer."""
        outcomes: list[Outcome] = []
        with self._changed:
            if self._closing:
                self._thought = None
                return
            if not thought.late:
                self._fail(f"{type(error).__name__}: {error}")
            if thought.applied is None:
                self._thought = None
            else:
                word, minibatch = bool(thought.word), thought.before.minibatch
                outcomes = self._book(
                    thought, Decision(replace=word, minibatch=minibatch, valid=False)
                )
            self._changed.notify_all()
        self._tell(outcomes)

    def _book(self, thought: _Thought, decision: Decision) -> list[Outcome]:
        """The thought is decided and applied: the next may begin."""
        assert thought.applied is not None
        self._thought = None
        self._changed.notify_all()
        return self.ledger.apply(decision, thought.before, thought.applied)

    def _fail(self, reason: str) -> None:
        first = not self.ledger.failures
        self.ledger.fail(reason)
        if first:
            self._warn(
                f"the decider {self._decider.name} failed ({reason}); training goes on and keeps "
                "the buffer as it is; further failures are counted in the summary"
            )

    def _tell(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            self._on_outcome(outcome)
