"""Claims: sentences of the paper, and what the rows that were measured here say of them.

A sentence is checked by ``FIGURE [FILTER...] TERM... [max | min | range] SIGN BOUND``:

    epoch_s agent/fixed < -1            epochs of agents are over 1% shorter than fixed's
    hits_pct buffer=0.05 tuned-mlp > 1  %-Hits are over a point higher, with this buffer
    moved_pct ranks^ < 0                with most ranks against fewest, in percent
    pass_at_1 best:agent-mlp min > 0    the best on each graph, on all graphs
    valid_pct agent max > classifier    a figure as it is; the bound is that of others

Variants, kinds of them or modes (``a+b``: both) are compared in cells that are else the same. The
median of all terms counts, or what else is named (``~``: its distance from 0). A percent, or a
point, is the least that can be told from no change.
"""

import operator
import re
import tomllib
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, product
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.command import Row

Rows = Sequence[Row]
HOLDS, PARTLY, FAILS, UNKNOWN = "holds", "holds in part", "does not hold", "not measured"
# The words of the exhibits; and what figures of a row are called, if not as their keys.
WORDS = tomllib.loads((Path(__file__).parent / "exhibits.toml").read_text())
HEADINGS: dict[str, str] = WORDS["headings"]
_CELL = ("graph", "ranks", "buffer", "batch", "mode", "live", "variant")
_SIGNS: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, ">": operator.gt}
_SIGNS |= {"=": operator.eq, "!": operator.ne, "~": lambda value, bound: abs(value) < bound}
_BEYOND = {"<": "below", ">": "above", "~": "within"}
_OF: dict[str, Callable[[list[float]], float]] = {"median": median, "max": max, "min": min}
_OF |= {"range": lambda found: max(found) - min(found)}


def verdict(holds: Iterable[bool | None]) -> str:
    """One for all claims that could be measured; None: it could not be."""
    known = {*holds} - {None}
    return PARTLY if len(known) > 1 else HOLDS if True in known else FAILS if known else UNKNOWN


def pick(rows: Iterable[Row], who: str = "", **where: object) -> list[Row]:
    """The measured rows with these values.   who: variants, kinds or modes, with + between."""
    return [
        row
        for row in rows
        if not row.get("missing")
        and (not who or {*who.split("+")} & {row.get(key) for key in ("variant", "kind", "mode")})
        and all(row.get(key) == value for key, value in where.items())
    ]


def values(rows: Iterable[Row], key: str) -> list[Any]:
    return [row[key] for row in pick(rows) if row.get(key) is not None]


def compare(first: Rows, second: Rows, key: str, but: str, percent: bool = True) -> list[float]:
    """By how many percent (or points) a figure is above that of the cell that is else the same."""
    same = [name for name in _CELL if name != but]
    couples = [
        (one[key], other[key])
        for one, other in product(first, second)
        if all(one.get(name) == other.get(name) for name in same)
        and None not in (one.get(key), other.get(key))
    ]
    if percent:
        return [100 * (one / other - 1) for one, other in couples if other]
    return [one - other for one, other in couples]


def judge(check: str, rows: Rows) -> tuple[str, bool | None]:
    """What was measured here, and whether it passes; None where a term was not measured."""
    key, *words, sign, bound = check.split()
    of, found = "median", dict[str, list[float]]()
    for word in words if _is_number(bound) else [*words, bound]:
        filtering = re.fullmatch(r"(\w+)([=<>!])(.+)", word)
        if word in _OF:
            of = word
        elif filtering:
            rows = _filtered(rows, *filtering.groups())
        else:
            found[word] = _term(rows, key, word)
    here = f"{HEADINGS.get(key, key)}, "
    here += "; ".join(f"{_named(word)}: {_spread(each, word)}" for word, each in found.items())
    if not all(found.values()):
        return here, None
    least = float(bound) if _is_number(bound) else _OF[of](found.pop(bound))
    every = [*chain(*found.values())]
    passed = sum(_SIGNS[sign](each, least) for each in every)
    here += f"; {_BEYOND[sign]} {_named(bound)} in {passed} of {len(every)}"
    here += f" ({of})" * (of != "median")
    return here, _SIGNS[sign](_OF[of](every), least)


def _named(word: str) -> str:
    """``largest buffer against smallest``; ``best agent against mlp``; a number as it is."""
    if _is_number(word):
        return word
    words = re.sub(r"(\w+)\^", r"largest \1 against smallest", word.replace("best:", "best "))
    return re.sub("[/-]", " against ", words).replace("+", " and ")


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[\d.]+", text) is not None


def _filtered(rows: Rows, key: str, sign: str, text: str) -> list[Row]:
    known, bound = values(rows, key), float(text) if _is_number(text) else text
    bound = _OF[text](known) if text in _OF and known else bound
    return [row for row in pick(rows) if _SIGNS[sign](row.get(key), bound)]


def _term(rows: Rows, key: str, word: str) -> list[float]:
    if word.endswith("^"):
        setting, sizes = word[:-1], sorted({*values(rows, word[:-1])})
        ends = [pick(rows, **{setting: size}) for size in sizes]
        return compare(ends[-1], ends[0], key, setting) if len(ends) > 1 else []
    best, _, names = word.rpartition(":")
    first, sign, second = names.partition("/" if "/" in names else "-")
    ours, theirs = pick(rows, first), pick(rows, second)
    if not sign:
        return values(ours, key)
    if not best:
        return compare(ours, theirs, key, "mode" if first == "sync" else "variant", sign == "/")
    graphs = dict.fromkeys(values(ours, "graph"))
    both = [[values(pick(side, graph=graph), key) for side in (ours, theirs)] for graph in graphs]
    return [max(one) - max(other) for one, other in both if one and other]


def _spread(found: Sequence[float], word: str) -> str:
    """``median -4.2% (-9.3 to +1.0) over 8 cells``"""
    unit = "%" if set(word) & set("/^") else " points" if "-" in word else ""
    shown = [round(value, 1) + 0.0 for value in found]  # no negative nought
    if len(shown) < 2:
        return f"{shown[0]:{'+' if unit else ''}.1f}{unit} in 1 cell" if shown else "not measured"
    middle, low, high = (f"{of(shown):{'+' if unit else ''}.1f}" for of in (median, min, max))
    return f"median {middle}{unit} ({low} to {high}) over {len(shown)} cells"
