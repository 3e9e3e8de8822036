"""Measured: training runs that a model is made from and checked against, kept from call to call.

T minibatches of a rank, P ranks.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lab.hosts import bits_per_second, hosts
from benchmarks.model.costs import Amounts
from benchmarks.runs import train
from rudder.cli.flags import require
from rudder.cli.whole_file import write_json

STAGES = ("sample_s", "fetch_s", "train_s")


@dataclass(frozen=True)
class Place:
    """Where a run is: ``4@200mbit``, 4 hosts with links of that rate, or ``4``, ranks of one."""

    ranks: int
    rate: str | None

    @classmethod
    def read(cls, text: str, name: str) -> "Place":
        """Raises ValueError, naming the flag."""
        ranks, _, rate = text.partition("@")
        require(
            ranks.isdigit() and int(ranks) >= 2,
            *(name, text, "ranks, or hosts and the rate of their links: 4 or 4@200mbit"),
        )
        if rate:
            bits_per_second(rate)
        return cls(int(ranks), rate or None)

    def __str__(self) -> str:
        return f"{self.ranks}@{self.rate}" if self.rate else f"{self.ranks}"

    @property
    def link(self) -> float | None:
        """Bytes a second."""
        bits = bits_per_second(self.rate) if self.rate else None
        return None if bits is None else bits / 8


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """One run. summary: its own.

    times: float64 [P, T] by the names of ``STAGES``, seconds; empty unless they were asked for.
    """

    place: Place
    summary: dict[str, Any]
    times: dict[str, Amounts]

    @property
    def epoch_s(self) -> float:
        return float(self.summary["epoch_time_s"])


def measure(
    parts: Path, flags: Mapping[str, object], place: Place, folder: Path, *, logged: bool = False
) -> Measured:
    """Train there, or read what an earlier call with these flags left in the folder.

    logged: with the times of each step, from event logs; checkpoints are written then too.
    Raises ValueError where training fails, ``HostsError`` where there can be no hosts.
    """
    key = json.dumps({"parts": parts.name, "place": str(place), **flags}, sort_keys=True)
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if file.exists():
        kept = json.loads(file.read_text())
        times = {name: np.array(listed) for name, listed in kept["times"].items()}
        if times or not logged:
            return Measured(place=place, summary=kept["summary"], times=times)
    with tempfile.TemporaryDirectory(prefix="minidist-model-") as out:
        every = {**flags, "out": out} if logged else flags
        if place.rate is None:
            summary = train(parts, every)
        else:
            with hosts(place.ranks, place.rate) as up:
                summary = train(parts, every, up.mpiexec)
        times = _times(Path(out), place.ranks) if logged else {}
    folder.mkdir(parents=True, exist_ok=True)
    lists = {name: values.tolist() for name, values in times.items()}
    write_json(file, {"run": key, "summary": summary, "times": lists})
    return Measured(place=place, summary=summary, times=times)


def _times(out: Path, ranks: int) -> dict[str, Amounts]:
    """Of each stage, rank and step, from the event logs."""
    steps: list[list[dict[str, Any]]] = []
    for rank in range(ranks):
        lines = (out / f"events-rank{rank}.jsonl").read_text().splitlines()
        steps.append([event for event in map(json.loads, lines) if event["event"] == "step"])
    return {
        name: np.array([[event[name] for event in events] for events in steps]) for name in STAGES
    }
