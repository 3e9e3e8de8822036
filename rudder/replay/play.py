"""play: a recorded run once more, minibatch by minibatch, without any row."""

from collections.abc import Iterator

from rudder.buffer.index import Ids
from rudder.observations import Snapshot
from rudder.planner import Plan, Planner
from rudder.replay.trace import Trace


def play(
    planner: Planner, trace: Trace, first: int = 0, last: int | None = None
) -> Iterator[Snapshot]:
    """Steer through minibatches ``first`` to ``last`` (the end where None) as training would.

    Start from 0 with a new Planner, or go on from where one (or its fork) stopped.
    """
    for _, plan in plans(planner, trace, first, last):
        yield plan.snapshot


def plans(
    planner: Planner, trace: Trace, first: int = 0, last: int | None = None
) -> Iterator[tuple[Ids, Plan]]:
    """``play``: each minibatch's remote ids, and what was planned for it."""
    if first == 0:
        planner.start()
    last = trace.num_minibatches if last is None else min(last, trace.num_minibatches)
    foreseen = first + planner.num_foreseen
    for minibatch in range(first, last):
        while foreseen < min(minibatch + planner.window + 1, trace.num_minibatches):
            planner.foresee(trace.minibatch(foreseen))
            foreseen += 1
        epoch, step = divmod(minibatch, trace.facts.minibatches_per_epoch)
        ids = trace.minibatch(minibatch)
        yield ids, planner.plan(ids, epoch, step)
