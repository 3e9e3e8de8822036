"""Run folders written by hand, as ``minidist.train --out`` leaves them."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REASONS = ("Hits fell: replace.", "Hits are steady; keep the buffer.", "<b>stale</b> & 'cheap'")
TRENDS = ("increase", "stagnant", "decrease")
SCORES = {"train": 0.97, "val": 0.95, "test": 0.9375}
TIMES = {"epoch_time_s": 0.7, "sample_s": 0.1, "fetch_s": 0.2, "wait_s": 0.05, "train_s": 0.6}
# What does not differ between runs, as JSON.
CONFIG = '{"dataset": "synthetic:tiny", "model": "sage", "fanout": [5, 5], "batch_size": 20}'
EXCHANGE = """{"event": "exchange", "prompt": "What now?", "answer": "{}", "decided_ms": 40.0,
    "answered_ms": 90.0}"""
DECISION = """{"event": "decision", "valid": true, "hits_pct_before": 40.0, "hits_pct_after": 41.5,
    "moved_before": 50, "moved_after": 60}"""
DECIDED = """{"decider": "llm", "interval": 3.0, "valid_pct": 100.0, "pass_at_1_ci": [20.0, 50.0],
    "replace_pct": 50.0, "latency_ms_p50": 40.0, "latency_ms_p95": 41.0, "failures": 0}"""
SUMMARY = """{"dataset": "synthetic:tiny", "num_nodes": 1000, "num_edges": 12000, "device": "cpu",
    "transport": "local", "metric": "accuracy", "bytes_moved": 1048576, "losses_sha256": "0"}"""
Events = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What a test varies. shape: ranks, epochs, minibatches of an epoch.   stated: expectations."""

    prefetch: str = "rudder"
    shape: tuple[int, int, int] = (2, 4, 10)
    decisions: bool = True
    stated: bool = True
    finished: bool = True
    reasons: tuple[str, ...] = REASONS
    scores: dict[str, float | None] = field(default_factory=lambda: {**SCORES})
    config: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Add the run to a folder, as a run does that uses it again."""
        folder.mkdir(parents=True, exist_ok=True)
        known = {"ranks": self.shape[0], "epochs": self.shape[1], "prefetch": self.prefetch}
        config = {**json.loads(CONFIG), **known, "resume": None, **self.config}
        everything = Events()
        for rank in range(self.shape[0]):
            events = [{"event": "started", "config": config}, *self._events(rank)]
            with (folder / f"events-rank{rank}.jsonl").open("a") as file:
                file.writelines(json.dumps(event) + "\n" for event in events)
            everything += events
        if self.finished:
            summary = {**self._summary(everything), "config": config}
            (folder / "summary.json").write_text(json.dumps(summary))
        return folder

    def _events(self, rank: int) -> Events:
        _, epochs, steps = self.shape
        events, draw = Events(), random.Random(rank)
        for number in range(epochs * steps):
            at = {"epoch": number // steps, "step": number % steps, "loss": 2.0 / (1 + number)}
            hits = 0 if self.prefetch == "none" else min(40 + number, 70)
            rows = {"remote": 100 + rank, "hits": hits, "replacements": 1}
            rows["misses"] = rows["remote"] - hits
            events.append({"event": "step", **at, "rows": rows})
            if self.decisions and number % 3 == 0:
                events += self._decision(number, draw)
            if at["step"] == steps - 1:
                times = {name: value * (1 if at["epoch"] else 5) for name, value in TIMES.items()}
                events.append({"event": "epoch", **at, **times})
        scores = {"epoch": epochs - 1, "metric": "accuracy", **self.scores}
        events.append({"event": "evaluated", **scores})
        return events + ([{"event": "finished"}] if self.finished else [])

    def _decision(self, number: int, draw: random.Random) -> Events:
        trends = ("hits", "moved", "expect_hits", "expect_moved")
        made = json.loads(DECISION) | {"minibatch": number, "applied": number + 1}
        made |= {name: draw.choice(TRENDS) for name in trends}
        made |= {"replace": draw.random() < 0.5, "reason": draw.choice(self.reasons)}
        if not self.stated:
            made |= {"expect_hits": None, "expect_moved": None}
        implied = "increase" if made["replace"] else "stagnant"
        made["passed"] = made["hits"] == (made["expect_hits"] or implied)
        return [json.loads(EXCHANGE) | {"minibatch": number}, made]

    def _summary(self, events: Events) -> dict[str, Any]:
        made = [event["passed"] for event in events if event["event"] == "decision"]
        steps = [event["rows"] for event in events if event["event"] == "step"]
        ranks, epochs, per_epoch = self.shape
        told: dict[str, Any] = {**json.loads(SUMMARY), **TIMES, "steps_per_epoch": per_epoch}
        told |= {f"{split}_accuracy": value for split, value in self.scores.items()}
        rows = {name: sum(step[name] for step in steps) for name in steps[0]}
        told |= {"world_size": ranks, "best_epoch": epochs, "rows": rows}
        if made:
            told["buffer"] = {"capacity": [30] * ranks, "halo_hits_pct": 55.5}
            told["decisions"] = {**json.loads(DECIDED), "count": len(made)}
            told["decisions"]["pass_at_1"] = 100 * sum(made) / len(made)
        return told | self.summary
