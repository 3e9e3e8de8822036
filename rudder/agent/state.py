"""The state: the part of a prompt that changes, in words that a tiny model can read.

Each number stands beside a word for its bucket: a model of 0.2M parameters learns words in seconds
and bare digits only in minutes. The embedded model reads this section alone, and is distilled on
it: whatever changes here makes a new embedded model necessary.

    ### state
    past
    9 ago replace hit +4 (rising) moved -11 (plunging) hoped increase missed
    4 ago keep hit -1 (steady) moved +2 (rising) hoped stagnant met
    mean of 12 replace hit +3 (rising) moved -4 (falling)
    mean of 20 keep hit -1 (steady) moved +1 (steady)
    now
    done 41 (many) left 159 (many) since 5 (some) spent 3 (low)
    reach 240 (over) filled 100 (full) replaced 4 (low)
    stale 12 (some) candidates 35 (half) swap 29 (some) proven 80 (high)
    moved 1204 rows 39 (half, rising) halo 66 (high)
    hit 61 (high, falling) jitter 2 (low) next2 63 (+2 rising)
"""

from collections.abc import Iterator

from rudder.agent.metrics import Effect, Metrics
from rudder.observations import STAGNANT_POINTS, Action, Outcome

STATE_MARK = "### state\n"
_FAST_POINTS = 5.0
# (word, upper bound): the first whose bound the value does not reach.
_LEVELS = (
    ("none", 0.5),
    ("low", 10.0),
    ("some", 30.0),
    ("half", 60.0),
    ("high", 90.0),
    ("full", 150.0),
)
_COUNTS = (("none", 1), ("one", 2), ("few", 5), ("some", 17))


def level(value: float) -> str:
    """none, low, some, half, high, full or over: a share in percent."""
    return next((word for word, bound in _LEVELS if value < bound), "over")


def amount(count: int) -> str:
    """none, one, few, some or many minibatches."""
    return next((word for word, bound in _COUNTS if count < bound), "many")


def motion(change: float) -> str:
    """plunging, falling, steady, rising or soaring: a change in points, or in percent.

    steady is what ``snapshot`` calls stagnant.
    """
    if abs(change) <= STAGNANT_POINTS:
        return "steady"
    slow, fast = ("rising", "soaring") if change > 0 else ("falling", "plunging")
    return fast if abs(change) > _FAST_POINTS else slow


def _signed(change: float) -> str:
    return f"{round(max(-999.0, min(change, 999.0))):+d}"


def _share(name: str, value: float, change: float | None = None) -> str:
    moving = "" if change is None else f", {motion(change)}"
    return f"{name} {round(value)} ({level(value)}{moving})"


def _shares(m: Metrics, *names: str) -> str:
    values = {name: getattr(m, f"{name}_pct") for name in names}
    return " ".join(
        f"{name} unknown" if value is None else _share(name, value)
        for name, value in values.items()
    )


def _count(name: str, count: int | None) -> str:
    return f"{name} never" if count is None else f"{name} {count} ({amount(count)})"


def _changes(of: Outcome | Effect) -> str:
    hits = f"hit {_signed(of.hits_change)} ({motion(of.hits_change)})"
    return f"{hits} moved {_signed(of.moved_change)} ({motion(of.moved_change)})"


def _past(m: Metrics) -> Iterator[str]:
    for outcome in m.past:
        decision, ago = outcome.decision, m.now.minibatch - outcome.applied
        hoped = f" hoped {decision.expect_hits}" if decision.expect_hits else ""
        end = "met" if outcome.passed else "missed"
        yield f"{ago} ago {decision.action.word} {_changes(outcome)}{hoped} {end}"
    if not m.past:
        yield "none"
    for action in (Action.REPLACE, Action.GROW, Action.SHRINK, Action.KEEP):
        if effect := m.effects.get(action):
            yield f"mean of {effect.count} {action.word} {_changes(effect)}"


def _done(m: Metrics) -> str:
    return f"{_count('done', m.now.minibatch + 1)} {_count('left', m.now.left)}"


def _moved(m: Metrics) -> str:
    return _share(f"moved {m.now.moved} rows", m.moved_pct, m.moved_change)


def _hits(m: Metrics) -> str:
    ahead = "next2 unknown"
    if m.now.ahead_hits_pct is not None and m.ahead_change is not None:
        shift = f"{_signed(m.ahead_change)} {motion(m.ahead_change)}"
        ahead = f"next2 {round(m.now.ahead_hits_pct)} ({shift})"
    hits = _share("hit", m.now.hits_pct, m.hits_change)
    return f"{hits} {_share('jitter', m.jitter)} {ahead}"


def _section(m: Metrics, *figures: str) -> str:
    return "\n".join([STATE_MARK + "past", *_past(m), "now", *figures])


def size_section(m: Metrics) -> str:
    """The section of ``--steer size``; the embedded model is not distilled on it."""
    sizes = _shares(m, "size", "filled", "reach", "fetch")
    return _section(m, _done(m), sizes, _moved(m), _hits(m))


def state_section(m: Metrics) -> str:
    """The section of ``--steer rows``, as in the file's docstring."""
    since = f"{_done(m)} {_count('since', m.since)}"
    return _section(
        m,
        since if m.spent_pct is None else f"{since} {_shares(m, 'spent')}",
        _shares(m, "reach", "filled", "replaced"),
        _shares(m, "stale", "candidates", "swap", "proven"),
        f"{_moved(m)} {_share('halo', m.now.halo_hits_pct)}",
        _hits(m),
    )
