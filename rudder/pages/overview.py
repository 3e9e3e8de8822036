"""Overview: what a run was and how it went, in a few big figures."""

import json
from collections.abc import Sequence

from rudder.pages.markup import Markup, tag
from rudder.pages.numerals import fixed, mebibytes, percent, plural, seconds, short
from rudder.pages.runs import Run


def overview(run: Run) -> Markup:
    """Facts, notes, tiles and settings of one run."""
    notes = [tag("p", note, class_="notice") for note in run.notes]
    failed = [(f"The decider failed: {text}") for text in run.failures[:3]]
    if len(run.failures) > len(failed):
        failed.append(f"and {plural(len(run.failures) - len(failed), 'more failure')}.")
    notes += [tag("p", text, class_="notice") for text in failed]
    tiles = [tile for tile in (_accuracy(run), *_time(run), *_rows(run), *_decisions(run)) if tile]
    return tag(
        "div",
        tag("p", " · ".join(_facts(run)), class_="facts"),
        *notes,
        tag("dl", *tiles, class_="tiles"),
    )


def settings(run: Run) -> Markup:
    """All flags of a run, folded."""
    lines = [
        tag("div", tag("dt", f"--{name.replace('_', '-')}"), tag("dd", _value(value)))
        for name, value in sorted(run.config.items())
    ]
    if not lines:
        return tag("p", "The run left no settings.", class_="empty")
    title = f"All {len(lines)} settings of this run"
    return tag("details", tag("summary", title), tag("dl", *lines, class_="settings"))


def _value(value: object) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else json.dumps(value)


def _facts(run: Run) -> list[str]:
    summary, config = run.summary, run.config
    facts = [str(summary.get("dataset", "unknown dataset"))]
    if "num_nodes" in summary:
        facts.append(f"{summary['num_nodes']:,} nodes, {summary['num_edges']:,} edges")
    where = ", ".join(str(summary[key]) for key in ("transport", "device") if key in summary)
    facts.append(f"{plural(summary.get('world_size', 1), 'rank')} ({where})")
    if "epochs" in config:
        steps = plural(summary.get("steps_per_epoch", 0), "minibatch").replace("batchs", "batches")
        facts.append(f"{plural(config['epochs'], 'epoch')} of {steps}")
    if "model" in config:
        fanout = ",".join(map(str, config.get("fanout") or []))
        facts.append(f"{config['model']}, fanout {fanout}, batch {config.get('batch_size')}")
    capacity = (summary.get("buffer") or {}).get("capacity") or []
    if any(capacity):
        facts.append(f"buffer of {max(capacity):,} rows a rank")
    return facts


def _tile(name: str, value: str, detail: str) -> Markup:
    return tag(
        "div", tag("dt", name), tag("dd", value, class_="figure"), tag("dd", detail, class_="more")
    )


def _accuracy(run: Run) -> Markup | None:
    test, val = run.figure("test_accuracy"), run.figure("val_accuracy")
    if test is None:
        # Without test nodes, or before the first evaluation.
        return None if val is None else _tile("Validation", percent(100 * val), "no test score")
    metric = str(run.summary.get("metric", "accuracy")).replace("_", "-")
    epoch = run.figure("best_epoch")
    after = "" if epoch is None else f", after epoch {int(epoch)}"
    shown = "" if val is None else f"validation {percent(100 * val)}"
    return _tile(f"Test {metric}", percent(100 * test), f"{shown}{after}")


def _time(run: Run) -> Sequence[Markup]:
    epoch, wait = run.figure("epoch_time_s"), run.figure("wait_s")
    if epoch is None:
        return ()
    waits = f"{seconds(wait)} of it waiting for data" if wait is not None else ""
    return (_tile("Epoch time", seconds(epoch), f"{waits}; slowest rank, median epoch"),)


def _rows(run: Run) -> Sequence[Markup]:
    tiles, rows = [], run.rows
    if run.has_buffer and run.hits_pct is not None:
        halo = (run.summary.get("buffer") or {}).get("halo_hits_pct")
        detail = f"of the halo alone {percent(halo)}" if halo is not None else "of remote rows"
        tiles.append(_tile("%-Hits", percent(run.hits_pct), detail))
    if run.moved_pct is not None:
        less, size = 100 - run.moved_pct, run.figure("bytes_moved")
        word = "fewer" if less >= 0 else "more"
        change = f"{abs(less):.1f}% {word} than the {short(rows['remote'])} without a buffer"
        detail = change if run.has_buffer else "every remote row that was needed"
        bytes_ = f"; {mebibytes(size)}" if size else ""
        tiles.append(_tile("Rows moved", short(run.moved), detail + bytes_))
    return tiles


def _decisions(run: Run) -> Sequence[Markup]:
    asked = run.summary.get("decisions")
    if not asked:
        return ()
    low, high = asked.get("pass_at_1_ci") or (None, None)
    sure = f"95% interval {fixed(low)} to {fixed(high)}%" if low is not None else "none judged yet"
    replaced = f"{percent(asked['replace_pct'])} replace, {percent(asked['valid_pct'])} valid"
    half, most = run.decided("latency_ms_p50"), run.decided("latency_ms_p95")
    tiles = [
        _tile("Pass@1", percent(asked["pass_at_1"]), sure),
        _tile("Decisions", f"{asked['count']:,}", f"by {asked['decider']}: {replaced}"),
        _tile("Interval r", fixed(run.decided("interval")), "minibatches between decisions"),
    ]
    if half is not None:
        slow = f"median; 95% within {seconds(None if most is None else most / 1e3)}"
        tiles.append(_tile("Latency", seconds(half / 1e3), slow))
    if asked.get("failures"):
        reasons = "; ".join(f"{text} ({count})" for text, count in asked["failure_reasons"].items())
        tiles.append(_tile("Failures", f"{asked['failures']:,}", reasons))
    return tiles
