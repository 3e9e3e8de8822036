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

from rudder.agent.context import Effect, History, Past
from rudder.agent.metrics import Metrics
from rudder.observations import STAGNANT_POINTS, Action

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


def _share(name: str, value: float) -> str:
    return f"{name} {round(value)} ({level(value)})"


def _changes(of: Past | Effect) -> str:
    hits = f"hit {_signed(of.hits_change)} ({motion(of.hits_change)})"
    return f"{hits} moved {_signed(of.moved_change)} ({motion(of.moved_change)})"


def _told(past: Past) -> str:
    word = past.action.word
    hoped = f" hoped {past.expected}" if past.expected else ""
    return f"{past.ago} ago {word} {_changes(past)}{hoped} {'met' if past.passed else 'missed'}"


def _past_lines(history: History) -> list[str]:
    lines = [_told(past) for past in history.past] or ["none"]
    for action in (Action.REPLACE, Action.GROW, Action.SHRINK, Action.KEEP):
        effect = history.effects.get(action)
        if effect is not None:
            lines.append(f"mean of {effect.count} {action.word} {_changes(effect)}")
    return lines


def _moved(m: Metrics) -> str:
    share = f"{round(m.moved_pct)} ({level(m.moved_pct)}, {motion(m.moved_change)})"
    return f"moved {m.moved} rows {share}"


def _hits(m: Metrics) -> str:
    ahead = "next2 unknown"
    if m.ahead_pct is not None and m.ahead_change is not None:
        shift = f"{_signed(m.ahead_change)} {motion(m.ahead_change)}"
        ahead = f"next2 {round(m.ahead_pct)} ({shift})"
    hits = f"hit {round(m.hits_pct)} ({level(m.hits_pct)}, {motion(m.hits_change)})"
    return f"{hits} {_share('jitter', m.jitter)} {ahead}"


def size_section(metrics: Metrics, history: History) -> str:
    """The section of ``--steer size``: the same past, and the figures that a size hangs on.

    The embedded model is not distilled on it.
    """
    m = metrics
    fetch = "fetch unknown" if m.fetch_pct is None else _share("fetch", m.fetch_pct)
    size = "size unknown" if m.size_pct is None else _share("size", m.size_pct)
    lines = [
        *_past_lines(history),
        "now",
        f"done {m.done} ({amount(m.done)}) left {m.left} ({amount(m.left)})",
        f"{size} {_share('filled', m.filled_pct)} {_share('reach', m.reach_pct)} {fetch}",
        _moved(m),
        _hits(m),
    ]
    return STATE_MARK + "past\n" + "\n".join(lines)


def state_section(metrics: Metrics, history: History) -> str:
    """The section, from its mark to its last line; the grammar is in the file's docstring."""
    m, lines = metrics, _past_lines(history)
    since = "since never" if m.since is None else f"since {m.since} ({amount(m.since)})"
    spent = "" if m.spent_pct is None else f" {_share('spent', m.spent_pct)}"
    gives = f"{_share('stale', m.stale_pct)} {_share('candidates', m.candidates_pct)}"
    lines += [
        "now",
        f"done {m.done} ({amount(m.done)}) left {m.left} ({amount(m.left)}) {since}{spent}",
        f"{_share('reach', m.reach_pct)} {_share('filled', m.filled_pct)} "
        f"{_share('replaced', m.replaced_pct)}",
        f"{gives} {_share('swap', m.swap_pct)} {_share('proven', m.proven_pct)}",
        f"{_moved(m)} {_share('halo', m.halo_hits_pct)}",
        _hits(m),
    ]
    return STATE_MARK + "past\n" + "\n".join(lines)
