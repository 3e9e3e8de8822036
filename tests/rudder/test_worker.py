"""The decider's thread: the latest snapshot wins, a word is applied once, failures stay inside."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from rudder.deciders.base import Act, Decider
from rudder.deciders.fixed import fixed_decider
from rudder.deciders.worker import Inline, Worker
from rudder.observations import Action, Context, Decision, Trend
from tests.rudder.contexts import snapshot

WAIT_S = 5.0


def replacing(context: Context, act: Act) -> Decision:
    return Decision(
        action=Action.REPLACE, minibatch=context.latest.minibatch, expect_hits=Trend.INCREASE
    )


class Scripted(Decider):
    """Says what ``body`` does after ``gate`` opens, for so many times; remembers what it saw."""

    name = "scripted"
    slow = True

    def __init__(
        self, body: Callable[[Context, Act], Decision] = replacing, times: int = 0
    ) -> None:
        self.gate, self.seen, self.closed = threading.Semaphore(times), list[int](), False
        self._body = body

    def decide(self, context: Context, act: Act) -> Decision:
        self.seen.append(context.latest.minibatch)
        assert self.gate.acquire(timeout=WAIT_S)
        return self._body(context, act)

    def close(self) -> None:
        self.closed = True


class Told:
    """A log: ``events`` with their fields."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


@contextmanager
def working(decider: Decider, **settings: Any) -> Iterator[Worker]:
    worker = Worker(decider, **settings)
    try:
        yield worker
    finally:
        worker.close()


def drive(asked: Worker | Inline, count: int) -> list[bool]:
    """What is taken at each of the first minibatches."""
    taken = []
    for minibatch in range(count):
        taken.append(bool(asked.take(minibatch)))
        asked.post(snapshot(minibatch, hits=40 + minibatch))
    return taken


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.001)


def test_latest_snapshot_wins_and_a_word_is_applied_once() -> None:
    decider, log = Scripted(), Told()
    with working(decider, log=log) as worker:
        assert not worker.take(0)
        worker.post(snapshot(0))
        until(lambda: decider.seen == [0])
        for minibatch in (1, 2, 3):
            assert not worker.take(minibatch)
            worker.post(snapshot(minibatch))
        decider.gate.release()
        until(lambda: bool(worker.ledger.tally.answered_ms))
        # 3 waits, but 4 applies the word: the next thought is about what 4 shows.
        assert worker.take(4)
        assert not worker.take(4)
        worker.post(snapshot(4, hits=60))
        until(lambda: decider.seen == [0, 4])
        worker.post(snapshot(5, hits=70))
        (told,), (outcome,) = log.of("decision"), worker.ledger.context().outcomes
        assert (told["minibatch"], told["applied"], outcome.after.minibatch) == (0, 4, 5)
        assert told["passed"]
        decider.gate.release()
        until(lambda: len(worker.ledger.tally.answered_ms) == 2)
        assert worker.take(6)
        assert worker.ledger.tally.count == 2
        assert worker.ledger.tally.gaps == [2]
    assert decider.closed


def test_the_word_is_acted_on_before_the_answer_ends() -> None:
    tail, log = threading.Event(), Told()

    def body(context: Context, act: Act) -> Decision:
        act(Action.REPLACE)
        assert tail.wait(WAIT_S)
        return Decision(
            action=Action.REPLACE, minibatch=context.latest.minibatch, reason="late words"
        )

    with working(Scripted(body, times=1), log=log) as worker:
        worker.post(snapshot(0))
        until(lambda: bool(worker.take(1)))
        worker.post(snapshot(1))
        worker.post(snapshot(2))
        assert not log.events
        tail.set()
        until(lambda: bool(log.events))
        assert log.of("decision")[0]["reason"] == "late words"
        assert worker.ledger.tally.decided_ms[0] < worker.ledger.tally.answered_ms[0]


def test_the_first_minibatches_wait_for_decisions_but_not_for_long() -> None:
    def slow(context: Context, act: Act) -> Decision:
        time.sleep(0.04)
        return replacing(context, act)

    with working(Scripted(slow, times=40)) as worker:
        began = time.monotonic()
        taken = drive(worker, 16)
        assert taken[:4] == [False, True, True, True]
        assert not all(taken[1:]), "decisions of 0.6 s are not all waited for"
        assert 0.12 < time.monotonic() - began < 0.5
    with working(Scripted()) as late:
        late.post(snapshot(99))
        began = time.monotonic()
        assert not late.take(100)
        assert time.monotonic() - began < 0.1


def test_sync_waits_for_the_decision_on_every_minibatch() -> None:
    with working(Scripted(times=20), sync=True) as worker:
        assert drive(worker, 10) == [False] + [True] * 9
        assert worker.ledger.tally.gaps == [1] * 8


@pytest.mark.parametrize("sync", [False, True])
def test_a_late_answer_is_dropped_and_counted(sync: bool) -> None:
    decider, log = Scripted(), Told()
    with working(decider, sync=sync, timeout=0.05, log=log) as worker:
        worker.post(snapshot(0))
        until(lambda: decider.seen == [0])
        time.sleep(0.06)
        assert not worker.take(1)
        began = time.monotonic()
        for minibatch in range(2, 12):
            worker.post(snapshot(minibatch))
            assert not worker.take(minibatch)
        assert time.monotonic() - began < 0.04, "a late answer is waited for once"
        assert dict(worker.ledger.failures) == {"no answer within 0.05 s": 1}
        decider.gate.release()
        until(lambda: decider.seen == [0, 11])
        decider.gate.release()
        until(lambda: bool(worker.take(12)))
        assert len(log.of("decider failed")) == 1


def test_failures_are_counted_by_reason_and_told_of_once() -> None:
    def body(context: Context, act: Act) -> Decision:
        if context.latest.minibatch < 5:
            raise RuntimeError("no memory")
        return replacing(context, act)

    log = Told()
    with working(Scripted(body, times=100), sync=True, log=log) as worker:
        assert drive(worker, 8) == [False] * 6 + [True, True]
        assert dict(worker.ledger.failures) == {"RuntimeError: no memory": 5}
        (told,) = log.of("decider failed")
        assert "no memory" in told["error"]
        assert "training goes on" in told["error"]


def test_a_failure_after_its_word_was_applied_is_an_invalid_decision() -> None:
    tail = threading.Event()

    def body(context: Context, act: Act) -> Decision:
        act(Action.REPLACE)
        assert tail.wait(WAIT_S)
        raise RuntimeError("cut off")

    with working(Scripted(body, times=1)) as worker:
        worker.post(snapshot(0))
        until(lambda: bool(worker.take(1)))
        tail.set()
        until(lambda: worker.ledger.tally.count == 1)
        assert (worker.ledger.tally.valid, worker.ledger.tally.replace) == (0, 1)
        assert dict(worker.ledger.failures) == {"RuntimeError: cut off": 1}


@pytest.mark.parametrize("sync", [False, True])
def test_a_dead_thread_means_keep_and_nobody_waits(sync: bool) -> None:
    def body(context: Context, act: Act) -> Decision:
        raise SystemExit("the thread ends")

    log = Told()
    with working(Scripted(body, times=1), sync=sync, log=log) as worker:
        worker.post(snapshot(0))
        until(lambda: bool(worker.ledger.failures))
        began = time.monotonic()
        assert not any(drive(worker, 20))
    assert time.monotonic() - began < 1.0
    assert "died of SystemExit" in log.of("decider failed")[0]["error"]


def test_closing_does_not_wait_for_a_thought() -> None:
    with working(Scripted()) as worker:
        worker.post(snapshot(0))
        began = time.monotonic()
    assert time.monotonic() - began < WAIT_S


def test_inline_decides_on_the_minibatch_before() -> None:
    def body(context: Context, act: Act) -> Decision:
        if context.latest.minibatch == 1:
            raise KeyError("gone")
        return Decision(action=Action(context.latest.minibatch % 2 == 0), minibatch=0)

    inline = Inline(Scripted(body, times=9))
    assert drive(inline, 6) == [False, True, False, True, False, True]
    assert inline.ledger.tally.count == 4
    assert dict(inline.ledger.failures) == {"KeyError: 'gone'": 1}


def test_a_ledger_remembers_through_a_checkpoint() -> None:
    with working(Scripted(times=20), sync=True) as worker:
        drive(worker, 8)
        past, context = worker.state(), worker.ledger.context()
    decider = Scripted()
    with working(decider) as again:
        again.load(past)
        assert again.ledger.context() == context
        until(lambda: decider.seen == [7])
        assert len(context.outcomes) == 6
    (outcome, *_) = again.ledger.context().outcomes
    assert isinstance(outcome.decision.action, Action)


@pytest.mark.parametrize(
    ("name", "replaced"),
    [
        ("never", []),
        ("always", [0, 1, 2, 3, 4, 5, 6]),
        ("once", [0]),
        ("every:3", [0, 3, 6]),
        ("after:4", [4, 5, 6]),
        ("random:0", []),
        ("random:1", [0, 1, 2, 3, 4, 5, 6]),
    ],
)
def test_schedules(name: str, replaced: list[int]) -> None:
    decider = fixed_decider(name)
    contexts = [Context(recent=[snapshot(minibatch)]) for minibatch in range(7)]
    decisions = [decider.decide(context, lambda word: None) for context in contexts]
    assert [one.minibatch for one in decisions if one.replace] == replaced
