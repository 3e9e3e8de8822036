"""play: a recorded run once more, minibatch by minibatch, without any row."""

from collections.abc import Iterator

from rudder.observations import Snapshot
from rudder.planner import Steering
from rudder.replay.trace import Trace


def play(
    steering: Steering, trace: Trace, first: int = 0, last: int | None = None
) -> Iterator[Snapshot]:
    """Steer through minibatches ``first`` to ``last`` (the end where None) as training would.

    Start from 0 with a new Steering, or go on from where one (or its fork) stopped.
    """
    if first == 0:
        steering.start()
    last = trace.num_minibatches if last is None else min(last, trace.num_minibatches)
    foreseen = first + steering.num_foreseen
    for minibatch in range(first, last):
        while foreseen < min(minibatch + steering.window + 1, trace.num_minibatches):
            steering.foresee(trace.minibatch(foreseen))
            foreseen += 1
        epoch, step = divmod(minibatch, trace.facts.minibatches_per_epoch)
        steering.plan(trace.minibatch(minibatch), epoch, step)
        yield steering.commit()
