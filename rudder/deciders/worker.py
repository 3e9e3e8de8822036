"""Who asks a decider: Inline at once, Worker in a thread, where the latest snapshot wins.

    async    fetch thread:    post 4 | take: -  post 5 | take: -  post 6 | take: yes | post 7 ...
             decider thread:  [ decides on 4 ..................... yes ]                [ on 7 ...

    sync     fetch thread:    post 4 | take: waits .... yes | post 5 | take: waits ...

A decision is applied once; then the next begins, on the snapshot of the minibatch that applied it
or a later one. Nothing here ends a run: a decider that fails, is late or whose thread dies means
``keep``, is counted with its reason, and is logged once.
"""

import threading
import time
from dataclasses import dataclass

from rudder.deciders.base import Decider
from rudder.deciders.ledger import Ledger, Log, unlogged
from rudder.observations import Action, Decision, Snapshot

# The first rows to enter a buffer stay for long, and before the first steps there is no training to
# overlap with: up to this minibatch even asynchronous decisions are waited for, this long in all.
_EARLY, _PATIENCE_S = 16, 0.3
# How long closing waits for a decision to end by itself, and then for one that was interrupted.
_FINISH_S, _JOIN_S = 0.25, 2.0


class Inline:
    """Asks a quick decider at every minibatch, in the thread that fetches. A failure counts, and
    means to keep.   log: as ``Ledger``'s."""

    def __init__(self, decider: Decider, log: Log = unlogged) -> None:
        self._decider, self.ledger = decider, Ledger(decider.name, log)
        self.looks_ahead = decider.looks_ahead

    def take(self, minibatch: int) -> Action:
        """What to do at this minibatch, decided on the one before."""
        before = self.ledger.latest
        if before is None:
            return Action.KEEP
        try:
            decision = self.ledger.ask(self._decider, self.ledger.context(), lambda action: None)
        except Exception as error:
            self.ledger.fail(f"{type(error).__name__}: {error}")
            return Action.KEEP
        self.ledger.apply(decision, before, minibatch)
        return decision.action

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was served."""
        self.ledger.see(snapshot)

    def state(self) -> str:
        """What the decider remembers, for a checkpoint."""
        return self.ledger.state()

    def load(self, state: str) -> None:
        """Go on from ``state()``."""
        self.ledger.load(state)

    def close(self) -> None:
        """Let the decider release what it holds."""
        self._decider.close()


@dataclass
class _Question:
    """What the thread decides on. action: the decision's; applied: at which minibatch; late: nobody
    waits for it any more."""

    before: Snapshot
    began: float
    action: Action | None = None
    applied: int | None = None
    late: bool = False
    decision: Decision | None = None


class Worker:
    """Runs a decider beside the fetch thread.

    sync: every minibatch waits for the decision on the one before, at most ``timeout`` seconds.
    timeout: an answer that takes longer is not acted on, and counts as a failure.
    log: as ``Ledger``'s; called by either thread.
    """

    def __init__(
        self, decider: Decider, log: Log = unlogged, *, sync: bool = False, timeout: float = 60.0
    ) -> None:
        self._decider, self._sync, self._timeout = decider, sync, timeout
        self.ledger = Ledger(decider.name, log)
        self.looks_ahead = decider.looks_ahead
        self._changed = threading.Condition()
        self._waiting: Snapshot | None = None
        self._question: _Question | None = None
        # No more is asked: the thread is to end, or has died.
        self._closing, self._patience = False, _PATIENCE_S
        self._thread = threading.Thread(target=self._run, name="rudder-decider", daemon=True)
        self._thread.start()

    def post(self, snapshot: Snapshot) -> None:
        """A minibatch was served; it takes the place of one that still waits to be looked at."""
        with self._changed:
            self._waiting = snapshot
            self.ledger.see(snapshot)
            self._changed.notify_all()

    def take(self, minibatch: int) -> Action:
        """What to do at this minibatch, by a decision that was not applied yet."""
        with self._changed:
            in_time = self._wait(minibatch)
            question = self._question
            if question is None or question.applied is not None or question.late:
                return Action.KEEP
            if question.action is None:
                if not in_time or time.perf_counter() - question.began > self._timeout:
                    question.late = True
                    self.ledger.fail(f"no answer within {self._timeout:g} s")
                return Action.KEEP
            question.applied = minibatch
            # Posted before this action was taken: the next decision is on what comes of it.
            self._waiting = None
            self._settle(question)
            return question.action

    def state(self) -> str:
        """What the decider remembers, for a checkpoint."""
        with self._changed:
            return self.ledger.state()

    def load(self, state: str) -> None:
        """Go on from ``state()``."""
        with self._changed:
            self.ledger.load(state)
            self._waiting = self.ledger.latest
            self._changed.notify_all()

    def close(self) -> None:
        """End the thread; a decision that takes long is interrupted, and counts for nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(self._is_idle, _FINISH_S)
        self._decider.interrupt()
        self._thread.join(_JOIN_S)

    def _wait(self, minibatch: int) -> bool:
        """Wait for the newest snapshot's action as long as the mode allows; whether it is there."""
        if self._sync:
            return self._changed.wait_for(self._settled, self._timeout)
        if minibatch <= _EARLY and self._patience > 0:
            began = time.perf_counter()
            self._changed.wait_for(self._settled, self._patience)
            self._patience -= time.perf_counter() - began
        return True

    def _is_idle(self) -> bool:
        return self._question is None or self._question.decision is not None

    def _settled(self) -> bool:
        """Whether there is nothing to wait for, or the newest snapshot's action is there."""
        question = self._question
        if self._closing or (question is not None and question.late):
            return True
        return self._waiting is None and (question is None or question.action is not None)

    def _run(self) -> None:
        try:
            while (question := self._next()) is not None:
                self._answer(question)
            self._decider.close()
        except BaseException as error:
            with self._changed:
                self._closing, self._question = True, None
                self.ledger.fail(f"the decider's thread died of {type(error).__name__}: {error}")
                self._changed.notify_all()

    def _next(self) -> _Question | None:
        """The next thing to decide on; None when closing."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._waiting is not None and self._question is None)
            )
            if self._closing or self._waiting is None:
                return None
            self._question = _Question(self._waiting, time.perf_counter())
            self._waiting = None
            return self._question

    def _answer(self, question: _Question) -> None:
        def act(action: Action) -> None:
            with self._changed:
                question.action = action
                self._changed.notify_all()

        with self._changed:
            context = self.ledger.context()
        failure = None
        try:
            decision = self.ledger.ask(self._decider, context, act)
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            # If its word was acted on, that was a decision without an answer.
            action, minibatch = question.action or Action.KEEP, question.before.minibatch
            decision = Decision(action=action, minibatch=minibatch, valid=False)
        with self._changed:
            question.decision = decision
            if failure is not None:
                if not question.late and not self._closing:
                    self.ledger.fail(failure)
                question.late |= question.applied is None or self._closing
            self._settle(question)

    def _settle(self, question: _Question) -> None:
        """Where the answer is there, and applied or of no use, the next question may be asked."""
        if question.decision is None:
            return
        if question.late or question.applied is not None:
            self._question = None
        if question.applied is not None and not question.late:
            self.ledger.apply(question.decision, question.before, question.applied)
        self._changed.notify_all()
