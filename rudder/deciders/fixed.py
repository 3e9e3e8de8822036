"""Fixed deciders: a formula in the number of the minibatch, or in what its minibatches took.

Schedules count from 0, so that ``once`` and ``every:n`` replace as soon as anything was seen, while
``after:n`` lets n minibatches pass, and then always replaces.

The rule, the yardstick of ``--steer size``, goes by means over the latest minibatches of one size,
so that a single large minibatch changes nothing:

    grow      where fetching took longer than computing, and the limit allows it
    shrink    where fetching took less than computing / MARGIN
    keep      between the two, while a change of size is too recent to show, or where times are not
              known
"""

import statistics
from collections.abc import Callable, Sequence

from rudder.deciders.base import Act, Decider
from rudder.observations import Action, Context, Decision

# A step up or down changes rows moved by less than this factor on the graphs that were measured,
# so that a size which is left does not become right again by being left.
MARGIN = 1.5
# Minibatches of one size before it is judged.
_SETTLE = 4


class Formula(Decider):
    """Decides by a function of what it is shown; states no expectation of %-Hits."""

    looks_ahead = False

    def __init__(self, name: str, choose: Callable[[Context], Action]) -> None:
        self.name, self._choose = name, choose

    def decide(self, context: Context, act: Act) -> Decision:
        return Decision(action=self._choose(context), minibatch=context.latest.minibatch)


def _schedule(name: str, when: Callable[[int], bool]) -> Formula:
    """Replaces after minibatch t where ``when(t)``."""
    return Formula(name, lambda context: Action(when(context.latest.minibatch)))


def _uniform(seed: int, minibatch: int) -> float:
    """A number in [0, 1) that depends on its arguments alone (SplitMix64, Steele et al. 2014)."""
    mask = 2**64 - 1
    z = (seed * 0xD1342543DE82EF95 + (minibatch + 1) * 0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return float((z ^ (z >> 31)) >> 11) / 2.0**53


def fixed_decider(name: str, seed: int = 0) -> Formula:
    """``never``, ``always``, ``once``, ``every:N``, ``after:N`` or ``random:P``, or ValueError."""
    kind, _, argument = name.partition(":")
    is_random = kind == "random"
    try:
        number = float(argument) if is_random else int(argument)
    except ValueError:
        number = -1
    whens: dict[str, Callable[[int], bool]] = {
        "never": lambda minibatch: False,
        "always": lambda minibatch: True,
        "once": lambda minibatch: minibatch == 0,
        "every": lambda minibatch: minibatch % number == 0,
        "after": lambda minibatch: minibatch >= number,
        "random": lambda minibatch: _uniform(seed, minibatch) < number,
    }
    if kind in ("every", "after") and number < 1:
        raise ValueError(f"--decider {name}: expected {kind}:N with N at least 1")
    if is_random and not 0 <= number <= 1:
        raise ValueError(f"--decider {name}: expected random:P with P from 0 to 1")
    if kind not in whens or (":" in name and kind in ("never", "always", "once")):
        raise ValueError(
            f"--decider {name}: expected never, always, once, every:N, after:N, random:P, llm, "
            "mlp, tabnet, lr, rf, svm or xgb"
        )
    return _schedule(name, whens[kind])


def recorded_decider(replace: Sequence[bool]) -> Formula:
    """Replaces at the minibatches where a recorded run did: ``replace[t]`` is minibatch t's."""
    return _schedule("recorded", lambda t: t + 1 < len(replace) and bool(replace[t + 1]))


def rule_decider() -> Formula:
    """The rule of the buffer's size."""
    return Formula("rule", _size)


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
