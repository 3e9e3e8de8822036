"""Comparison: several runs side by side."""

from collections.abc import Callable, Sequence

from rudder.pages.bars import Bar, bar_chart
from rudder.pages.card import card, empty, table
from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, percent, plural, seconds, short
from rudder.pages.runs import Run

_COLUMNS: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("epoch time", lambda run: seconds(run.figure("epoch_time_s"))),
    ("waiting", lambda run: seconds(run.figure("wait_s"))),
    ("rows moved", lambda run: short(run.moved)),
    ("% of no buffer", lambda run: percent(run.moved_pct)),
    ("%-Hits", lambda run: percent(run.hits_pct) if run.has_buffer else "no buffer"),
    ("Pass@1", lambda run: percent(run.decided("pass_at_1"))),
    ("r", lambda run: fixed(run.decided("interval"))),
    ("replace", lambda run: percent(run.decided("replace_pct"), 0)),
    ("accuracy", lambda run: percent(_accuracy(run))),
)


def comparison(runs: Sequence[Run]) -> list[Markup]:
    """A table of all runs and a chart for each figure."""
    datasets = {str(run.summary.get("dataset")) for run in runs}
    header = ["run", "prefetch", *(name for name, _ in _COLUMNS)]
    if len(datasets) > 1:
        header.insert(2, "dataset")
    rows = []
    for run in runs:
        state = "" if run.finished else " (not finished)"
        cells = [tag("th", tag("a", run.name, href=f"#{anchor(runs, run)}"), state, scope="row")]
        cells.append(tag("td", run.label))
        if len(datasets) > 1:
            cells.append(tag("td", str(run.summary.get("dataset"))))
        cells += [tag("td", show(run), class_="number") for _, show in _COLUMNS]
        rows.append(tag("tr", *cells))
    caption = f"{plural(len(runs), 'run')} side by side"
    overview = card(
        "All runs", _same_losses(runs), table(caption, header, rows, "compare"), wide=True
    )
    return [overview, _times(runs), _moved(runs), _hits(runs), _passed(runs)]


def anchor(runs: Sequence[Run], run: Run) -> str:
    """Where on the page a run is."""
    return f"run-{[*runs].index(run) + 1}"


def _accuracy(run: Run) -> float | None:
    share = run.figure("test_accuracy")
    return None if share is None else 100 * share


def _same_losses(runs: Sequence[Run]) -> str:
    hashes = [run.summary.get("losses_sha256") for run in runs]
    if None in hashes:
        return ""
    if len(set(hashes)) == 1:
        return (
            "All runs have the same losses, bit for bit: prefetching moved time and traffic, "
            "not learning."
        )
    same = len(runs) - len(set(hashes)) + 1
    return f"The losses differ between runs: {len(set(hashes))} different courses of training" + (
        f" in {len(runs)} runs." if same > 1 else "."
    )


def _chart(
    title: str, bars: Sequence[Bar], most: float, takeaway: str, key: Sequence[tuple[str, str]]
) -> Markup:
    if not bars:
        return empty(title, "None of these runs has this figure.")
    entries = [tag("li", tag("i", class_=f"block {colour}"), name) for colour, name in key]
    shown = [tag("ul", *entries, class_="legend")] if entries else []
    return card(title, takeaway, *shown, bar_chart(bars, most, label=f"{title}: {takeaway}"))


def _named(run: Run) -> str:
    return run.name if run.name == run.label else f"{run.name}: {run.label}"


def _least(bars: Sequence[tuple[Run, float]], show: Callable[[float], str], what: str) -> str:
    if not bars:
        return ""
    run, value = min(bars, key=lambda bar: bar[1])
    return f"{run.name} {what}, {show(value)}."


def _times(runs: Sequence[Run]) -> Markup:
    known = [(run, run.figure("epoch_time_s") or 0.0) for run in runs]
    known = [(run, value) for run, value in known if value]
    bars = []
    for run, whole in known:
        train, wait = run.figure("train_s") or 0.0, run.figure("wait_s") or 0.0
        # Medians of each: they need not add up to the epoch's.
        train = min(train, whole)
        wait = min(wait, whole - train)
        tip = f"{_named(run)}\nepoch {seconds(whole)}\ntrain {seconds(train)}\nwait {seconds(wait)}"
        parts = [("blue", train), ("orange", wait), ("grey", whole - train - wait)]
        bars.append(Bar(label=_named(run), parts=parts, shown=seconds(whole), tip=tip))
    key = (("blue", "train"), ("orange", "wait for data"), ("grey", "the rest"))
    most = max((value for _, value in known), default=1.0)
    takeaway = _least(known, seconds, "has the shortest epochs")
    return _chart("Epoch time", bars, most, takeaway, key)


def _moved(runs: Sequence[Run]) -> Markup:
    known = [(run, run.moved_pct) for run in runs if run.moved_pct is not None]
    shares = [(run, value) for run, value in known if value is not None]
    bars = []
    for run, share in shares:
        counts = run.rows
        parts = [
            ("orange", 100 * counts["misses"] / counts["remote"]),
            ("purple", 100 * counts["replacements"] / counts["remote"]),
        ]
        tip = (
            f"{_named(run)}\n{counts['misses']:,} misses\n{counts['replacements']:,} replacements\n"
            f"of {counts['remote']:,} rows needed"
        )
        bars.append(Bar(label=_named(run), parts=parts, shown=percent(share), tip=tip))
    most = max([100.0, *(share for _, share in shares)])
    takeaway = _least(shares, percent, "moved the smallest share of the rows needed")
    key = (("orange", "misses"), ("purple", "replacements"))
    return _chart("Rows moved, % of no buffer", bars, most, takeaway, key)


def _hits(runs: Sequence[Run]) -> Markup:
    known = [(run, run.hits_pct) for run in runs if run.has_buffer]
    shares = [(run, value) for run, value in known if value is not None]
    bars = [
        Bar(
            label=_named(run),
            parts=[("blue", share)],
            shown=percent(share),
            tip=f"{_named(run)}\n%-Hits {percent(share)}",
        )
        for run, share in shares
    ]
    best = max(shares, key=lambda bar: bar[1], default=None)
    takeaway = f"{best[0].name} hit most, {percent(best[1])}." if best else ""
    return _chart("%-Hits", bars, 100.0, takeaway, ())


def _passed(runs: Sequence[Run]) -> Markup:
    bars = []
    for run in runs:
        share, asked = run.decided("pass_at_1"), run.summary.get("decisions") or {}
        if share is None:
            continue
        low, high = asked.get("pass_at_1_ci") or (share, share)
        sure = f"{percent(share)} ({fixed(low)} to {fixed(high)})"
        tip = f"{_named(run)}\nPass@1 {sure}\n{plural(asked['count'], 'decision')}"
        bars.append(
            Bar(
                label=_named(run),
                parts=[("green", share)],
                shown=sure,
                tip=tip,
                interval=(low, high),
            )
        )
    return _chart("Pass@1", bars, 100.0, "Whiskers are 95% confidence intervals.", ())
