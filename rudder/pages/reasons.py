"""Reasons: the decisions one by one, why they were taken, and what came of them."""

from collections import Counter

from rudder.pages.card import card, empty, table
from rudder.pages.expectations import implied, trend
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, percent, plural, seconds
from rudder.pages.runlog import Decided
from rudder.pages.runs import Run

TITLE, WHY = "Decisions", "Reasons given"
_FIRST, _LAST, _MOST_REASONS = 15, 25, 8


def no_decisions(run: Run) -> Markup:
    """In place of all that is about decisions, where a run has none."""
    return empty(TITLE, _why_none(run), wide=True)


def _why_none(run: Run) -> str:
    """Why a run has none."""
    if run.kind == "unknown":
        return "The run left no settings, and no rank wrote down a decision."
    if not run.has_buffer:
        return f"Nobody was asked: --prefetch {run.prefetch} has no buffer to decide on."
    if run.steers_itself:
        return f"Nobody was asked: the contents of --prefetch {run.prefetch} follow by themselves."
    return "No decision was carried out and seen through to its effect."


def reasons(run: Run, wide: bool) -> Markup:
    """The most frequent reasons, and the last exchange with the agent."""
    given = Counter(made.reason.strip() for made in run.decisions)
    silent = given.pop("", 0)
    body = [] if run.exchange is None else [_exchange(run)]
    if not given:
        why = f"The decider ({run.decider}) gives no reasons."
        return card(WHY, "", tag("p", why, class_="empty"), *body, wide=wide)
    total = sum(given.values())
    items = []
    for text, count in given.most_common(_MOST_REASONS):
        passed = sum(made.passed for made in run.decisions if made.reason.strip() == text)
        detail = f"{plural(count, 'time')}, {percent(100 * passed / count, 0)} came true"
        items.append(tag("li", tag("q", text), " ", tag("small", detail)))
    left = len(given) - len(items)
    notes = []
    if left > 0:
        notes.append(f"{plural(left, 'more reason')} not shown.")
    if silent:
        notes.append(f"{plural(silent, 'decision')} came without a reason.")
    takeaway = f"{plural(len(given), 'different reason')} in {plural(total, 'decision')}."
    listed = tag("ol", *items, class_="reasons")
    return card(WHY, takeaway, listed, *body, note=" ".join(notes), wide=wide)


def _exchange(run: Run) -> Markup:
    last = run.exchange
    assert last is not None
    title = f"The last question to the agent (minibatch {last.minibatch:,}, rank {last.rank})"
    latency = (
        f"Decided after {seconds(last.decided_ms / 1e3)}, answered after "
        f"{seconds(last.answered_ms / 1e3)}."
    )
    parts = [tag("h4", "It read"), tag("pre", last.prompt)]
    if last.thought:
        parts += [tag("h4", "It thought"), tag("pre", last.thought)]
    parts += [tag("h4", "It answered"), tag("pre", last.answer), tag("p", latency, class_="note")]
    return tag("details", tag("summary", title), *parts)


def decisions(run: Run) -> Markup:
    """The table: the first ones and the last ones."""
    made = run.decisions
    num_ranks = len({decision.rank for decision in made})
    told = any(decision.reason.strip() for decision in made)
    header = [
        "minibatch",
        "decision",
        "%-Hits expected",
        "%-Hits seen",
        "rows moved",
        "expectation",
    ]
    if told:
        header.insert(2, "reason")
    if num_ranks > 1:
        header.insert(1, "rank")
    keep = _FIRST + _LAST + 5
    shown = made if len(made) <= keep else made[:_FIRST] + made[-_LAST:]
    rows = [_row(decision, header) for decision in shown]
    left = len(made) - len(shown)
    if left:
        text = f"{plural(left, 'decision')} in between not shown"
        rows.insert(_FIRST, tag("tr", tag("td", text, colspan=len(header)), class_="skipped"))
    replaced, passed = (
        sum(getattr(decision, name) for decision in made) for name in ("replace", "passed")
    )
    takeaway = (
        f"{plural(len(made), 'decision')} seen through to the effect: {replaced:,} replace, "
        f"{len(made) - replaced:,} keep; {passed:,} as expected."
    )
    note = (
        "Seen: from the minibatch a decision was taken on to the first one served by the buffer as "
        "the decision left it."
    )
    caption = f"Decisions of {plural(num_ranks, 'rank')}"
    return card(TITLE, takeaway, table(caption, header, rows, "listing"), note=note, wide=True)


def _row(made: Decided, header: list[str]) -> Markup:
    word = "replace" if made.replace else "keep"
    stated = trend(implied(made)) + ("" if made.expect_hits else " (implied)")
    change = f"{fixed(made.hits_pct_before)} → {fixed(made.hits_pct_after)}%"
    badge = tag("span", word, class_=f"badge {word}")
    invalid = tag("span", "invalid answer", class_="badge invalid")
    cells: dict[str, tuple[str, ...]] = {
        "minibatch": (f"{made.minibatch:,}",),
        "rank": (str(made.rank),),
        "decision": (badge,) if made.valid else (badge, " ", invalid),
        "reason": (made.reason.strip() or "none",),
        "%-Hits expected": (stated,),
        "%-Hits seen": (f"{change} ", tag("small", trend(made.hits))),
        "rows moved": (f"{made.moved_before:,} → {made.moved_after:,}",),
        "expectation": (
            tag("span", "✓ came true" if made.passed else "✗ did not", class_=_colour(made)),
        ),
    }
    return tag(
        "tr",
        *(
            tag("td", tag("div", *cells[name]), data_name=name, class_=_kind(name))
            for name in header
        ),
    )


def _colour(made: Decided) -> str:
    return "yes" if made.passed else "no"


def _kind(name: str) -> str | None:
    if name in ("minibatch", "rank"):
        return "number"
    return {"reason": "text", "%-Hits seen": "seen", "rows moved": "moved"}.get(name)
