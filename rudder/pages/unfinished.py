"""The summary of a run that did not write one, from the events of its ranks."""

import itertools
import statistics
from collections import Counter
from typing import Any

from rudder.deciders.judge import Tally, decisions
from rudder.pages.numerals import is_number
from rudder.pages.runlog import RunLog
from rudder.presets import PLAIN, SELF_STEERED

_DECIDERS = {"fixed": "always", "rudder": "llm"}


def summary_so_far(logs: list[RunLog], config: dict[str, Any], per_epoch: int) -> dict[str, Any]:
    """What a summary would have said after the last minibatch that each rank wrote down."""
    moments = set.intersection(*(set(log.steps) for log in logs)) if logs else set()
    rows = {
        name: sum(getattr(log.steps[moment], name) for log in logs for moment in moments)
        for name in ("remote", "hits", "misses", "replacements")
    }
    return {
        "dataset": config.get("dataset") or config.get("parts") or "unknown",
        "world_size": config.get("ranks") or len(logs),
        "transport": config.get("transport", "unknown"),
        "steps_per_epoch": per_epoch,
        "rows": rows,
        "decisions": _decisions(logs, config),
        "losses": [logs[0].steps[moment].loss for moment in sorted(moments)],
        "config": config,
        **_times(logs),
        **_best(logs),
    }


def _times(logs: list[RunLog]) -> dict[str, float]:
    """Medians over the epochs after the first of the slowest rank's seconds, as in a summary."""
    epochs = sorted(set.intersection(*(set(log.epochs) for log in logs))) if logs else []
    if not epochs:
        return {}
    return {
        name: statistics.median(
            max(getattr(log.epochs[epoch], name) for log in logs) for epoch in epochs[1:] or epochs
        )
        for name in ("epoch_time_s", "sample_s", "fetch_s", "wait_s", "train_s")
    }


def _best(logs: list[RunLog]) -> dict[str, Any]:
    scores = list(logs[0].scores.values()) if logs else []
    if not scores:
        return {}
    best = max(
        reversed(scores), key=lambda score: score["val"] if is_number(score["val"]) else -1.0
    )
    shares = {f"{name}_accuracy": best[name] for name in ("train", "val", "test")}
    return {"metric": best["metric"], "best_epoch": best["epoch"] + 1, **shares}


def _decisions(logs: list[RunLog], config: dict[str, Any]) -> dict[str, Any] | None:
    kind = str(config.get("prefetch", "unknown")).partition(":")[0]
    if kind in (*PLAIN, *SELF_STEERED) or not any(log.decisions for log in logs):
        return None
    tally, failures = Tally(), Counter[str]()
    for log in logs:
        made = [log.decisions[number] for number in sorted(log.decisions)]
        applied = [decision.applied for decision in made]
        tally += Tally(
            count=len(made),
            valid=sum(decision.valid for decision in made),
            replace=sum(decision.replace for decision in made),
            judged=len(made),
            passed=sum(decision.passed for decision in made),
            gaps=[after - before for before, after in itertools.pairwise(applied)],
            decided_ms=[decided for decided, _ in log.latencies.values()],
            answered_ms=[answered for _, answered in log.latencies.values()],
        )
        failures.update(log.failures)
    name = config.get("decider") or _DECIDERS.get(kind, f"every:{config.get('interval')}")
    return decisions(str(name), tally, failures)
