"""Rule: the size of a buffer by a formula, the yardstick of ``--steer size``.

    grow      where fetching took longer than computing, and the limit allows it
    shrink    where fetching took less than computing / MARGIN
    keep      between the two, while a change of size is too recent to show, or where times are not
              known

Fetching and computing are means over the latest minibatches of one size, so that a single large
minibatch changes nothing.
"""

import statistics

from rudder.deciders.base import Act, Decider
from rudder.observations import Action, Context, Decision

# A step up or down changes rows moved by less than this factor on the graphs that were measured,
# so that a size which is left does not become right again by being left.
MARGIN = 1.5
# Minibatches of one size before it is judged.
_SETTLE = 4


class RuleDecider(Decider):
    """Decides by the formula above; states no expectation of %-Hits."""

    name = "rule"
    looks_ahead = False

    def decide(self, context: Context, act: Act) -> Decision:
        return Decision(action=_size(context), minibatch=context.latest.minibatch)


def _size(context: Context) -> Action:
    seen, now = context.recent[-_SETTLE:], context.latest
    capacities = {snapshot.capacity for snapshot in seen}
    if len(seen) < _SETTLE or len(capacities) > 1 or now.fetch_ms < 0:
        return Action.KEEP
    fetch = statistics.fmean([snapshot.fetch_ms for snapshot in seen])
    compute = statistics.fmean([snapshot.compute_ms for snapshot in seen])
    if fetch > compute:
        return Action.GROW if now.capacity < now.limit else Action.KEEP
    return Action.SHRINK if fetch < compute / MARGIN else Action.KEEP
