"""Run folders written by hand, as ``minidist.train --out`` leaves them."""

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REASONS = ("Hits fell: replace.", "Hits are steady; keep the buffer.", "<b>stale</b> & 'cheap'")
TRENDS = ("increase", "stagnant", "decrease")


@dataclass(frozen=True, kw_only=True)
class RunFolder:
    """What a test varies. decisions: whether someone decides.   config: flags beside these.

    finished: whether the run came to its summary.   steps: minibatches of an epoch.
    """

    prefetch: str = "rudder"
    ranks: int = 2
    epochs: int = 4
    steps: int = 10
    decisions: bool = True
    stated: bool = True
    finished: bool = True
    reasons: tuple[str, ...] = REASONS
    seed: int = 0
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        return {
            "dataset": "synthetic:tiny",
            "ranks": self.ranks,
            "epochs": self.epochs,
            "prefetch": self.prefetch,
            "decider": "llm" if self.decisions else None,
            "model": "sage",
            "fanout": [5, 5],
            "batch_size": 20,
            "resume": None,
            **self.config,
        }

    def write(self, folder: Path) -> Path:
        """Add the run to a folder, as a run does that uses it again."""
        folder.mkdir(parents=True, exist_ok=True)
        logs = [self._events(rank) for rank in range(self.ranks)]
        for rank, events in enumerate(logs):
            with (folder / f"events-rank{rank}.jsonl").open("a") as file:
                file.writelines(json.dumps({"time": 0.0, **event}) + "\n" for event in events)
        if self.finished:
            (folder / "summary.json").write_text(json.dumps(self._summary(logs)))
        return folder

    def _events(self, rank: int) -> list[dict[str, Any]]:
        draw = random.Random(100 * self.seed + rank)
        times = {"sample_s": 0.1, "fetch_s": 0.2, "wait_s": 0.05, "train_s": 0.6}
        events: list[dict[str, Any]] = [
            {"event": "started", "rank": rank, "config": self.settings},
        ]
        for number in range(self.epochs * self.steps):
            epoch, step = divmod(number, self.steps)
            hits = 0 if self.prefetch in ("none", "overlap") else min(40 + number, 70)
            remote = 100 + draw.randrange(20)
            rows = {"remote": remote, "hits": hits, "misses": remote - hits, "replacements": 1}
            at = {"epoch": epoch, "step": step}
            events.append({"event": "step", **at, "loss": 2.0 / (1 + number), "rows": rows})
            if self.decisions and number % 3 == 0:
                events += self._decision(number, draw)
            if step == self.steps - 1:
                long = 5.0 if epoch == 0 else 1.0
                whole = {name: long * value for name, value in times.items()}
                events.append(
                    {"event": "epoch", "epoch": epoch, "epoch_time_s": 0.7 * long, **whole}
                )
        scores = {"metric": "accuracy", "train": 0.97, "val": 0.95, "test": 0.9375}
        events.append({"event": "evaluated", "epoch": self.epochs - 1, "seconds": 1.0, **scores})
        return events + ([{"event": "finished"}] if self.finished else [])

    def _decision(self, number: int, draw: random.Random) -> list[dict[str, Any]]:
        expected, seen, replace = draw.choice(TRENDS), draw.choice(TRENDS), draw.random() < 0.5
        at = {"minibatch": number}
        answer = {"prompt": f"at {number}", "answer": "{}", "decision": "keep", "valid": True}
        return [
            {"event": "exchange", **at, **answer, "decided_ms": 40.0, "answered_ms": 90.0},
            {
                "event": "decision",
                **at,
                "applied": number + 1,
                "replace": replace,
                "valid": True,
                "reason": draw.choice(self.reasons),
                "expect_hits": expected if self.stated else None,
                "expect_moved": draw.choice(TRENDS) if self.stated else None,
                "hits_pct_before": 40.0,
                "hits_pct_after": 41.5,
                "hits": seen,
                "moved_before": 50,
                "moved_after": 60,
                "moved": draw.choice(TRENDS),
                "passed": seen
                == (expected if self.stated else ("increase" if replace else "stagnant")),
            },
        ]

    def _summary(self, logs: list[list[dict[str, Any]]]) -> dict[str, Any]:
        def events(name: str) -> list[dict[str, Any]]:
            return [event for log in logs for event in log if event["event"] == name]

        names = ("remote", "hits", "misses", "replacements")
        rows = {name: sum(step["rows"][name] for step in events("step")) for name in names}
        made = events("decision")
        return {
            "dataset": "synthetic:tiny",
            "num_nodes": 1000,
            "num_edges": 12000,
            "world_size": self.ranks,
            "transport": "local",
            "device": "cpu",
            "metric": "accuracy",
            "test_accuracy": 0.9375,
            "val_accuracy": 0.95,
            "best_epoch": self.epochs,
            "steps_per_epoch": self.steps,
            "epoch_time_s": 0.7,
            "train_s": 0.6,
            "wait_s": 0.05,
            "sample_s": 0.1,
            "rows": rows,
            "bytes_moved": 2**20,
            "losses_sha256": f"hash{self.seed}",
            "buffer": {"capacity": [30] * self.ranks, "halo_hits_pct": 55.5} if made else None,
            "decisions": _decisions(made) if made else None,
            "config": self.settings,
        }


def _decisions(made: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "decider": "llm",
        "count": len(made),
        "interval": 3.0,
        "valid_pct": 100.0,
        "pass_at_1": 100 * sum(decision["passed"] for decision in made) / len(made),
        "pass_at_1_ci": [20.0, 50.0],
        "replace_pct": 50.0,
        "latency_ms_p50": 40.0,
        "latency_ms_p95": 41.0,
        "failures": 0,
        "failure_reasons": {},
    }
