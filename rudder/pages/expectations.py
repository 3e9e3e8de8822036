"""Expectations: what decisions expected against what happened, three directions each."""

from collections import Counter

from rudder.observations import Trend
from rudder.pages.card import card
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, percent, plural
from rudder.pages.runlog import Decided
from rudder.pages.runs import Run

HITS, MOVED = "Expected and seen: %-Hits", "Expected and seen: rows moved"
TRENDS = (Trend.INCREASE, Trend.STAGNANT, Trend.DECREASE)
SIGNS = {Trend.INCREASE: "↑", Trend.STAGNANT: "→", Trend.DECREASE: "↓"}
Pairs = Counter[tuple[str, str]]


def implied(made: Decided) -> str:
    """The direction of %-Hits that a decision stated, or what it implies where it stated none."""
    return made.expect_hits or (Trend.INCREASE if made.replace else Trend.STAGNANT)


def trend(name: str) -> str:
    """``↑ increase``, not to be broken."""
    return f"{SIGNS[Trend(name)]}\u00a0{name}" if name in TRENDS else name


def expectations(run: Run) -> list[Markup]:
    """A matrix for %-Hits, which is what Pass@1 counts; one for rows moved where that is stated.

    The run must have decisions.
    """
    stated = sum(made.expect_hits is not None for made in run.decisions)
    note = "Stagnant is within 1 point."
    if stated < len(run.decisions):
        note += (
            f" {plural(len(run.decisions) - stated, 'decision')} stated no expectation and "
            "stand here with what they imply: replace, an increase; keep, stagnant."
        )
    told = [made for made in run.decisions if made.expect_moved is not None]
    if not told:
        note += " About the rows moved nothing was expected."
    pairs = Counter((implied(made), made.hits) for made in run.decisions)
    hits = card(HITS, _takeaway(pairs), _matrix(pairs, "%-Hits"), note=note)
    if not told:
        return [hits]
    pairs = Counter((str(made.expect_moved), made.moved) for made in told)
    note = "Stagnant is within 1% of the rows moved before."
    moved = card(MOVED, _takeaway(pairs), _matrix(pairs, "rows moved"), note=note)
    return [hits, moved]


def _takeaway(pairs: Pairs) -> str:
    total = sum(pairs.values())
    right = sum(pairs[name, name] for name in TRENDS)
    often, seen = Counter[str](), Counter[str]()
    for (expected, happened), count in pairs.items():
        often[expected] += count
        seen[happened] += count
    (most, times), (usual, cases) = often.most_common(1)[0], seen.most_common(1)[0]
    return (
        f"{percent(100 * right / total)} of {plural(total, 'expectation')} came true. Expected "
        f"most: {trend(most)} ({percent(100 * times / total, 0)}); seen most: {trend(usual)} "
        f"({percent(100 * cases / total, 0)})."
    )


def _matrix(pairs: Pairs, what: str) -> Markup:
    total = sum(pairs.values())
    header = tag("tr", tag("td"), *(tag("th", trend(name), scope="col") for name in TRENDS))
    above = tag("tr", tag("td"), tag("th", f"{what} then", colspan=3, scope="colgroup"))
    rows = []
    for expected in TRENDS:
        cells = [_cell(pairs[expected, seen], total, expected == seen) for seen in TRENDS]
        rows.append(tag("tr", tag("th", f"expected {trend(expected)}", scope="row"), *cells))
    caption = tag("caption", f"Expected direction of {what} by what happened", class_="hidden")
    body = tag("thead", above, header), tag("tbody", *rows)
    return tag("table", caption, *body, class_="matrix")


def _cell(count: int, total: int, right: bool) -> Markup:
    share = count / total
    mark = tag("small", f"{fixed(100 * share)}%" + (" ✓" if right else ""))
    return tag(
        *("td", f"{count:,}", mark),
        class_="right" if right else "wrong",
        style=f"--share:{share:.3f}",
    )
