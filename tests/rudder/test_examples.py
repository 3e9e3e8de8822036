"""Examples: their labels are what a replay of either decision counts, and they repeat."""

from dataclasses import replace

from rudder.config import SteerConfig
from rudder.deciders.fixed import fixed_decider
from rudder.learn.examples import DELAYS, HORIZON, gather
from rudder.observations import Trend
from rudder.replay.runs import replay
from rudder.replay.trace import Trace
from tests.rudder.streams import make_test_trace

# With it the first setting of the score policy that is drawn is the default one.
SEED_OF_DEFAULTS = 1


def test_examples_repeat_and_are_of_both_kinds() -> None:
    traces = [make_test_trace(seed=seed) for seed in range(3)]
    examples = gather(traces, [0.05, 0.5], seed=1)
    assert examples == gather(traces, [0.05, 0.5], seed=1)
    assert examples != gather(traces, [0.05, 0.5], seed=2)
    assert {example.run for example in examples} == {"stream0", "stream1", "stream2"}
    assert {example.replace for example in examples} == {True, False}
    assert {example.kept.hits for example in examples} == set(Trend)


def test_a_first_moments_rows_are_those_of_a_replay() -> None:
    """After minibatch 0 no behaviour has done anything yet, so whole replays must agree."""
    trace = make_test_trace()
    examples = gather([trace], [0.5], seed=SEED_OF_DEFAULTS, every=1.0)
    first = next(example for example in examples if example.context.latest.minibatch == 0)
    num = 1 + HORIZON
    head = Trace(**{**vars(trace), "offsets": trace.offsets[: num + 1]})
    base = int(trace.offsets[1])  # minibatch 0 misses everything
    config = SteerConfig(prefetch="rudder", decider="always", buffer=0.5)

    def moved(decider: str) -> int:
        return replay(head, config, fixed_decider(decider)).counts.moved - base

    assert first.replaced.rows == moved("always")
    assert first.kept.rows == min(moved(f"after:{delay}") for delay in DELAYS)
    assert first.facts == replace(trace.facts, capacity=first.context.latest.capacity)
