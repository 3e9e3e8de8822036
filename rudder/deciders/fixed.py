"""Fixed deciders: schedules that look at nothing but the number of the minibatch.

They count from 0, so that ``once`` and ``every:n`` replace as soon as anything was seen, while
``after:n`` lets n minibatches pass, and then always replaces.
"""

from collections.abc import Callable, Sequence

from rudder.deciders.base import Act, Decider
from rudder.observations import Action, Context, Decision


class Schedule(Decider):
    """Replaces after minibatch t where ``when(t)``."""

    looks_ahead = looks_back = False

    def __init__(self, name: str, when: Callable[[int], bool]) -> None:
        self.name, self._when = name, when

    def decide(self, context: Context, act: Act) -> Decision:
        minibatch = context.latest.minibatch
        return Decision(action=Action(self._when(minibatch)), minibatch=minibatch)


def _uniform(seed: int, minibatch: int) -> float:
    """A number in [0, 1) that depends on its arguments alone (SplitMix64, Steele et al. 2014)."""
    mask = 2**64 - 1
    z = (seed * 0xD1342543DE82EF95 + (minibatch + 1) * 0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return float((z ^ (z >> 31)) >> 11) / 2.0**53


def fixed_decider(name: str, seed: int = 0) -> Schedule:
    """``never``, ``always``, ``once``, ``every:N``, ``after:N`` or ``random:P``, or ValueError."""
    kind, _, argument = name.partition(":")
    if kind in ("every", "after"):
        try:
            number = int(argument)
        except ValueError:
            number = 0
        if number < 1:
            raise ValueError(f"--decider {name}: expected {kind}:N with N at least 1")
        if kind == "every":
            return Schedule(name, lambda minibatch: minibatch % number == 0)
        return Schedule(name, lambda minibatch: minibatch >= number)
    if kind == "random":
        try:
            share = float(argument)
        except ValueError:
            share = -1.0
        if not 0 <= share <= 1:
            raise ValueError(f"--decider {name}: expected random:P with P from 0 to 1")
        return Schedule(name, lambda minibatch: _uniform(seed, minibatch) < share)
    whens: dict[str, Callable[[int], bool]] = {
        "never": lambda minibatch: False,
        "always": lambda minibatch: True,
        "once": lambda minibatch: minibatch == 0,
    }
    if name not in whens:
        raise ValueError(
            f"--decider {name}: expected never, always, once, every:N, after:N, random:P, llm, "
            "mlp, tabnet, lr, rf, svm or xgb"
        )
    return Schedule(name, whens[name])


def recorded_decider(replace: Sequence[bool]) -> Schedule:
    """Replaces at the minibatches where a recorded run did: ``replace[t]`` is minibatch t's."""
    return Schedule(
        "recorded", lambda minibatch: minibatch + 1 < len(replace) and bool(replace[minibatch + 1])
    )
